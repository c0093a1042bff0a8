"""The report: one page, self-contained and without scripts, with a panel for each spectrum.

Its plots are SVG made by hand, a few kilobytes each, so that a thousand panels open at once. All share the axis of
wavelengths; the band of a class is drawn once and only stretched to each panel's axis of reflectance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.analogues import Archive, full_name
from astrd.answers import Provenance, write_whole
from astrd.colours import GROUP_COLOURS, GROUP_COLOURS_ON_DARK
from astrd.explanation import measures_in_words
from astrd.partial import TRUSTED_EXTRAPOLATION
from astrd.smoothing import WAVELENGTH
from astrd.spectrum import Spectrum, channels_outside
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF, MAIN_GROUPS

Array = NDArray[np.float64]

SUFFIXES: Final = (".html", ".htm")
TEMPLATE: Final = "report.html.jinja"

_FIRST, _LAST = 0.42, 0.94  # µm: the axis of all plots
_LEFT, _RIGHT, _TOP, _BOTTOM = 100, 990, 14, 450  # of the axes, in the units of a plot
_SCALE: Final = 1000  # bands are drawn once, in whole thousandths of reflectance
_MOST_POINTS: Final = 400
_LEAST_SHOWN: Final = 0.005  # probability of classes that are listed


@dataclass(frozen=True)
class Plot:
    """One spectrum over its class: paths in SVG's language, ticks, and how bands are put on the axes."""

    points: str
    errors: str
    seen: str
    filled: str
    x_ticks: Sequence[tuple[int, str]]
    y_ticks: Sequence[tuple[int, str]]
    bands: str
    drawn: str


@dataclass(frozen=True)
class Bar:
    """A class or group with its probability, whether the prediction set holds it, and its share of the draws."""

    name: str
    group: str
    probability: float
    inside: bool
    draw_share: float | None


@dataclass(frozen=True)
class Panel:
    """What the page says of one spectrum; `answer` is its row."""

    answer: Any
    group: str
    second: str | None
    plot: Plot
    groups: Sequence[Bar]
    classes: Sequence[Bar]
    unlisted: float
    verdict: str
    analogues: Sequence[tuple[str, str, str, float]]
    measures: Sequence[str]
    notes: Sequence[str]


def write(
    path: Path,
    spectra: Sequence[Spectrum],
    answers: pd.DataFrame,
    archive: Archive,
    source: Provenance,
    coverage: float,
    draws: int,
) -> None:
    """Write the report of explained answers, whole or not at all.

    Parameters
    ----------
    spectra, answers
        What was asked, and what `Classifier.classify` answered with `explain`.
    archive
        That of the classifier: it has the bands of the classes.
    coverage, draws
        With which it was asked.
    """
    page = page_of(spectra, answers, archive, source, coverage, draws)
    write_whole(path, lambda partial: partial.write_text(page, encoding="utf-8", errors="replace"))


def page_of(
    spectra: Sequence[Spectrum],
    answers: pd.DataFrame,
    archive: Archive,
    source: Provenance,
    coverage: float,
    draws: int,
) -> str:
    """The page of `write` as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    panels = [
        _panel(spectrum, row, archive, draws)
        for spectrum, row in zip(spectra, answers.itertuples(index=False), strict=True)
    ]
    shown = sorted({name for panel in panels for name in (panel.answer.bus_class, panel.second) if name})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names and notes come from files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        panels=panels,
        source=source,
        coverage=coverage,
        draws=draws,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        package=version("astrd-spctra"),
        counts=[(group, Counter(panel.group for panel in panels)[group]) for group in MAIN_GROUPS],
        outliers=sum(bool(panel.answer.is_outlier) for panel in panels),
        bands={name: _band(archive, name) for name in shown},
        sizes={name: archive.class_size(name) for name in shown},
        group_of=MAIN_GROUP_OF,
        colours=GROUP_COLOURS,
        colours_on_dark=GROUP_COLOURS_ON_DARK,
        box=(_LEFT, _TOP, _RIGHT - _LEFT, _BOTTOM - _TOP),
    )


def _panel(spectrum: Spectrum, row: Any, archive: Archive, draws: int) -> Panel:
    second = next((name for name in row.bus_prediction_set if name != row.bus_class), None)
    inside = set(row.bus_prediction_set)
    classes = [_bar(row, name, name, MAIN_GROUP_OF[name], name in inside, draws) for name in BUS_CLASSES]
    ordered = sorted(classes, key=lambda bar: -bar.probability)
    listed = [bar for bar in ordered if bar.probability >= _LEAST_SHOWN or bar.inside or (bar.draw_share or 0) > 0]
    analogues = zip(
        map(full_name, row.analogue_designation, row.analogue_name),
        row.analogue_bus_class,
        map(MAIN_GROUP_OF.__getitem__, row.analogue_bus_class),
        row.analogue_distance,
        strict=True,
    )
    return Panel(
        answer=row,
        group=row.main_group,
        second=second,
        plot=_plot(spectrum, row, archive, second),
        groups=[_bar(row, f"group_{group}", group, group, False, draws) for group in MAIN_GROUPS],
        classes=listed,
        unlisted=1 - sum(bar.probability for bar in listed),
        verdict=_verdict(row),
        analogues=list(analogues),
        measures=list(measures_in_words(row).values()),
        notes=[note for note in row.note.split("; ") if note],
    )


def _bar(row: Any, column: str, name: str, group: str, inside: bool, draws: int) -> Bar:
    share = getattr(row, f"draw_share_{column}") if draws else None
    return Bar(name, group, getattr(row, f"probability_{column}"), inside, share)


def _verdict(row: Any) -> str:
    if not row.is_outlier:
        return f"No outlier: the archive holds spectra like it (score {row.outlier_score:.2f}; above 1 is one)."
    if row.outlier_score > 1:
        return (
            f"Outlier: unlike the archive's spectra (score {row.outlier_score:.2f}; above 1 lie 5% of real ones). "
            "Its class may be none of these."
        )
    return "Outlier: it resembles class Q, of which the archive has no spectrum. It may be one, whatever stands here."


# From spectra to paths


def _plot(spectrum: Spectrum, row: Any, archive: Archive, second: str | None) -> Plot:
    smoothed = np.array(row.smoothed_reflectance)
    bands = [edge for name in (row.bus_class, second) if name for edge in _edges(archive, name) if edge is not None]
    level = _level(spectrum, smoothed)
    reflectance, uncertainty = spectrum.reflectance / level, spectrum.uncertainty / level
    low, high = _limits(np.concatenate([smoothed, *bands]), reflectance)
    inside = (spectrum.wavelength >= _FIRST) & (spectrum.wavelength <= _LAST)
    inside &= (reflectance >= low) & (reflectance <= high)
    outside = len(inside) - int(inside.sum())
    every = -(-int(inside.sum()) // _MOST_POINTS)
    w, r, u = (values[inside][::every] for values in (spectrum.wavelength, reflectance, uncertainty))
    x, y, top, bottom = _across(w), *(_up(values, low, high) for values in (r, r + u, r - u))
    missing = channels_outside([spectrum], TRUSTED_EXTRAPOLATION)[0]
    channels = list(zip(_across(WAVELENGTH), _up(smoothed, low, high), strict=True))
    per_unit = (_BOTTOM - _TOP) / (high - low)
    drawn = [f"1 of {every} points drawn"] * (every > 1) + [f"{outside} points beyond the axes"] * (outside > 0)
    return Plot(
        points="".join(f"M{a} {b}h0" for a, b in zip(x, y, strict=True)),
        errors="".join(f"M{a} {b}V{c}" for a, b, c in zip(x, top, bottom, strict=True)),
        seen=_line([point for point, gone in zip(channels, missing, strict=True) if not gone]),
        filled="".join(_line(run) for run in _runs(channels, missing)),
        x_ticks=[(int(_across(np.array(value))), f"{value:.1f}") for value in (0.5, 0.6, 0.7, 0.8, 0.9)],
        y_ticks=_ticks(low, high),
        bands=f"matrix(1 0 0 {-per_unit / _SCALE:.5f} 0 {_BOTTOM + low * per_unit:.2f})",
        drawn="; ".join(drawn),
    )


def _level(spectrum: Spectrum, smoothed: Array) -> float:
    """How far the measurements stand above the smoothed spectrum, which alone is exactly 1 at 0.55 µm."""
    ratio = spectrum.reflectance / np.interp(spectrum.wavelength, WAVELENGTH, smoothed)
    return float(np.median(ratio[(spectrum.wavelength >= WAVELENGTH[0]) & (spectrum.wavelength <= WAVELENGTH[-1])]))


def _edges(archive: Archive, bus_class: str) -> tuple[Array | None, Array | None]:
    """Lower and upper edge of a class's band; the mean alone where it has no deviation."""
    mean, deviation = archive.class_mean(bus_class), archive.class_deviation(bus_class)
    if mean is None or deviation is None:
        return mean, None
    return mean - deviation, mean + deviation


def _band(archive: Archive, bus_class: str) -> tuple[str, str]:
    """Paths of a class's band and mean, in whole thousandths of reflectance."""
    mean = archive.class_mean(bus_class)
    if mean is None:
        return "", ""
    low, high = _edges(archive, bus_class)
    x = _across(WAVELENGTH)
    band = ""
    if high is not None and low is not None:
        around = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
        band = _line([(a, round(_SCALE * b)) for a, b in around]) + "Z"
    return band, _line([(a, round(_SCALE * b)) for a, b in zip(x, mean, strict=True)])


def _line(points: Sequence[tuple[Any, Any]]) -> str:
    return "M" + "L".join(f"{a} {b}" for a, b in points) if points else ""


def _runs(points: Sequence[tuple[Any, Any]], chosen: NDArray[np.bool_]) -> list[Sequence[tuple[Any, Any]]]:
    """The runs of chosen points, each with the one that it sets out from."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], chosen.astype(int), [0]))))
    return [points[max(first - 1, 0) : stop + 1] for first, stop in edges.reshape(-1, 2)]


def _across(wavelength: Array) -> NDArray[np.int64]:
    return np.rint(_LEFT + (wavelength - _FIRST) / (_LAST - _FIRST) * (_RIGHT - _LEFT)).astype(int)


def _up(reflectance: Array, low: float, high: float) -> NDArray[np.int64]:
    return np.rint(_BOTTOM - (reflectance - low) / (high - low) * (_BOTTOM - _TOP)).astype(int)


def _limits(curves: Array, points: Array) -> tuple[float, float]:
    """An axis that holds the curves and all points but those far off, with some air, and is never all noise."""
    low, high = float(curves.min()), float(curves.max())
    reach = high - low + 0.1
    near = points[(points > low - reach) & (points < high + reach)]
    low, high = float(near.min(initial=low)), float(near.max(initial=high))
    air = 0.04 * (high - low) + max(0.0, 0.12 - (high - low)) / 2
    return low - air, high + air


def _ticks(low: float, high: float) -> list[tuple[int, str]]:
    rough = (high - low) / 4
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return [(int(_up(np.array(value), low, high)), f"{value:.{decimals}f}") for value in values]

"""The report: one page, self-contained and without scripts, with a panel for each spectrum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pandas as pd

from astrd import svg
from astrd.analogues import Archive, full_name
from astrd.answers import Provenance
from astrd.colours import GROUP_COLOURS, GROUP_COLOURS_ON_DARK
from astrd.dataset import written_whole
from astrd.explanation import measures_in_words
from astrd.spectrum import Spectrum
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF, MAIN_GROUPS

SUFFIXES: Final = (".html", ".htm")
TEMPLATE: Final = "report.html.jinja"

_LEAST_SHOWN: Final = 0.005  # probability of classes that are listed


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
    plot: svg.Plot
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
    with written_whole(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


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
        bands={name: svg.band(archive, name) for name in shown},
        sizes={name: archive.class_size(name) for name in shown},
        group_of=MAIN_GROUP_OF,
        colours=GROUP_COLOURS,
        colours_on_dark=GROUP_COLOURS_ON_DARK,
        box=svg.BOX,
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
        plot=svg.plot(spectrum, row, archive, second),
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

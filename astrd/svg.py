"""A spectrum over its class, as paths of SVG.

Plots are made by hand, a few kilobytes each, so that a page of a thousand opens at once. All share the axis of
wavelengths; the band of a class is drawn once, and only stretched to each plot's axis of reflectance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.analogues import Archive
from astrd.partial import TRUSTED_EXTRAPOLATION
from astrd.smoothing import WAVELENGTH
from astrd.spectra import channels_outside
from astrd.spectrum import Spectrum

Array = NDArray[np.float64]

_FIRST, _LAST = 0.42, 0.94  # µm: the axis of all plots
_LEFT, _RIGHT, _TOP, _BOTTOM = 100, 990, 14, 450
BOX: Final = (_LEFT, _TOP, _RIGHT - _LEFT, _BOTTOM - _TOP)
"""Left, top, width and height of the axes, in the units of a plot."""

_SCALE: Final = 1000  # bands are in whole thousandths of reflectance
_MOST_POINTS: Final = 400


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


def plot(spectrum: Spectrum, row: Any, archive: Archive, second: str | None) -> Plot:
    """The plot of a spectrum over the class of its answer, and over a second one if there is one.

    Parameters
    ----------
    row
        The explained answer, as a named tuple.
    """
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


def band(archive: Archive, bus_class: str) -> tuple[str, str]:
    """Paths of a class's band and mean, which `Plot.bands` puts on the axes; empty where there is none."""
    mean = archive.class_mean(bus_class)
    if mean is None:
        return "", ""
    low, high = _edges(archive, bus_class)
    x = _across(WAVELENGTH)
    area = ""
    if high is not None and low is not None:
        around = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
        area = _line([(a, round(_SCALE * b)) for a, b in around]) + "Z"
    return area, _line([(a, round(_SCALE * b)) for a, b in zip(x, mean, strict=True)])


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

"""Why a class: the archive's asteroids that are most like a spectrum, the class it is put into, and its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd import shape
from astrd.analogues import Archive, full_name
from astrd.spectrum import Spectrum
from astrd.taxonomy import BUS_CLASSES

Array = NDArray[np.float64]

_WORDS: Final = {
    "slope": ("slope", "% per 0.1 µm"),
    "band_07_depth": ("depth at 0.7 µm", "%"),
    "band_09_depth": ("depth at 0.9 µm", "%"),
}
MEASURES: Final = tuple(_WORDS)
"""Columns of numbers, each followed by that of its 1 sigma, `<name>_uncertainty`."""

NAME_LISTS: Final = ("analogue_designation", "analogue_name", "analogue_bus_class")
NUMBER_LISTS: Final = ("analogue_distance", "smoothed_reflectance", "class_mean", "class_deviation")


def explanation(
    spectra: Sequence[Spectrum],
    reflectance: Array,
    seen: NDArray[np.bool_],
    bus: NDArray[np.integer],
    archive: Archive,
) -> dict[str, list[Any]]:
    """Columns that explain an answer, one entry a spectrum.

    Parameters
    ----------
    spectra, reflectance, seen
        Raw spectra, their smoothed channels (n, 49), and which of these the data reach (n, 49).
    bus
        Codes (n,) of the classes that were answered.
    """
    rows, distance = archive.nearest(reflectance, seen)
    classes = np.array(BUS_CLASSES)
    columns: dict[str, list[Any]] = {
        "analogue_designation": archive.designation[rows].tolist(),
        "analogue_name": archive.name[rows].tolist(),
        "analogue_bus_class": classes[archive.bus[rows]].tolist(),
        "analogue_distance": distance.tolist(),
    }
    measures = (shape.slope(seen), shape.BAND_07, shape.BAND_09)
    for name, measure in zip(MEASURES, measures, strict=True):
        columns[name], columns[f"{name}_uncertainty"] = measure.of(spectra, reflectance, seen)
    columns["smoothed_reflectance"] = reflectance.tolist()
    columns["class_mean"] = [_listed(archive.class_mean(BUS_CLASSES[code])) for code in bus]
    columns["class_deviation"] = [_listed(archive.class_deviation(BUS_CLASSES[code])) for code in bus]
    return columns


def analogues_in_words(answer: Any) -> str:
    """The analogues of an answer (a named tuple of its row), such as `4 Vesta (V, 0.012)` with class and distance."""
    entries = (answer.analogue_designation, answer.analogue_name, answer.analogue_bus_class, answer.analogue_distance)
    return ", ".join(
        f"{full_name(designation, name)} ({bus_class}, {distance:.3f})"
        for designation, name, bus_class, distance in zip(*entries, strict=True)
    )


def measures_in_words(answer: Any) -> dict[str, str]:
    """What each of `MEASURES` says in an answer (a named tuple of its row)."""
    said = {}
    for name, (title, unit) in _WORDS.items():
        value, deviation = getattr(answer, name), getattr(answer, f"{name}_uncertainty")
        missing = value is None or np.isnan(value)
        said[name] = f"{title} not covered" if missing else f"{title} {value:.2f} ± {deviation:.2f} {unit}"
    return said


def _listed(values: Array | None) -> list[float] | None:
    return None if values is None else values.tolist()

"""Many spectra at once: the checks of `Spectrum.of` in bulk, and those of spectra on the 49 channels.

Most spectra of a survey are in order: of finite numbers, wavelengths that increase, and no wide gap. That is found out
for all of them together; any other goes through `Spectrum.of`, which alone says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.smoothing import CHANNEL_WIDTH, NORMALISATION_CHANNEL, NORMALISATION_WAVELENGTH, WAVELENGTH
from astrd.spectrum import (
    FEWEST_POINTS,
    LARGEST,
    LEAST_SIGNAL,
    LONGEST,
    MOST_TIMES_LEVEL,
    NEAR,
    NEEDED_RANGE,
    NORMALISED_WITHIN,
    SLACK,
    WIDEST_GAP,
    Spectrum,
    SpectrumError,
)

Array = NDArray[np.float64]

_NEEDED_EDGES: Final = (NEEDED_RANGE[0] + CHANNEL_WIDTH, NEEDED_RANGE[1] - CHANNEL_WIDTH)


def spectra_of(
    wavelength: Sequence[Any], reflectance: Sequence[Any], uncertainty: Sequence[Any], designation: Sequence[str]
) -> list[Spectrum | SpectrumError]:
    """What `Spectrum.of` makes of each row, or says of it, some fifty times faster where spectra are in order.

    Parameters
    ----------
    wavelength, reflectance, uncertainty
        As `Spectrum.of` takes them, one a row.
    """
    columns = (wavelength, reflectance, uncertainty)
    spectra: list[Any] = [None] * len(designation)
    rows = [row for row, numbers in enumerate(zip(*columns, strict=True)) if _is_long_enough(*numbers)]
    if rows:
        points = np.array([len(wavelength[row]) for row in rows])
        w, r, u = (np.concatenate([column[row] for row in rows]).astype(np.float64, copy=False) for column in columns)
        in_order, scale = _in_order(w, r, u, points)
        r, u = r / scale.repeat(points), u / scale.repeat(points)
        ends = points.cumsum()
        for row, start, end, good in zip(rows, (ends - points).tolist(), ends.tolist(), in_order, strict=True):
            if good:
                spectra[row] = Spectrum(w[start:end], r[start:end], u[start:end], designation[row])
    for row, spectrum in enumerate(spectra):
        if spectrum is None:
            try:
                spectra[row] = Spectrum.of(wavelength[row], reflectance[row], uncertainty[row], designation[row])
            except SpectrumError as error:
                spectra[row] = error
    return spectra


def channel_faults(reflectance: Array) -> list[str | None]:
    """Why spectra on the 49 channels cannot be classified; None for those that can.

    Parameters
    ----------
    reflectance
        Shape (n, 49), relative to any level; NaN in the channels before the first and after the last that was seen.
    """
    rows = np.arange(len(reflectance))
    seen = ~np.isnan(reflectance)
    first, last = seen.argmax(axis=1), len(WAVELENGTH) - 1 - seen[:, ::-1].argmax(axis=1)
    inside = (first[:, None] <= np.arange(len(WAVELENGTH))) & (np.arange(len(WAVELENGTH)) <= last[:, None])
    level = reflectance[:, NORMALISATION_CHANNEL]
    size = np.where(seen, np.abs(reflectance), 0.0)
    low, high = np.searchsorted(WAVELENGTH, np.array(_NEEDED_EDGES) - SLACK)

    def at(channel: NDArray[np.int64], row: int) -> str:
        return f"{WAVELENGTH[channel[row]]:.2f} µm"

    largest, gap = size.argmax(axis=1), (inside & ~seen).argmax(axis=1)
    checks: tuple[tuple[Any, Callable[[int], str]], ...] = (
        (~seen.any(axis=1), lambda row: "expected reflectances, got none"),
        (
            ~(size[rows, largest] < LARGEST),
            lambda row: (
                f"expected finite numbers as reflectance, got {reflectance[row, largest[row]]:g} at {at(largest, row)}"
            ),
        ),
        (
            (first > low) | (last < high),
            lambda row: (
                f"expected channels that cover {NEEDED_RANGE[0]:.2f} to {NEEDED_RANGE[1]:.2f} µm, "
                f"got {WAVELENGTH[first[row]]:.2f} to {at(last, row)}"
            ),
        ),
        (
            (inside & ~seen).any(axis=1),
            lambda row: (
                f"expected every channel from {WAVELENGTH[first[row]]:.2f} to {at(last, row)}, "
                f"got none at {at(gap, row)}"
            ),
        ),
        (
            ~(level >= 1 / LARGEST),
            lambda row: f"expected a reflectance above 0 at 0.55 µm, where it is normalised; got {level[row]:g}",
        ),
        (
            size[rows, largest] > MOST_TIMES_LEVEL * level,
            lambda row: (
                f"expected reflectances of the size of that at 0.55 µm, {level[row]:g}; "
                f"got {reflectance[row, largest[row]]:g} at {at(largest, row)}"
            ),
        ),
    )
    faults: list[str | None] = [None] * len(reflectance)
    for wrong, message in reversed(checks):  # the first fault is the one that is told
        for row in np.flatnonzero(wrong).tolist():
            faults[row] = message(row)
    return faults


def _is_long_enough(*columns: Any) -> bool:
    return (
        all(isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.ndim == 1 for values in columns)
        and len({len(values) for values in columns}) == 1
        and len(columns[0]) >= FEWEST_POINTS
    )


def _in_order(w: Array, r: Array, u: Array, points: NDArray[np.int64]) -> tuple[NDArray[np.bool_], Array]:
    """Which spectra `Spectrum.of` leaves as they are, or scales only, and by what it divides them.

    All points stand one after the other, `points` of them a spectrum. Where it is not sure, the answer is no.
    """
    ends = points.cumsum()
    starts = ends - points
    low, high = NEEDED_RANGE
    with np.errstate(invalid="ignore", over="ignore"):
        fine = (np.abs(w) < LARGEST) & (np.abs(r) < LARGEST) & (np.abs(u) < LARGEST) & (u >= 1 / LARGEST)
        step = np.diff(w, append=np.inf)
        step[ends - 1] = 1e-3  # from one spectrum to the next there is none
        next_one = np.append(w[1:], np.inf)
        fine &= (step > 0) & ~((step > WIDEST_GAP) & (next_one > low) & (w < high))
        used = (w >= low - WIDEST_GAP) & (w <= high + WIDEST_GAP)
        level, doubt = _levels(w, r, u, starts, points)
        fine &= np.abs(r) <= MOST_TIMES_LEVEL * level.repeat(points)
    first, last = w[starts], w[ends - 1]
    in_order = (
        np.logical_and.reduceat(fine, starts)
        & (np.add.reduceat(used, starts, dtype=np.int64) >= FEWEST_POINTS)
        & (first > 0)
        & (first <= _NEEDED_EDGES[0])
        & (last >= _NEEDED_EDGES[1])
        & (last <= LONGEST)
        & (level >= np.maximum(LEAST_SIGNAL * doubt, 1 / LARGEST))
    )
    return in_order, np.where(in_order & (np.abs(level - 1) > NORMALISED_WITHIN), level, 1.0)


def _levels(w: Array, r: Array, u: Array, starts: NDArray[np.int64], points: NDArray[np.int64]) -> tuple[Array, Array]:
    """Reflectance near 0.55 µm and its 1 sigma, as `Spectrum.of` has them; NaN for spectra without a point there."""
    near = np.abs(w - NORMALISATION_WAVELENGTH) <= NEAR
    count = np.add.reduceat(near, starts, dtype=np.int64)
    spectrum = np.arange(len(points)).repeat(points)[near]
    place = np.arange(len(spectrum)) - (count.cumsum() - count)[spectrum]
    medians = []
    for values in (r, u):
        padded = np.full((len(points), max(int(count.max()), 1)), np.inf)
        padded[spectrum, place] = values[near]
        padded.sort(axis=1)
        middle = [np.take_along_axis(padded, np.maximum(c, 0)[:, None], axis=1) for c in ((count - 1) // 2, count // 2)]
        medians.append(np.where(count > 0, (middle[0] + middle[1])[:, 0] / 2, np.nan))
    return medians[0], medians[1] / np.sqrt(np.maximum(count, 1))

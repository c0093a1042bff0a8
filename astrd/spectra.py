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
    NOISE_RANGE,
    NORMALISED_WITHIN,
    SLACK,
    WIDEST_GAP,
    Spectrum,
    SpectrumError,
    estimated_note,
    noise_of,
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
    columns = (wavelength, reflectance, _with_estimates(wavelength, reflectance, uncertainty))
    spectra: list[Any] = [None] * len(designation)
    rows = [row for row, numbers in enumerate(zip(*columns, strict=True)) if _is_long_enough(*numbers)]
    if rows:
        points = np.array([len(wavelength[row]) for row in rows])
        w, r, u = (np.concatenate([column[row] for row in rows]).astype(np.float64, copy=False) for column in columns)
        in_order, level = _in_order(w, r, u, points)
        scale = np.where(in_order & (np.abs(level - 1) > NORMALISED_WITHIN), level, 1.0)
        ends = points.cumsum()
        relative = u[ends - 1] / np.where(in_order, level, 1.0)
        r, u = r / scale.repeat(points), u / scale.repeat(points)
        places = zip(rows, (ends - points).tolist(), ends.tolist(), in_order, relative.tolist(), strict=True)
        for row, start, end, good, sigma in places:
            if good:
                notes = () if columns[2][row] is uncertainty[row] else (estimated_note(sigma),)
                spectra[row] = Spectrum(w[start:end], r[start:end], u[start:end], designation[row], notes)
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
    faults: list[str | None] = [None] * len(reflectance)
    level = reflectance[:, NORMALISATION_CHANNEL]
    largest = np.abs(reflectance).max(axis=1)  # NaN where one is, and so in doubt
    in_order = (largest < LARGEST) & (level >= 1 / LARGEST) & (largest <= MOST_TIMES_LEVEL * level)
    in_doubt = np.flatnonzero(~in_order)
    for row, fault in zip(in_doubt.tolist(), _channel_faults(reflectance[in_doubt]), strict=True):
        faults[row] = fault
    return faults


def _channel_faults(reflectance: Array) -> list[str | None]:
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


def _with_estimates(wavelength: Sequence[Any], reflectance: Sequence[Any], uncertainty: Sequence[Any]) -> list[Any]:
    """The uncertainties, with what `Spectrum.of` estimates in the place of those that are None or empty."""
    filled = list(uncertainty)
    rows = [
        row
        for row, given in enumerate(uncertainty)
        if (given is None or (isinstance(given, np.ndarray | list) and len(given) == 0))
        and _is_long_enough(wavelength[row], reflectance[row])
    ]
    if not rows:
        return filled
    points = np.array([len(wavelength[row]) for row in rows])
    w, r = (np.concatenate([column[row] for row in rows]).astype(np.float64) for column in (wavelength, reflectance))
    ends = points.cumsum()
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (w > NOISE_RANGE[0]) & (w < NOISE_RANGE[1])
        second, within = np.zeros(len(r)), inside.copy()
        second[:-2] = np.abs(np.diff(r, 2))
        within[:-2] &= inside[2:]
        within[np.concatenate([ends - 1, ends - 2])] = False  # these differences reach into the next spectrum
        size = np.abs(r)
        smallest = np.maximum(_medians(size, inside, points), _medians(size, np.ones_like(inside), points))
        sigma = noise_of(_medians(second, within, points), smallest)
    for row, count, value in zip(rows, points.tolist(), sigma.tolist(), strict=True):
        filled[row] = np.full(count, value)
    return filled


def _is_long_enough(*columns: Any) -> bool:
    shape: tuple[int, ...] = np.shape(columns[0]) if isinstance(columns[0], np.ndarray) else ()
    for values in columns:  # not `all` of a generator, which takes three times as long
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.shape != shape:
            return False
    return len(shape) == 1 and shape[0] >= FEWEST_POINTS


def _in_order(w: Array, r: Array, u: Array, points: NDArray[np.int64]) -> tuple[NDArray[np.bool_], Array]:
    """Which spectra `Spectrum.of` leaves as they are, or scales only, and their level at 0.55 µm.

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
        level, doubt = _levels(w, r, u, points)
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
    return in_order, level


def _levels(w: Array, r: Array, u: Array, points: NDArray[np.int64]) -> tuple[Array, Array]:
    """Reflectance near 0.55 µm and its 1 sigma, as `Spectrum.of` has them; NaN for spectra without a point there."""
    near = np.abs(w - NORMALISATION_WAVELENGTH) <= NEAR
    count = np.add.reduceat(near, points.cumsum() - points, dtype=np.int64)
    return _medians(r, near, points), _medians(u, near, points) / np.sqrt(np.maximum(count, 1))


def _medians(values: Array, chosen: NDArray[np.bool_], points: NDArray[np.int64]) -> Array:
    """Median of the chosen values of each spectrum, shape (spectra,); NaN for those that have none."""
    count = np.add.reduceat(chosen, points.cumsum() - points, dtype=np.int64)
    padded = np.full((len(points), max(int(count.max()), 1)), np.inf)
    padded[np.arange(padded.shape[1]) < count[:, None]] = values[chosen]
    padded.sort(axis=1)
    middle = [np.take_along_axis(padded, np.maximum(c, 0)[:, None], axis=1) for c in ((count - 1) // 2, count // 2)]
    return np.where(count > 0, (middle[0] + middle[1])[:, 0] / 2, np.nan)

"""Many spectra at once: what they are together, and the checks of `Spectrum.of` in bulk.

Most spectra of a survey are in order: of finite numbers, wavelengths that increase, and no wide gap. That is found out
for all of them together; any other goes through `Spectrum.of`, which alone says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.lists import Lists
from astrd.smoothing import (
    CHANNEL_WIDTH,
    NORMALISATION_WAVELENGTH,
    WAVELENGTH,
    bus_smoothing,
)
from astrd.spectrum import (
    FEWEST_POINTS,
    LARGEST,
    LEAST_SIGNAL,
    LONGEST,
    MOST_TIMES_LEVEL,
    NEAR,
    NEEDED_EDGES,
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

_MOST_PADDING: Final = 4  # times the values themselves


@dataclass(frozen=True, eq=False)
class Spectra(Sequence[Spectrum]):
    """Spectra whose points stand one after the other, so that what is asked of all is found at once.

    `wavelength`, `reflectance` and `uncertainty` have a value a point, of which the spectra have `points` (n,) each;
    `designation` and `notes` are as of `Spectrum`, one a spectrum.
    """

    wavelength: Array
    reflectance: Array
    uncertainty: Array
    points: NDArray[np.int64]
    designation: Sequence[str]
    notes: Sequence[tuple[str, ...]]

    @classmethod
    def of(cls, spectra: Sequence[Spectrum]) -> Spectra:
        """The same spectra, put together."""
        if isinstance(spectra, Spectra):
            return spectra
        points = np.array([len(spectrum.wavelength) for spectrum in spectra], dtype=np.int64)
        return cls(
            _concatenated([spectrum.wavelength for spectrum in spectra]),
            _concatenated([spectrum.reflectance for spectrum in spectra]),
            _concatenated([spectrum.uncertainty for spectrum in spectra]),
            points,
            [spectrum.designation for spectrum in spectra],
            [spectrum.notes for spectrum in spectra],
        )

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The place after each spectrum's last point, shape (n,)."""
        return self.points.cumsum()

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, row: Any) -> Any:
        end = int(self.ends[row])
        place = slice(end - int(self.points[row]), end)
        numbers = (self.wavelength[place], self.reflectance[place], self.uncertainty[place])
        return Spectrum(*numbers, self.designation[row], self.notes[row])


def channels_outside(spectra: Sequence[Spectrum], margin: float) -> NDArray[np.bool_]:
    """The channels that lie more than `margin` (µm) beyond the ends of each spectrum, shape (n, 49)."""
    together = Spectra.of(spectra)
    first = together.wavelength[together.ends - together.points, None]
    last = together.wavelength[together.ends - 1, None]
    return (first - margin - SLACK > WAVELENGTH) | (last + margin + SLACK < WAVELENGTH)


def smoothed(spectra: Sequence[Spectrum]) -> Array:
    """Spectra as Bus smoothed them, on the 49 channels, shape (n, 49); see `bus_smoothing`."""
    together = Spectra.of(spectra)
    ends = together.ends.tolist()
    places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return bus_smoothing(
        *(
            [values[place] for place in places]
            for values in (together.wavelength, together.reflectance, together.uncertainty)
        )
    )


def channel_noise(spectra: Sequence[Spectrum]) -> Array:
    """1 sigma of a channel (n,), on the average over the channels, if each took up the points that fall to it."""
    if len(spectra) == 0:
        return np.empty(0)
    together = Spectra.of(spectra)
    wavelength = together.wavelength
    inside = (wavelength > WAVELENGTH[0] - CHANNEL_WIDTH) & (wavelength < WAVELENGTH[-1] + CHANNEL_WIDTH)
    each = np.where(inside, together.uncertainty**-2.0, 0.0)
    information = np.add.reduceat(each, together.ends - together.points)
    return np.asarray(np.sqrt((~channels_outside(together, 0.0)).sum(axis=1) / information))


def spectra_of(
    wavelength: Sequence[Any], reflectance: Sequence[Any], uncertainty: Sequence[Any], designation: Sequence[str]
) -> Sequence[Spectrum | SpectrumError]:
    """What `Spectrum.of` makes of each row, or says of it, some fifty times faster where spectra are in order.

    They are `Spectra` if all of them are.

    Parameters
    ----------
    wavelength, reflectance, uncertainty
        As `Spectrum.of` takes them, one a row.
    """
    spectra: list[Any] = [None] * len(designation)
    rows: Sequence[int]
    if alike := _alike(wavelength, reflectance, uncertainty):
        rows, estimated, points = range(len(designation)), set[int](), alike[0].points
        w, r, u = (column.flat for column in alike)
    else:
        filled, estimated = _with_estimates(wavelength, reflectance, uncertainty)
        columns = (wavelength, reflectance, filled)
        rows = [row for row, numbers in enumerate(zip(*columns, strict=True)) if _is_long_enough(*numbers)]
        points = np.array([len(wavelength[row]) for row in rows], dtype=np.int64)
        w, r, u = (_concatenated([column[row] for row in rows]) for column in columns)
    if rows:
        in_order, level = _in_order(w, r, u, points)
        scale = np.where(in_order & (np.abs(level - 1) > NORMALISED_WITHIN), level, 1.0)
        relative = u[points.cumsum() - 1] / np.where(in_order, level, 1.0)
        if (scale != 1).any():
            r, u = r / scale.repeat(points), u / scale.repeat(points)
        notes = [
            (estimated_note(sigma),) if row in estimated else ()
            for row, sigma in zip(rows, relative.tolist(), strict=True)
        ]
        found = Spectra(w, r, u, points, [designation[row] for row in rows], notes)
        if in_order.all() and len(rows) == len(designation):
            return found
        for place in np.flatnonzero(in_order).tolist():
            spectra[rows[place]] = found[place]
    for row, spectrum in enumerate(spectra):
        if spectrum is None:
            try:
                spectra[row] = Spectrum.of(wavelength[row], reflectance[row], uncertainty[row], designation[row])
            except SpectrumError as error:
                spectra[row] = error
    return spectra


def checked(wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array]) -> list[Spectrum]:
    """The spectra of rows that are in order, without names.

    Raises
    ------
    SpectrumError
        If one is not.
    """
    spectra = []
    for spectrum in spectra_of(wavelength, reflectance, uncertainty, [""] * len(wavelength)):
        if isinstance(spectrum, SpectrumError):
            raise spectrum
        spectra.append(spectrum)
    return spectra


def _concatenated(arrays: Sequence[Array]) -> Array:
    return np.concatenate(arrays).astype(np.float64, copy=False) if len(arrays) else np.empty(0)


def _alike(*columns: Sequence[Any]) -> list[Lists]:
    """The columns, if the points of all rows can be taken as they lie in them: no list is missing, or too short."""
    lists = [column for column in columns if isinstance(column, Lists) and column.there.all()]
    if len(lists) < len(columns) or any(not np.array_equal(one.points, lists[0].points) for one in lists):
        return []
    return lists if (lists[0].points >= FEWEST_POINTS).all() else []


def _with_estimates(
    wavelength: Sequence[Any], reflectance: Sequence[Any], uncertainty: Sequence[Any]
) -> tuple[list[Any], set[int]]:
    """The uncertainties, with what `Spectrum.of` estimates where one is None or empty; and the rows of these."""
    filled = list(uncertainty)
    rows = [
        row
        for row, given in enumerate(uncertainty)
        if (given is None or (isinstance(given, np.ndarray | list) and len(given) == 0))
        and _is_long_enough(wavelength[row], reflectance[row])
    ]
    if not rows:
        return filled, set()
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
    return filled, set(rows)


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
        & (first <= NEEDED_EDGES[0])
        & (last >= NEEDED_EDGES[1])
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
    if len(count) * count.max() > _MOST_PADDING * (count.sum() + len(count)):  # for the sake of few: take them apart
        many, medians = count > count.mean(), np.empty(len(count))
        for rows in (many, ~many):
            place = rows.repeat(points)
            medians[rows] = _medians(values[place], chosen[place], points[rows])
        return medians
    padded = np.full((len(points), max(int(count.max()), 1)), np.inf)
    padded[np.arange(padded.shape[1]) < count[:, None]] = values[chosen]
    padded.sort(axis=1)
    middle = [np.take_along_axis(padded, np.maximum(c, 0)[:, None], axis=1) for c in ((count - 1) // 2, count // 2)]
    return np.where(count > 0, (middle[0] + middle[1])[:, 0] / 2, np.nan)

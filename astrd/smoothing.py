"""Bus's smoothing: a natural cubic smoothing spline, sampled at 49 wavelengths.

Bus & Binzel 2002 (Icarus 158, 146) fitted each spectrum with a smoothing spline before they classified it. The
`spfit` files of the archive are reproduced to their rounding by the spline `f` that minimises

    sum_i ((y_i - f(x_i)) / sigma_i)^2 + 0.25 * integral f''(x)^2 dx,   x in micrometres,

divided by its value at 0.55 µm. `bus_smoothing` solves for many spectra at once: in Reinsch's form the second
derivatives at the knots solve a positive definite system of five diagonals (Green & Silverman 1994, section 2.3),
and eliminating it row by row costs a few NumPy operations a knot, whatever the number of spectra.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WAVELENGTH: Final[Array] = np.round(np.linspace(0.44, 0.92, 49), 2)
"""The 49 channels, in micrometres."""

CHANNEL_WIDTH: Final = 0.01

NORMALISATION_WAVELENGTH: Final = 0.55
NORMALISATION_CHANNEL: Final = int(np.flatnonzero(WAVELENGTH == NORMALISATION_WAVELENGTH)[0])
SMOOTHING_PENALTY: Final = 0.25

_CHUNK: Final = 512  # spectra solved together: their working set stays in the processor's cache
_LONGER: Final = 2  # times: a spectrum that is longer is solved apart, as all that are solved together are padded to it


def bus_smoothing(wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array]) -> Array:
    """Smooth spectra as Bus did and sample them on the 49 channels, normalised at 0.55 µm.

    Parameters
    ----------
    wavelength, reflectance, uncertainty
        One array a spectrum, each of its own length, at least 4: µm (strictly increasing), relative
        reflectance, and its 1-sigma uncertainty (positive).

    Returns
    -------
    Array
        Shape (number of spectra, 49). Beyond the ends of its own data a spectrum goes on
        as the last piece of its spline: good for a few channels, not for many.

    Raises
    ------
    ValueError
        If a spectrum has fewer than 4 points, arrays of different lengths, wavelengths that do not increase,
        an uncertainty that is not positive, or a smoothed reflectance at 0.55 µm that is not.
    """
    smoothed = np.empty((len(wavelength), len(WAVELENGTH)))
    for rows in _chunks(wavelength):
        try:
            channels, level = _channels(_Knots.of_rows(rows, wavelength, reflectance, uncertainty))
            smoothed[rows] = channels / level
        except _BadSpectrum as error:
            raise ValueError(f"row {rows[error.row]}: {error}") from None
    return smoothed


def propagated(
    wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array], weights: Array
) -> Array:
    """The 1 sigma that the spectra's own uncertainties give to weighted sums of their smoothed channels.

    Parameters
    ----------
    wavelength, reflectance, uncertainty
        Spectra that `bus_smoothing` takes.
    weights
        Shape (number of spectra, 49): what each channel, normalised at 0.55 µm, counts in the sum of its spectrum.

    Returns
    -------
    Array
        Shape (number of spectra,). It is exact but for the division by the level at 0.55 µm, which is taken as linear:
        smoothing is, so that a sum of channels is one of the points, whose errors are independent.
    """
    deviation = np.empty(len(wavelength))
    for rows in _chunks(wavelength):
        knots = _Knots.of_rows(rows, wavelength, reflectance, uncertainty)
        deviation[rows] = _deviation(knots, *_channels(knots), weights[rows])
    return deviation


def smoothed_uncertainty(
    wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array]
) -> Array:
    """1 sigma of each channel that `bus_smoothing` makes of these spectra, shape (number of spectra, 49).

    It is 0 at 0.55 µm, where spectra are normalised.
    """
    sigmas = np.empty((len(wavelength), len(WAVELENGTH)))
    for rows in _chunks(wavelength):
        knots = _Knots.of_rows(rows, wavelength, reflectance, uncertainty)
        channels, level = _channels(knots)
        for channel, alone in enumerate(np.eye(len(WAVELENGTH))):
            sigmas[rows, channel] = _deviation(knots, channels, level, np.tile(alone, (len(channels), 1)))
    return sigmas


def _chunks(arrays: Sequence[Array]) -> Iterator[list[int]]:
    """The places of arrays of about one length, a few hundred at a time; they are in order if all are of one length."""
    lengths = [len(array) for array in arrays]
    chunk: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if chunk and (len(chunk) == _CHUNK or lengths[place] > _LONGER * lengths[chunk[0]]):
            yield chunk
            chunk = []
        chunk.append(place)
    if chunk:
        yield chunk


def _deviation(knots: _Knots, channels: Array, level: Array, weights: Array) -> Array:
    """1 sigma (n,) of sums of channels, with weights (n, 49), after they were divided by their level (n, 1)."""
    of_channels = weights.copy()
    of_channels[:, NORMALISATION_CHANNEL] -= (weights * channels / level).sum(axis=1)
    of_points = _weights_of_points(knots, of_channels / level)
    return np.asarray(np.sqrt((of_points**2 * knots.variance).sum(axis=0)))


class _BadSpectrum(Exception):
    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class _Knots:
    """Points of spectra, knots down and spectra across. Short spectra are padded; `inside` tells what is no padding.

    Of spectra that share their wavelengths, as those of a survey do, `x`, `step` and `inside` have one column.
    """

    x: Array
    y: Array
    variance: Array
    step: Array
    inside: NDArray[np.bool_]
    points: NDArray[np.int64]

    @classmethod
    def of_rows(cls, rows: Sequence[int], *columns: Sequence[Array]) -> _Knots:
        """Of some of the spectra whose wavelengths, reflectances and uncertainties the columns hold."""
        return cls.of(*([column[row] for row in rows] for column in columns))

    @classmethod
    def of(cls, wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array]) -> _Knots:
        points = np.array([len(w) for w in wavelength])
        for row, (w, r, u) in enumerate(zip(wavelength, reflectance, uncertainty, strict=True)):
            if not len(w) == len(r) == len(u):
                raise _BadSpectrum(row, f"expected lists of one length, got {len(w)}, {len(r)} and {len(u)}")
            if len(w) < 4:
                raise _BadSpectrum(row, f"expected at least 4 points to smooth, got {len(w)}")
        x, y, deviation = (_padded(arrays, points) for arrays in (wavelength, reflectance, uncertainty))
        inside = np.arange(len(x))[:, None] < points
        if (points == points[0]).all() and (x == x[:, :1]).all():
            x, inside = x[:, :1], inside[:, :1]
        knots = cls(x, y, deviation**2, np.where(inside[1:], np.diff(x, axis=0), 1.0), inside, points)
        for wrong, message in (
            (knots.step.min(axis=0) <= 0, "expected wavelengths that increase strictly"),
            (np.where(inside, knots.variance, 1.0).min(axis=0) <= 0, "expected uncertainties above 0"),
        ):
            if wrong.any():
                raise _BadSpectrum(int(wrong.argmax()), message)
        return knots


def _channels(knots: _Knots) -> tuple[Array, Array]:
    """Smoothed channels (n, 49) before they are normalised, and their level (n, 1) at 0.55 µm."""
    curvature = _solved(knots, _second_differences(knots, knots.y))
    fitted = knots.y - SMOOTHING_PENALTY * knots.variance * _second_differences_transposed(knots, curvature)
    at = _Sampling.of(knots)
    of_left, of_right = at.a * fitted[at.left] + at.bend_left * curvature[at.left], at.b * fitted[at.right]
    sampled = (of_left + of_right + at.bend_right * curvature[at.right]).T
    level = sampled[:, [NORMALISATION_CHANNEL]]
    if not (level > 0).all():
        row = int((~(level > 0)).argmax())
        raise _BadSpectrum(row, f"expected a reflectance above 0 at 0.55 µm, got {level[row, 0]:.4g}")
    return sampled, level


def _weights_of_points(knots: _Knots, weights: Array) -> Array:
    """What each point counts in the sum in which channels, before they are normalised, have `weights` (n, 49)."""
    at = _Sampling.of(knots)
    of_fitted, of_curvature = np.zeros_like(knots.y), np.zeros_like(knots.y)
    for place, of_place, of_bend in ((at.left, at.a, at.bend_left), (at.right, at.b, at.bend_right)):
        np.add.at(of_fitted, place, of_place * weights.T)
        np.add.at(of_curvature, place, of_bend * weights.T)
    through_fit = _second_differences(knots, SMOOTHING_PENALTY * knots.variance * of_fitted)
    curvature = _solved(knots, of_curvature[1:-1] - through_fit)
    return np.asarray(of_fitted + _second_differences_transposed(knots, curvature))


def _padded(arrays: Sequence[Array], points: NDArray[np.int64]) -> Array:
    if (points == points[0]).all():
        return np.ascontiguousarray(np.concatenate(arrays).reshape(len(points), -1).T)
    padded = np.ones((len(arrays), points.max()))
    padded[np.arange(points.max()) < points[:, None]] = np.concatenate(arrays)
    return np.ascontiguousarray(padded.T)


def _second_differences(knots: _Knots, values: Array) -> Array:
    """Q'v, at all knots but the ends."""
    return np.diff(np.diff(values, axis=0) / knots.step, axis=0)


def _second_differences_transposed(knots: _Knots, curvature: Array) -> Array:
    """Q gamma, at all knots."""
    return np.diff(np.diff(curvature, axis=0) / knots.step, axis=0, prepend=0.0, append=0.0)


def _solved(knots: _Knots, right: Array) -> Array:
    """The solution gamma of (R + penalty Q'SQ) gamma = right, 0 at the ends; the matrix is factored as L D L'."""
    step, variance = knots.step, knots.variance
    before, after = 1 / step[:-1], 1 / step[1:]
    centre = -before - after
    free = knots.inside[2:]  # the unknowns of each spectrum; a row of padding reads 1 * gamma = 0

    diagonal = (step[:-1] + step[1:]) / 3 + SMOOTHING_PENALTY * (
        before**2 * variance[:-2] + centre**2 * variance[1:-1] + after**2 * variance[2:]
    )
    first = step[1:-1] / 6 + SMOOTHING_PENALTY * (
        centre[:-1] * before[1:] * variance[1:-2] + after[:-1] * centre[1:] * variance[2:-1]
    )
    second = SMOOTHING_PENALTY * after[:-2] * before[2:] * variance[2:-2]

    diagonal = np.where(free, diagonal, 1.0)
    gamma = np.where(free, right, 0.0)
    first = np.where(free[1:], first, 0.0)
    second = np.where(free[2:], second, 0.0)

    rows = (diagonal, first, second, gamma)
    if right.shape[1] == 1:  # numbers instead of rows of one: a fifth of the time, to the same bits
        with contextlib.suppress(ZeroDivisionError):  # rows divide by 0 without ado, and what comes is refused later
            return np.pad(np.array(_eliminated(*(row.ravel().tolist() for row in rows)))[:, None], ((1, 1), (0, 0)))
    return np.pad(_eliminated(*rows), ((1, 1), (0, 0)))


def _eliminated(diagonal: Any, first: Any, second: Any, gamma: Any) -> Any:
    """Solve for `gamma` in its place; all are overwritten. Entries are rows, of one number a spectrum, or numbers."""
    unknowns = len(diagonal)
    for j in range(unknowns):  # forward: D stays in `diagonal`, L in `first` and `second`
        if j + 1 < unknowns:
            lower = first[j] / diagonal[j]
            if j + 2 < unknowns:
                first[j + 1] -= lower * second[j]
            diagonal[j + 1] -= lower * first[j]
            gamma[j + 1] -= lower * gamma[j]
            first[j] = lower
        if j + 2 < unknowns:
            lower = second[j] / diagonal[j]
            diagonal[j + 2] -= lower * second[j]
            gamma[j + 2] -= lower * gamma[j]
            second[j] = lower
    for j in reversed(range(unknowns)):
        gamma[j] /= diagonal[j]
        if j + 1 < unknowns:
            gamma[j] -= first[j] * gamma[j + 1]
        if j + 2 < unknowns:
            gamma[j] -= second[j] * gamma[j + 2]
    return gamma


@dataclass(frozen=True)
class _Sampling:
    """A natural cubic spline on the 49 channels: the knots beside each, and what their values and curvatures count.

    `left` and `right` pick knots for the channels out of arrays like `_Knots.y`.
    """

    left: Any
    right: Any
    a: Array
    b: Array
    bend_left: Array
    bend_right: Array

    @classmethod
    def of(cls, knots: _Knots) -> _Sampling:
        channels, number = len(WAVELENGTH), knots.x.shape[1]
        spectra = np.broadcast_to(np.arange(number), (channels, number))
        # The knots at or before a channel are those whose first channel at or after them is not beyond it.
        first = np.where(knots.inside, np.searchsorted(WAVELENGTH, knots.x), channels)
        count = np.bincount((first + (channels + 1) * np.arange(number)).ravel(), minlength=(channels + 1) * number)
        left = count.reshape(number, channels + 1)[:, :channels].cumsum(axis=1).T - 1
        left = np.clip(left, 0, knots.points[:number] - 2)
        h = knots.step[left, spectra]
        b = (WAVELENGTH[:, None] - knots.x[left, spectra]) / h
        a = 1 - b
        here, there = (left[:, 0], left[:, 0] + 1) if number == 1 else ((left, spectra), (left + 1, spectra))
        return cls(here, there, a, b, h**2 / 6 * (a**3 - a), h**2 / 6 * (b**3 - b))

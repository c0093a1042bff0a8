"""Bus's smoothing: a natural cubic smoothing spline, sampled at 49 wavelengths.

Bus & Binzel 2002 (Icarus 158, 146) fitted each spectrum with a smoothing spline before they classified it. The
`spfit` files of the archive are reproduced to their rounding by the spline `f` that minimises

    sum_i ((y_i - f(x_i)) / sigma_i)^2 + 0.25 * integral f''(x)^2 dx,   x in micrometres,

divided by its value at 0.55 µm. `bus_smoothing` solves for many spectra at once: in Reinsch's form the second
derivatives at the knots solve a positive definite system of five diagonals (Green & Silverman 1994, section 2.3),
and eliminating it row by row costs a few NumPy operations a knot, whatever the number of spectra.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WAVELENGTH: Final[Array] = np.round(np.linspace(0.44, 0.92, 49), 2)
"""The 49 channels, in micrometres."""

CHANNEL_WIDTH: Final = 0.01

NORMALISATION_WAVELENGTH: Final = 0.55
NORMALISATION_CHANNEL: Final = int(np.flatnonzero(WAVELENGTH == NORMALISATION_WAVELENGTH)[0])
SMOOTHING_PENALTY: Final = 0.25

_CHUNK: Final = 256  # spectra solved together: their working set stays in the processor's cache


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
    for start in range(0, len(wavelength), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        try:
            smoothed[chunk] = _smooth(wavelength[chunk], reflectance[chunk], uncertainty[chunk])
        except _BadSpectrum as error:
            raise ValueError(f"row {start + error.row}: {error}") from None
    return smoothed


class _BadSpectrum(Exception):
    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _smooth(wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array]) -> Array:
    points = np.array([len(w) for w in wavelength])
    for row, (w, r, u) in enumerate(zip(wavelength, reflectance, uncertainty, strict=True)):
        if not len(w) == len(r) == len(u):
            raise _BadSpectrum(row, f"expected lists of one length, got {len(w)}, {len(r)} and {len(u)}")
        if len(w) < 4:
            raise _BadSpectrum(row, f"expected at least 4 points to smooth, got {len(w)}")

    # Knots down, spectra across. Short spectra are padded; their padding is cut out of the system below.
    x, y, variance = (_padded(arrays, points) for arrays in (wavelength, reflectance, uncertainty))
    variance = variance**2
    inside = np.arange(len(x))[:, None] < points
    step = np.where(inside[1:], np.diff(x, axis=0), 1.0)
    for wrong, message in (
        (step.min(axis=0) <= 0, "expected wavelengths that increase strictly"),
        (np.where(inside, variance, 1.0).min(axis=0) <= 0, "expected uncertainties above 0"),
    ):
        if wrong.any():
            raise _BadSpectrum(int(wrong.argmax()), message)

    sampled = _fitted(x, step, y, variance, inside)
    level = sampled[:, [NORMALISATION_CHANNEL]]
    if not (level > 0).all():
        row = int((~(level > 0)).argmax())
        raise _BadSpectrum(row, f"expected a reflectance above 0 at 0.55 µm, got {level[row, 0]:.4g}")
    return sampled / level


def smoothed_uncertainty(
    wavelength: Sequence[Array], reflectance: Sequence[Array], uncertainty: Sequence[Array]
) -> Array:
    """1 sigma of each channel that `bus_smoothing` makes of these spectra, shape (number of spectra, 49).

    The smoothing is linear: its answers to the unit vectors are its matrix `S`, and with the level `s` at 0.55 µm the
    variance of the normalised channel `f_j` is the sum over points i of `((S_ji - f_j S_0i) sigma_i / s)^2`. It is 0
    at 0.55 µm itself.
    """
    sigmas = np.empty((len(wavelength), len(WAVELENGTH)))
    for row, (w, r, u) in enumerate(zip(wavelength, reflectance, uncertainty, strict=True)):
        x, variance = w[:, None], u[:, None] ** 2  # one column: the knots of all unit vectors
        inside = np.ones(x.shape, dtype=bool)
        matrix = _fitted(x, np.diff(x, axis=0), np.eye(len(w)), variance, inside)  # (points, 49)
        smoothed = r @ matrix
        level = smoothed[NORMALISATION_CHANNEL]
        effect = matrix - np.outer(matrix[:, NORMALISATION_CHANNEL], smoothed / level)
        sigmas[row] = np.sqrt(u**2 @ effect**2) / level
    return sigmas


def _fitted(x: Array, step: Array, y: Array, variance: Array, inside: NDArray[np.bool_]) -> Array:
    """The smoothing splines of `y` (knots, spectra) on the channels, shape (spectra, 49), before they are normalised.

    The others have as many columns as `y`, or one where all spectra share it.
    """
    curvature = _second_derivatives(step, y, variance, inside)
    fitted = y - SMOOTHING_PENALTY * variance * _second_differences_transposed(step, curvature)
    return _sample(x, step, fitted, curvature, inside.sum(axis=0))


def _padded(arrays: Sequence[Array], points: NDArray[np.int64]) -> Array:
    padded = np.ones((points.max(), len(arrays)))
    for column, values in enumerate(arrays):
        padded[: len(values), column] = values
    return padded


def _second_derivatives(step: Array, y: Array, variance: Array, inside: NDArray[np.bool_]) -> Array:
    """Second derivatives at all knots, 0 at the ends: (R + penalty Q'SQ) gamma = Q'y, factored as L D L'."""
    before, after = 1 / step[:-1], 1 / step[1:]
    centre = -before - after
    free = inside[2:]  # the unknowns of each spectrum; a row of padding reads 1 * gamma = 0

    diagonal = (step[:-1] + step[1:]) / 3 + SMOOTHING_PENALTY * (
        before**2 * variance[:-2] + centre**2 * variance[1:-1] + after**2 * variance[2:]
    )
    first = step[1:-1] / 6 + SMOOTHING_PENALTY * (
        centre[:-1] * before[1:] * variance[1:-2] + after[:-1] * centre[1:] * variance[2:-1]
    )
    second = SMOOTHING_PENALTY * after[:-2] * before[2:] * variance[2:-2]
    gamma = before * y[:-2] + centre * y[1:-1] + after * y[2:]

    diagonal = np.where(free, diagonal, 1.0)
    gamma = np.where(free, gamma, 0.0)
    first = np.where(free[1:], first, 0.0)
    second = np.where(free[2:], second, 0.0)

    knots = len(diagonal)
    for j in range(knots):  # forward: D stays in `diagonal`, L in `first` and `second`
        if j + 1 < knots:
            lower = first[j] / diagonal[j]
            if j + 2 < knots:
                first[j + 1] -= lower * second[j]
            diagonal[j + 1] -= lower * first[j]
            gamma[j + 1] -= lower * gamma[j]
            first[j] = lower
        if j + 2 < knots:
            lower = second[j] / diagonal[j]
            diagonal[j + 2] -= lower * second[j]
            gamma[j + 2] -= lower * gamma[j]
            second[j] = lower
    gamma /= diagonal
    for j in reversed(range(knots - 1)):
        gamma[j] -= first[j] * gamma[j + 1]
        if j + 2 < knots:
            gamma[j] -= second[j] * gamma[j + 2]
    return np.pad(gamma, ((1, 1), (0, 0)))


def _second_differences_transposed(step: Array, curvature: Array) -> Array:
    slope = np.diff(curvature, axis=0) / step
    return np.diff(slope, axis=0, prepend=0.0, append=0.0)


def _sample(x: Array, step: Array, fitted: Array, curvature: Array, points: NDArray[np.int64]) -> Array:
    """The natural cubic spline through `fitted` with second derivatives `curvature`, on the 49 channels."""
    knots = np.where(np.arange(len(x))[:, None] < points, x, np.inf)
    left = np.array([np.count_nonzero(knots <= channel, axis=0) for channel in WAVELENGTH]) - 1
    left = np.clip(left, 0, points - 2)
    right = left + 1

    at = partial(np.take_along_axis, axis=0)
    h = at(step, left)
    b = (WAVELENGTH[:, None] - at(x, left)) / h
    a = 1 - b
    bend = (a**3 - a) * at(curvature, left) + (b**3 - b) * at(curvature, right)
    return np.asarray((a * at(fitted, left) + b * at(fitted, right) + h**2 / 6 * bend).T)

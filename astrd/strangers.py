"""Spectra that no asteroid of the archive has, made on purpose: what an outlier score has to tell from real ones.

Each kind is a mistake that observers make or a thing that a telescope may see: a featureless line, the Sun not divided
out (or twice), a band as deep as a meteorite's in the laboratory, a smooth curve of no meaning, noise, and wavelengths
in a unit that was taken for another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.constants import c, h, k

from astrd.smoothing import NORMALISATION_CHANNEL, WAVELENGTH

Array = NDArray[np.float64]
Random = np.random.Generator

SUN_TEMPERATURE: Final = 5772.0  # K, effective (IAU 2015 Resolution B3)
_CHANNELS: Final = len(WAVELENGTH)


def strange_spectra(kind: str, real: Array, random: Random) -> Array:
    """As many strange spectra (n, 49) of a kind, normalised, as there are real ones (n, 49) to make them from."""
    spectra = KINDS[kind](real, random)
    return np.asarray(spectra / spectra[:, [NORMALISATION_CHANNEL]])


def _lines(real: Array, random: Random) -> Array:
    """Straight lines with a trace of noise, flat ones among them."""
    slope = random.choice([0.0, 1.0], (len(real), 1)) * random.uniform(-0.3, 0.8, (len(real), 1))
    noise = 2e-4 * random.standard_normal(real.shape)
    return 1 + slope * (WAVELENGTH - WAVELENGTH[NORMALISATION_CHANNEL]) + noise


def _sun_left_in(real: Array, random: Random) -> Array:
    """Not divided by the Sun's spectrum, or divided by it twice."""
    metres = WAVELENGTH * 1e-6
    sun = metres**-5 / np.expm1(h * c / (metres * k * SUN_TEMPERATURE))
    return real * sun ** random.choice([-1.0, 1.0], (len(real), 1))


def _deep_bands(real: Array, random: Random) -> Array:
    """A band of 25 to 60% near 0.9 µm, on top of what the spectrum has."""
    depth, centre, width = (random.uniform(*ends, (len(real), 1)) for ends in ((0.25, 0.6), (0.85, 0.95), (0.04, 0.09)))
    return real * (1 - depth * np.exp(-0.5 * ((WAVELENGTH - centre) / width) ** 2))


def _random_curves(real: Array, random: Random) -> Array:
    """Gaussian processes with bumps of about 0.08 µm and 5 to 25% height."""
    covariance = np.exp(-0.5 * ((WAVELENGTH[:, None] - WAVELENGTH) / 0.08) ** 2) + 1e-8 * np.eye(_CHANNELS)
    curves = random.standard_normal(real.shape) @ np.linalg.cholesky(covariance).T
    return np.maximum(1 + random.uniform(0.05, 0.25, (len(real), 1)) * curves, 0.05)


def _noise(real: Array, random: Random) -> Array:
    """Nothing but noise of 10%."""
    return np.maximum(1 + 0.1 * random.standard_normal(real.shape), 0.05)


def _other_unit(real: Array, random: Random) -> Array:
    """A tenth of the spectrum where the whole should be: wavelengths in Å that were taken for nm."""
    part = WAVELENGTH[0] + (WAVELENGTH - WAVELENGTH[0]) / 10
    return np.array([np.interp(part, WAVELENGTH, spectrum) for spectrum in real])


KINDS: Final[Mapping[str, Callable[[Array, Random], Array]]] = {
    "straight line": _lines,
    "Sun left in": _sun_left_in,
    "deep band": _deep_bands,
    "random curve": _random_curves,
    "noise": _noise,
    "other unit": _other_unit,
}
"""Every kind by its name."""

"""The shape of a spectrum in the field's own numbers: its slope, and the depths of two absorption bands.

All three are a weighted sum of smoothed channels divided by another, so that the spectrum's own uncertainties pass
through them exactly but for the division. Depths are measured at fixed wavelengths: a search for the deepest place
would find a band in any noise. They are negative where the spectrum stands above its continuum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astrd.smoothing import NORMALISATION_CHANNEL, NORMALISATION_WAVELENGTH, WAVELENGTH, propagated
from astrd.spectrum import Spectrum

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """`scale` times one weighted sum of channels, (49,) or (n, 49), over another."""

    numerator: Array
    denominator: Array
    scale: float = 100.0

    def of(
        self, spectra: Sequence[Spectrum], reflectance: Array, seen: NDArray[np.bool_]
    ) -> tuple[list[float | None], list[float | None]]:
        """Its value and 1 sigma for each spectrum; None where channels that it needs were not seen.

        Parameters
        ----------
        spectra, reflectance, seen
            Raw spectra, their smoothed channels (n, 49), and which of these the data reach (n, 49).
        """
        needed = (self.numerator != 0) | (self.denominator != 0)
        covered = (seen | ~needed).all(axis=1)
        below = (self.denominator * reflectance).sum(axis=1)
        ratio = (self.numerator * reflectance).sum(axis=1) / below
        weights = (self.numerator - ratio[:, None] * self.denominator) / below[:, None]
        deviation = propagated(
            [s.wavelength for s in spectra],
            [s.reflectance for s in spectra],
            [s.uncertainty for s in spectra],
            self.scale * weights,
        )
        return _where(covered, self.scale * ratio), _where(covered, deviation)


def slope(seen: NDArray[np.bool_]) -> Measure:
    """The spectral slope in % per 0.1 µm, over the channels (n, 49) that were seen.

    It is that of the straight line through 1 at 0.55 µm that fits best by least squares (Bus & Binzel 2002,
    Icarus 158, 146).
    """
    offset = np.where(seen, WAVELENGTH - NORMALISATION_WAVELENGTH, 0.0)
    numerator = offset / (offset**2).sum(axis=1, keepdims=True)
    numerator[:, NORMALISATION_CHANNEL] -= numerator.sum(axis=1)
    return Measure(numerator, _mean_of(NORMALISATION_WAVELENGTH, NORMALISATION_WAVELENGTH), scale=10.0)


def _mean_of(first: float, last: float) -> Array:
    inside = (first - 1e-6 < WAVELENGTH) & (last + 1e-6 > WAVELENGTH)
    return inside / inside.sum()


def _where(covered: NDArray[np.bool_], values: Array) -> list[float | None]:
    return [float(value) if here else None for here, value in zip(covered, values, strict=True)]


_CONTINUUM_07: Final = (_mean_of(0.54, 0.56) + _mean_of(0.84, 0.86)) / 2

BAND_07: Final = Measure(_CONTINUUM_07 - _mean_of(0.68, 0.72), _CONTINUUM_07)
"""Depth in % of the band of hydrated minerals near 0.7 µm, under a straight line from 0.55 to 0.85 µm (the continuum of
Fornasier et al. 2014, Icarus 233, 163); the line at 0.70 µm is the mean of its ends."""

BAND_09: Final = Measure(_mean_of(0.74, 0.76) - _mean_of(0.89, 0.91), _mean_of(0.74, 0.76))
"""Depth in % of the silicate band near 0.9 µm as far as the visible shows it: 1 less the reflectance at 0.90 µm over
that at 0.75 µm (the apparent depth of Ieva et al. 2016, MNRAS 455, 2871, as a depth). No slope is taken out of it."""

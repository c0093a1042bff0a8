"""Classes that cannot be learned from the archive, because it holds no spectrum of them, as they were published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astrd.smoothing import WAVELENGTH

Array = NDArray[np.float64]

CLOSE: Final = 1.3
"""Root mean square distance in units of the class's own spread below which a spectrum resembles it: nine of ten of the
class, if it scatters as published, and about one in a hundred of the archive."""


@dataclass(frozen=True)
class PublishedClass:
    """Mean reflectance (1 at 0.55 µm) of a class at some wavelengths (µm), and its standard deviation."""

    name: str
    wavelength: Array
    mean: Array
    spread: Array

    def distance(self, reflectance: Array) -> Array:
        """Root mean square distance of spectra (n, 49) in units of the spread, shape (n,)."""
        channels = np.searchsorted(WAVELENGTH, self.wavelength - 1e-6)
        return np.asarray(np.sqrt((((reflectance[:, channels] - self.mean) / self.spread) ** 2).mean(axis=1)))


# Bus & Binzel 2002, Icarus 158, 146, Table III
Q: Final = PublishedClass(
    "Q",
    np.array([0.44, 0.50, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.92]),
    np.array([0.830, 0.930, 1.047, 1.087, 1.118, 1.107, 1.041, 0.952, 0.873]),
    np.array([0.044, 0.018, 0.018, 0.027, 0.032, 0.031, 0.023, 0.019, 0.032]),
)


def resembles_q(reflectance: Array) -> NDArray[np.bool_]:
    """Whether spectra (n, 49) are near the published mean of class Q, shape (n,)."""
    return np.asarray(Q.distance(reflectance) < CLOSE)

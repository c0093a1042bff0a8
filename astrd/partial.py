"""Spectra that do not reach both ends of the channels: filled, and answered for all that the ends may have been.

What was not seen is filled from the archive's space, conditioned on what was, many times over, and the answers are
averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astrd.smoothing import CHANNEL_WIDTH, WAVELENGTH
from astrd.spectral_space import SpectralSpace

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

TRUSTED_EXTRAPOLATION: Final = CHANNEL_WIDTH
"""µm beyond a spectrum's ends that its own spline may fill, as in training; further out the archive's space does."""

COMPLETIONS: Final = 32
"""Ways in which the missing channels are filled, over which the answers are averaged."""

_BITS: Final = 1 << np.arange(len(WAVELENGTH))


def filled(space: SpectralSpace, reflectance: Array, missing: Mask) -> Array:
    """Spectra (n, 49) whose missing channels (n, 49) are the ones expected from those that were seen."""
    whole = reflectance.copy()
    for channels, rows in by_pattern(missing):
        whole[rows] = space.completed(reflectance[rows], channels)
    return whole


def averaged(
    probabilities_of: Callable[[Array], Array],
    space: SpectralSpace,
    reflectance: Array,
    missing: Mask,
    ways: int = COMPLETIONS,
) -> Array:
    """Probabilities (n, labels) of spectra (n, 49), averaged over what their missing channels (n, 49) may have been."""
    probabilities = probabilities_of(reflectance)
    for channels, rows in by_pattern(missing):
        completions = space.completions(reflectance[rows], channels, ways)
        answers = probabilities_of(completions.reshape(-1, len(WAVELENGTH)))
        probabilities[rows] = answers.reshape(len(rows), ways, -1).mean(axis=1)
    return probabilities


def by_pattern(missing: Mask) -> list[tuple[Mask, NDArray[np.int64]]]:
    """Each pattern of missing channels (49,) that occurs, with its rows; rows that miss none are in none."""
    if not missing.any():  # as in most surveys, and found out at once
        return []
    partial = np.flatnonzero(missing.any(axis=1))
    codes = missing[partial] @ _BITS  # one number a pattern: to sort rows of 49 takes longer than the network
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    return [(missing[partial[row]], partial[place == number]) for number, row in enumerate(first)]

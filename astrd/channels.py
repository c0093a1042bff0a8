"""Spectra that lie on the 49 channels already: what is wrong with those that cannot be classified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrd.smoothing import NORMALISATION_CHANNEL, WAVELENGTH
from astrd.spectrum import LARGEST, MOST_TIMES_LEVEL, NEEDED_EDGES, NEEDED_RANGE, SLACK

Array = NDArray[np.float64]


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
    low, high = np.searchsorted(WAVELENGTH, np.array(NEEDED_EDGES) - SLACK)

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

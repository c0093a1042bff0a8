"""Smoothing: all raw spectra at once, or one SciPy spline after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.interpolate import make_smoothing_spline

from astrd.smoothing import NORMALISATION_CHANNEL, SMOOTHING_PENALTY, WAVELENGTH, bus_smoothing
from benchmarks.measuring import Comparison, timed
from benchmarks.setting import Setting

TOLERANCE = 1e-6


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """Both ways are found equal before they are measured."""
    table, origin = setting.spectra
    table = table.head(setting.amounts.asteroids)
    columns = [table[name].tolist() for name in ("wavelength", "reflectance", "uncertainty")]

    def one_by_one() -> np.ndarray:
        smoothed = []
        for w, r, u in zip(*columns, strict=True):
            values = make_smoothing_spline(w, r, w=1 / u**2, lam=SMOOTHING_PENALTY)(WAVELENGTH)
            smoothed.append(values / values[NORMALISATION_CHANNEL])
        return np.array(smoothed)

    np.testing.assert_allclose(bus_smoothing(*columns), one_by_one(), rtol=0, atol=TOLERANCE)
    yield Comparison(
        "smoothing", f"{len(table)} raw spectra ({origin}) at once", "one `make_smoothing_spline` a spectrum",
        timed(lambda: bus_smoothing(*columns)), timed(one_by_one), target=10, equal=f"to {TOLERANCE:g}",
    )  # fmt: skip

"""A class that the archive lacks is not taken for its neighbour without a word."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from astrd import dataset
from astrd.smoothing import WAVELENGTH
from astrd.unlearned import Q, resembles_q


def channels(wavelength: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.interp(WAVELENGTH, wavelength, values)


def test_the_published_mean_and_what_scatters_as_published_resemble_it() -> None:
    draws = Q.mean + Q.spread * np.random.default_rng(0).standard_normal((2000, len(Q.mean)))
    spectra = np.array([channels(Q.wavelength, draw) for draw in draws])
    assert resembles_q(channels(Q.wavelength, Q.mean)[None]).all()
    assert resembles_q(spectra).mean() > 0.85


def test_a_flat_spectrum_and_a_deep_band_do_not() -> None:
    flat = np.ones((1, 49))
    deep = channels(Q.wavelength, Q.mean)[None] - 0.3 * (WAVELENGTH > 0.8)
    assert not resembles_q(flat).any()
    assert not resembles_q(deep).any()


@pytest.mark.archive
def test_few_spectra_of_the_archive_resemble_it(raw_table: pd.DataFrame) -> None:
    table = dataset.features(raw_table)
    near = resembles_q(np.array(table["reflectance"].tolist()))
    assert near.mean() < 0.02
    assert set(table["bus_class"][near]) <= {"Sq", "V", "S", "Sr", "Sk", "R"}

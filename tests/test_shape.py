"""Slope and band depths: of spectra whose shape is known, of the archive's classes, and how sure they are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astrd import shape
from astrd.shape import BAND_07, BAND_09, Measure
from astrd.smoothing import WAVELENGTH, Array, bus_smoothing
from astrd.spectrum import Spectrum

W = np.round(np.arange(0.43, 0.935, 0.005), 3)


def spectrum(reflectance: Array, sigma: float = 0.01) -> Spectrum:
    return Spectrum.of(W, reflectance, np.full(len(W), sigma))


def measured(measure: Measure, *spectra: Spectrum, seen: Array | None = None) -> tuple[list, list]:
    smoothed = bus_smoothing(*([getattr(s, n) for s in spectra] for n in ("wavelength", "reflectance", "uncertainty")))
    return measure.of(spectra, smoothed, np.ones(smoothed.shape, bool) if seen is None else seen)


def everything(rows: int = 1) -> Array:
    return np.ones((rows, len(WAVELENGTH)), dtype=bool)


@pytest.mark.parametrize("per_tenth", [-3.0, 0.0, 7.5])
def test_the_slope_of_a_line_is_its_own_in_percent_per_tenth_of_a_micrometre(per_tenth: float) -> None:
    line = spectrum(1 + per_tenth / 10 * (W - 0.55))
    assert measured(shape.slope(everything()), line)[0] == [pytest.approx(per_tenth, abs=1e-6)]
    part = everything() & (WAVELENGTH > 0.5) & (WAVELENGTH < 0.85)
    assert measured(shape.slope(part), line)[0] == [pytest.approx(per_tenth, abs=1e-6)]


@pytest.mark.parametrize("slope", [-0.1, 0.0, 0.8])
def test_a_band_has_the_depth_it_was_given(slope: float) -> None:
    line = 1 + slope * (W - 0.55)
    bands = 1 - 0.05 * np.exp(-(((W - 0.70) / 0.06) ** 2))
    (deep, none), _ = measured(BAND_07, spectrum(line * bands, 0.001), spectrum(line, 0.001))
    assert deep == pytest.approx(5, abs=0.35)
    assert none == pytest.approx(0, abs=0.01)


def test_the_depth_at_09_is_what_is_missing_since_075() -> None:
    fallen = np.where(W > 0.82, 0.8, 1.0)
    (deep, none), _ = measured(BAND_09, spectrum(fallen, 0.0005), spectrum(np.ones_like(W), 0.0005))
    assert deep == pytest.approx(20, abs=0.2)
    assert none == pytest.approx(0, abs=1e-9)


def test_a_spectrum_above_its_continuum_has_a_depth_below_0() -> None:
    hump = 1 + 0.05 * np.exp(-(((W - 0.70) / 0.06) ** 2))
    assert measured(BAND_07, spectrum(hump))[0][0] < -2


def test_what_the_data_do_not_reach_is_none() -> None:
    reached = everything() & (WAVELENGTH < 0.88)
    line = spectrum(1 + 0.2 * (W - 0.55))
    assert measured(BAND_09, line, seen=reached) == ([None], [None])
    assert None not in measured(BAND_07, line, seen=reached)[0]
    assert None not in measured(shape.slope(reached), line)[0]


@pytest.mark.parametrize("measure", [shape.slope(everything()), BAND_07, BAND_09], ids=["slope", "0.7", "0.9"])
def test_the_uncertainty_is_the_scatter_of_repeated_observations(measure: Measure) -> None:
    random = np.random.default_rng(0)
    sigma = np.where(W < 0.7, 0.01, 0.03)
    true = 1.04 * (1 + 0.3 * (W - 0.55) - 0.1 * (W > 0.8) * (W - 0.8))
    once = Spectrum(W, true, sigma)
    (stated,) = measured(measure, once)[1]
    again = [replace(once, reflectance=true + sigma * random.standard_normal(len(W))) for _ in range(2000)]
    scatter = np.std(measured(measure, *again)[0])
    assert stated == pytest.approx(scatter, rel=0.06)
    assert measured(measure, replace(once, uncertainty=sigma * 2))[1][0] > 1.3 * stated


@pytest.fixture(scope="module")
def of_archive(raw_table: pd.DataFrame) -> pd.DataFrame:
    """All measures of all asteroids of the archive, with their classes."""
    spectra = [Spectrum.of(r.wavelength, r.reflectance, r.uncertainty) for r in raw_table.itertuples()]
    seen = everything(len(spectra))
    table = pd.DataFrame({"designation": raw_table["designation"], "bus_class": raw_table["bus_class"]})
    for name, measure in (("slope", shape.slope(seen)), ("band_07", BAND_07), ("band_09", BAND_09)):
        table[name], table[f"{name}_uncertainty"] = measured(measure, *spectra)
    return table


@pytest.mark.archive
class TestOfTheArchive:
    def test_hydrated_classes_have_the_band_at_07_and_the_others_have_none(self, of_archive: pd.DataFrame) -> None:
        median = of_archive.groupby("bus_class")["band_07"].median()
        assert (median[["Ch", "Cgh"]] > 1.5).all()
        assert (median.drop(["Ch", "Cgh"]) < 0.5).all()
        hydrated = of_archive[of_archive["bus_class"] == "Ch"]
        assert (hydrated["band_07"] > 0).mean() > 0.95
        assert (hydrated["band_07"] > 2 * hydrated["band_07_uncertainty"]).mean() > 0.6

    def test_silicates_have_the_band_at_09_and_featureless_classes_have_none(self, of_archive: pd.DataFrame) -> None:
        median = of_archive.groupby("bus_class")["band_09"].median()
        assert (median[["S", "Sa", "Sk", "Sq", "Sr", "V", "R", "A", "O"]] > 9).all()
        assert median["V"] > median["Sr"] > median["S"] > median["K"] > median["X"]
        assert (median[["D", "T", "X", "Xk", "Ch"]] < 1.5).all()

    def test_red_and_blue_classes_have_their_slopes(self, of_archive: pd.DataFrame) -> None:
        median = of_archive.groupby("bus_class")["slope"].median()
        assert median["B"] < -1 < median["C"] < median["X"] < median["T"] < 7 < median["D"]

    def test_vesta_has_the_deepest_band_of_the_great_ones(self, of_archive: pd.DataFrame) -> None:
        great = of_archive.set_index("designation").loc[["1", "2", "3", "4"]]
        assert great["band_09"].idxmax() == "4"
        assert (great[["slope_uncertainty", "band_07_uncertainty", "band_09_uncertainty"]] > 0).all(axis=None)

    def test_the_docs_have_its_medians(self, of_archive: pd.DataFrame) -> None:
        text = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text()
        heading, _, *rows = re.search(r"(?m)^\| \| Ch .*\n(?:\|.*\n)+", text).group().strip().split("\n")
        classes = heading.replace("|", " ").split()
        median = of_archive.groupby("bus_class")[["slope", "band_07", "band_09"]].median().loc[classes]
        for row, measure in zip(rows, median, strict=True):
            said = [float(cell) for cell in row.strip("|").split("|")[1:]]
            np.testing.assert_allclose(said, median[measure], atol=0.051)
        assert of_archive["slope_uncertainty"].median() < 0.06

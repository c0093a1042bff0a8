"""The space of the archive's spectra: what is strange in it, and what was missing from it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from astrd import dataset, simulate
from astrd.dataset import LabelledSpectra
from astrd.smoothing import NORMALISATION_CHANNEL, WAVELENGTH
from astrd.spectral_space import SpectralSpace

Parts = tuple[LabelledSpectra, LabelledSpectra]
BAND = 1 - 0.6 * np.exp(-(((WAVELENGTH - 0.70) / 0.03) ** 2))  # a deep, narrow band that no class has


@pytest.fixture(scope="module", params=["simulated", pytest.param("archive", marks=pytest.mark.archive)])
def parts(request: pytest.FixtureRequest) -> Parts:
    real = request.param == "archive"
    raw = request.getfixturevalue("raw_table") if real else simulate.survey(1341, seed=9)
    return dataset.labelled(dataset.features(raw))


@pytest.fixture(scope="module")
def space(parts: Parts) -> SpectralSpace:
    return SpectralSpace.fit(parts[0].reflectance, parts[0].fold)


def test_one_in_twenty_of_the_held_out_is_strange(space: SpectralSpace, parts: Parts) -> None:
    scores = space.outlier_scores(parts[1].reflectance)
    assert 0.01 < (scores > 1).mean() < 0.10
    assert (scores > 0).all()


def test_the_false_alarms_of_many_spectra_are_five_in_a_hundred() -> None:
    random = np.random.default_rng(0)
    components = random.normal(size=(8, 49))
    spectra = 1 + 0.05 * random.normal(size=(8000, 8)) @ components + 0.01 * random.normal(size=(8000, 49))
    space = SpectralSpace.fit(spectra[:4000], np.arange(4000) % 5)
    assert (space.outlier_scores(spectra[4000:]) > 1).mean() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("shape", [BAND, 2 - BAND, 1 + 0.1 * (-1.0) ** np.arange(49), 1 + 6 * (WAVELENGTH - 0.55)])
def test_shapes_that_no_asteroid_has_are_outliers(space: SpectralSpace, parts: Parts, shape: np.ndarray) -> None:
    strange = parts[1].reflectance * (shape / shape[NORMALISATION_CHANNEL])
    assert (space.outlier_scores(strange) > 1).all()
    ordinary = space.outlier_scores(parts[1].reflectance)
    assert (ordinary <= 1).mean() > 0.9


def test_a_spectrum_of_the_archive_is_less_strange_than_halfway_to_nowhere(space: SpectralSpace, parts: Parts) -> None:
    known = parts[0].reflectance
    away = space.mean + 3 * (known - space.mean)
    assert (space.outlier_scores(away) > space.outlier_scores(known)).mean() > 0.95


def test_a_straight_line_is_smoother_than_any_measurement(space: SpectralSpace) -> None:
    lines = 1 + np.linspace(-0.3, 0.6, 7)[:, None] * (WAVELENGTH - 0.55)
    assert (space.outlier_scores(lines) > 1).all()


def test_a_space_survives_saving(space: SpectralSpace, parts: Parts) -> None:
    again = SpectralSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    rows = parts[1].reflectance
    np.testing.assert_array_equal(again.outlier_scores(rows), space.outlier_scores(rows))


@pytest.mark.parametrize(
    "missing", [WAVELENGTH < 0.49, WAVELENGTH > 0.86, (WAVELENGTH < 0.47) | (WAVELENGTH > 0.87)], ids=str
)
def test_missing_ends_are_foreseen_better_than_by_the_mean(
    space: SpectralSpace, parts: Parts, missing: np.ndarray
) -> None:
    truth = parts[1].reflectance
    hidden = np.where(missing, 99.0, truth)  # what stands there must not matter
    before = hidden.copy()
    completed = space.completed(hidden, missing)
    np.testing.assert_array_equal(hidden, before)
    np.testing.assert_array_equal(completed[:, ~missing], truth[:, ~missing])
    error = np.sqrt(((completed - truth)[:, missing] ** 2).mean())
    of_the_mean = np.sqrt(((space.mean - truth)[:, missing] ** 2).mean())
    assert error < 0.5 * of_the_mean


def test_a_spectrum_with_nothing_missing_is_left_as_it_is(space: SpectralSpace, parts: Parts) -> None:
    spectra = parts[1].reflectance
    np.testing.assert_array_equal(space.completed(spectra, np.zeros(49, dtype=bool)), spectra)


def test_the_threshold_is_set_on_spectra_that_were_left_out(parts: Parts) -> None:
    train = parts[0]
    few = train[np.arange(len(train)) < 120]
    honest = SpectralSpace.fit(few.reflectance, few.fold)
    learned_by_heart = (honest.outlier_scores(few.reflectance) > 1).mean()
    assert learned_by_heart < 0.05


@pytest.mark.archive
def test_spectra_of_the_archive_that_stand_out_are_not_of_common_classes(raw_table: pd.DataFrame) -> None:
    table = dataset.features(raw_table)
    train, _ = dataset.labelled(table)
    space = SpectralSpace.fit(train.reflectance, train.fold)
    scores = pd.Series(space.outlier_scores(np.array(table["reflectance"].tolist())), index=table["bus_class"])
    mean = scores.groupby(level=0).mean()
    assert mean[["V", "A", "D", "R"]].min() > mean[["S", "C", "X", "Ch"]].max()

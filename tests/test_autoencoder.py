"""Autoencoders start at principal components, learn what those cannot, and leave the process as Keras files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astrd import dataset
from astrd.autoencoder import (
    Autoencoder,
    FittedAutoencoder,
    PrincipalComponents,
    cross_validate_compression,
    rms,
)
from astrd.dataset import LabelledSpectra
from astrd.training import Schedule

Parts = tuple[LabelledSpectra, LabelledSpectra]

SMALL = Autoencoder(2, filters=(8, 8), kernel_sizes=(5, 3), units=24, copies=2)


def median_rms(compression, spectra: LabelledSpectra) -> float:
    return float(np.median(rms(compression.reconstruct(spectra.reflectance) - spectra.reflectance)))


@pytest.fixture(scope="module")
def trained(simulated_parts: Parts) -> FittedAutoencoder:
    return replace(SMALL, schedule=replace(SMALL.schedule, epochs=8)).fit(simulated_parts[0])


def test_it_starts_at_the_principal_components(simulated_parts: Parts) -> None:
    train, test = simulated_parts
    still = Schedule(epochs=1, learning_rate=0.0, weight_decay=0.0)
    fitted = replace(SMALL, schedule=still).fit(train)
    pca = PrincipalComponents.fit(train, 2)
    # It standardises by, and so starts at the components of, the nine tenths that it does not stop by.
    assert median_rms(fitted, test) == pytest.approx(median_rms(pca, test), rel=0.05)
    assert fitted.encode(test.reflectance).shape == pca.encode(test.reflectance).shape == (len(test), 2)
    first = np.corrcoef(fitted.encode(test.reflectance)[:, 0], pca.encode(test.reflectance)[:, 0])[0, 1]
    assert abs(first) > 0.99


def test_principal_components_are_a_projection(simulated_parts: Parts) -> None:
    train, test = simulated_parts
    pca = PrincipalComponents.fit(train, 3)
    once = pca.reconstruct(test.reflectance)
    np.testing.assert_allclose(pca.reconstruct(once), once, atol=1e-12)
    assert median_rms(PrincipalComponents.fit(train, 5), test) < median_rms(pca, test)
    assert median_rms(PrincipalComponents.fit(train, 49), test) < 1e-12


def test_it_bends_where_straight_lines_cannot_follow() -> None:
    """Spectra on a curve in three dimensions: one number is enough for it, and for no straight line."""
    random = np.random.default_rng(0)
    angle = random.uniform(-2.5, 2.5, 500)
    shapes = np.linalg.qr(random.standard_normal((49, 3)))[0].T
    reflectance = 1 + np.stack([2 * angle, np.sin(angle) * 2, np.cos(angle) * 2], axis=1) @ shapes
    fold = np.arange(500) % 5
    spectra = LabelledSpectra(
        tuple(map(str, range(500))), reflectance, np.zeros(500, dtype=np.int64), fold, np.ones(500, dtype=bool)
    )
    train, test = spectra[fold > 0], spectra[fold == 0]
    model = replace(SMALL, latent=1, copies=1, schedule=Schedule(epochs=60, batch_size=32, averaging=0.95))
    straight, bent = median_rms(PrincipalComponents.fit(train, 1), test), median_rms(model.fit(train), test)
    assert bent < 0.6 * straight


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras, when it saves
def test_the_keras_file_answers_as_the_fitted_network(
    trained: FittedAutoencoder, simulated_parts: Parts, tmp_path: Path
) -> None:
    import keras

    _, test = simulated_parts
    trained.keras_model().save(tmp_path / "autoencoder.keras")
    loaded = keras.models.load_model(tmp_path / "autoencoder.keras")
    answers = np.array(loaded(test.reflectance.astype(np.float32)))
    np.testing.assert_allclose(answers, trained.reconstruct(test.reflectance), atol=1e-5)
    assert np.abs(answers - test.reflectance).max() > 1e-3  # two numbers cannot hold all of a spectrum


def test_one_seed_gives_the_same_network_and_another_a_different_one(simulated_parts: Parts) -> None:
    train, test = simulated_parts
    quick = replace(SMALL, schedule=replace(SMALL.schedule, epochs=2))
    first, again, other = (replace(quick, seed=seed).fit(train) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.encode(test.reflectance), again.encode(test.reflectance))
    pd.testing.assert_frame_equal(first.curves, again.curves)
    assert not np.allclose(first.encode(test.reflectance), other.encode(test.reflectance))


def test_every_spectrum_is_reconstructed_by_a_compression_that_had_not_seen_it(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    held_out = cross_validate_compression(partial(PrincipalComponents.fit_each, latent=4), train)
    for fold, compression in enumerate(held_out.compressions):
        rows = train.fold == fold
        alone = PrincipalComponents.fit(train[~rows], 4).reconstruct(train.reflectance[rows])
        np.testing.assert_allclose(held_out.reconstructed[rows], alone)
        assert compression.encode(train.reflectance).shape == (len(train), 4)
    seen = PrincipalComponents.fit(train, 4).reconstruct(train.reflectance) - train.reflectance
    assert np.square(held_out.reconstructed - train.reflectance).sum() > np.square(seen).sum()


@pytest.mark.archive
def test_on_the_archive_it_loses_less_than_principal_components(raw_table: pd.DataFrame) -> None:
    """On three folds of five: on one alone, chance in the start counts for as much as the gain."""
    train, _ = dataset.labelled(dataset.features(raw_table))
    folds = (0, 1, 2)
    for latent, copies, gain in ((2, 24, 0.97), (5, 8, 0.99)):
        model = Autoencoder(latent, copies=copies)
        quick = replace(model, schedule=replace(model.schedule, epochs=25))
        ratios = [
            median_rms(fitted, train[train.fold == fold])
            / median_rms(PrincipalComponents.fit(train[train.fold != fold], latent), train[train.fold == fold])
            for fold, fitted in zip(folds, quick.fit_each([train[train.fold != fold] for fold in folds]), strict=True)
        ]
        assert np.mean(ratios) < gain, ratios

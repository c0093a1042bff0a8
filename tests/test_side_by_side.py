"""Networks side by side answer, and learn, as each of them does alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from astrd import autoencoder, networks
from astrd.autoencoder import Autoencoder
from astrd.backend import tensorflow
from astrd.dataset import LabelledSpectra
from astrd.evaluation import cross_validate
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import Architecture, ConvolutionalNetwork, DenseNetwork
from astrd.side_by_side import SideBySide

if TYPE_CHECKING:
    import keras

Parts = tuple[LabelledSpectra, LabelledSpectra]

STRIDES = ConvolutionalNetwork((8, 12), (5, 4), units=16)
POOLING = ConvolutionalNetwork((8, 12), (7, 5), downsampling="max-pooling", units=16)
DENSE = DenseNetwork((25, 10), dropout=0.3)

KINDS: dict[str, Callable[[int], Any]] = {
    "strides": lambda seed: networks.build(STRIDES, 26, seed),
    "pooling": lambda seed: networks.build(POOLING, 4, seed),
    "dense": lambda seed: networks.build(DENSE, 4, seed),
    "autoencoder": lambda seed: autoencoder.build(Autoencoder(2), seed),
}


def stacked(members: Sequence[keras.Model]) -> list[np.ndarray]:
    """Weights as `SideBySide` takes them."""
    each = zip(*(network.get_weights() for network in members), strict=True)
    shapes = SideBySide(tensorflow(), members[0], len(members)).shapes
    return [np.stack(own).reshape(-1, *shape) for own, shape in zip(each, shapes, strict=True)]


def spectra(members: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((members, 20, 49)).astype(np.float32)


def shaken(network: keras.Model) -> keras.Model:
    """With no weight left at nothing, where a mistake would not show."""
    random = np.random.default_rng(1)
    network.set_weights([w + 0.3 * np.abs(random.standard_normal(w.shape)) for w in network.get_weights()])
    return network


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_members_answer_as_keras_does(kind: str, members: int) -> None:
    alone = [shaken(KINDS[kind](seed)) for seed in range(members)]
    x = spectra(members)
    answers, statistics = SideBySide(tensorflow(), alone[0], members)(stacked(alone), x)
    expected = [network(own, training=False) for network, own in zip(alone, x, strict=True)]
    np.testing.assert_allclose(answers, expected, rtol=2e-4, atol=2e-4)
    assert statistics == {}
    if members > 1:
        assert np.abs(np.diff(expected, axis=0)).max() > 0.1


@pytest.mark.parametrize("members", [1, 3])
def test_batch_statistics_are_those_of_keras(members: int) -> None:
    architecture = ConvolutionalNetwork((8, 12), (5, 4), units=16, dropout=0.0)
    alone = [shaken(networks.build(architecture, 4, seed)) for seed in range(members)]
    x = spectra(members)
    seeds = np.zeros((members, 2), dtype=np.int32)
    answers, statistics = SideBySide(tensorflow(), alone[0], members)(stacked(alone), x, seeds)
    expected = [network(own, training=True) for network, own in zip(alone, x, strict=True)]  # moves its statistics
    np.testing.assert_allclose(answers, expected, rtol=2e-4, atol=2e-4)
    moved = stacked(alone)
    places = [place for place, variable in enumerate(alone[0].weights) if not variable.trainable]
    assert sorted(statistics) == places
    for place in places:
        np.testing.assert_allclose(statistics[place], moved[place], rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_for_each_member_by_its_seed() -> None:
    alone = [networks.build(DENSE, 4, 0)] * 3
    x = np.repeat(spectra(1), 3, axis=0)
    seeds = np.array([[5, 0], [5, 0], [6, 0]], dtype=np.int32)
    side_by_side = SideBySide(tensorflow(), alone[0], 3)
    first, same, other = np.array(side_by_side(stacked(alone), x, seeds)[0])
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1
    later = np.array(side_by_side(stacked(alone), x, seeds + np.array([0, 1]))[0])[0]
    assert np.abs(first - later).max() > 0.1


def test_a_layer_that_is_not_provided_for_is_named() -> None:
    import keras

    tf = tensorflow()
    spectrum = keras.Input((49,))
    network = keras.Model(spectrum, keras.layers.LayerNormalization()(spectrum))
    with pytest.raises(TypeError, match=r"expected layers of .*Dense.*; got LayerNormalization"):
        SideBySide(tf, network, 2)(stacked([network, network]), spectra(2))
    dilated = keras.layers.Conv1D(2, 3, dilation_rate=2, padding="same")(keras.layers.Reshape((49, 1))(spectrum))
    network = keras.Model(spectrum, dilated)
    with pytest.raises(TypeError, match="expected a convolution with padding alone"):
        SideBySide(tf, network, 2)(stacked([network, network]), spectra(2))


def parts_of(train: LabelledSpectra) -> list[LabelledSpectra]:
    """Of different sizes, and so with a different number of steps an epoch."""
    return [train[train.fold != 0], train[train.fold < 2], train]


@pytest.mark.parametrize("architecture", [STRIDES, POOLING, DENSE])
def test_networks_learn_side_by_side_what_each_learns_alone(architecture: Architecture, simulated_parts: Parts) -> None:
    train, test = simulated_parts
    model = NetworkModel("test", "main_group", architecture, Recipe(epochs=4, averaging=0.9, balanced=True))
    together = model.fit_each(parts_of(train))
    for part, fitted in zip(parts_of(train), together, strict=True):
        alone = model.fit(part)
        np.testing.assert_allclose(fitted.curves, alone.curves, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(
            fitted.probabilities(test.reflectance), alone.probabilities(test.reflectance), atol=5e-3
        )
    assert np.abs(together[0].curves["loss"] - together[1].curves["loss"]).max() > 0.01


def test_each_network_stops_by_its_own_spectra(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    recipe = Recipe(epochs=60, patience=2, averaging=0.8, learning_rate=0.02)
    together = NetworkModel("test", "main_group", STRIDES, recipe).fit_each(parts_of(train))
    lengths = [len(fitted.curves) for fitted in together]
    assert len(set(lengths)) > 1
    for fitted in together:
        curve = fitted.curves["validation_loss"]
        assert len(curve) == 60 or len(curve) - 1 - curve.argmin() == 2


def test_members_of_one_graph_score_as_those_of_graphs_of_their_own(simulated_parts: Parts) -> None:
    """Over seeds, as the last bits of sums differ, and grow as networks learn."""
    train, _ = simulated_parts
    recipe = Recipe(epochs=25, averaging=0.9)

    class Alone(NetworkModel):
        def fit_each(self, parts: Sequence[LabelledSpectra]) -> list[Any]:
            return [self.fit(part) for part in parts]

        def fit(self, spectra: LabelledSpectra) -> Any:
            return NetworkModel.fit_each(self, [spectra])[0]

    found = {
        kind: [
            cross_validate(kind("test", "main_group", DENSE, recipe, seed=seed), train).fold_scores["main_weighted_f1"]
            for seed in range(4)
        ]
        for kind in (NetworkModel, Alone)
    }
    together, alone = (np.mean(scores, axis=1) for scores in found.values())
    assert abs(together.mean() - alone.mean()) < 0.02
    assert abs(together.std() - alone.std()) < 0.02
    assert alone.mean() > 0.7

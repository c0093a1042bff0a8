"""Networks learn the same from the same seed, stop at their best, and leave Keras as they were."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax

from astrd import dataset, networks
from astrd.dataset import LabelledSpectra
from astrd.metrics import scores
from astrd.network_models import FittedNetwork, NetworkModel, Recipe
from astrd.networks import Architecture, ConvolutionalNetwork, DenseNetwork, deployable, to_onnx
from astrd.smoothing import NORMALISATION_CHANNEL
from astrd.taxonomy import BUS_CLASSES, ROLL_UP, Target

Parts = tuple[LabelledSpectra, LabelledSpectra]

SMALL = ConvolutionalNetwork((8, 12), (5, 3), units=16)
DENSE = DenseNetwork((16,))
QUICK = Recipe(epochs=4)
LONGER = Recipe(epochs=60, averaging=0.9)  # on few spectra an epoch has few steps to average over


def model_of(
    target: Target = "bus_class", architecture: Architecture = SMALL, recipe: Recipe = QUICK, **changes: Any
) -> NetworkModel:
    return NetworkModel("test", target, architecture, recipe, **changes)


@pytest.fixture(scope="module")
def network() -> NetworkModel:
    return model_of()


@pytest.fixture(scope="module")
def trained(simulated_parts: Parts) -> FittedNetwork:
    return model_of(recipe=LONGER, members=2).fit(simulated_parts[0])


def weights_of(fitted: FittedNetwork) -> list[np.ndarray]:
    return [array for member in fitted.members for array in member.weights]


def equal(first: FittedNetwork, second: FittedNetwork) -> bool:
    """Whether the weights are the same to the last bit."""
    return all(np.array_equal(a, b) for a, b in zip(weights_of(first), weights_of(second), strict=True))


def test_one_seed_gives_the_same_weights_whatever_was_fitted_between(
    network: NetworkModel, simulated_parts: Parts
) -> None:
    train, _ = simulated_parts
    first = network.fit(train)
    network.fit(train[train.fold != 0])
    model_of("main_group", DENSE).fit(train)
    again = network.fit(train)
    assert equal(first, again)
    pd.testing.assert_frame_equal(first.curves, again.curves)


def test_one_seed_gives_the_same_weights_in_another_thread_and_another_graph(
    network: NetworkModel, simulated_parts: Parts
) -> None:
    train, _ = simulated_parts
    found: list[FittedNetwork] = []
    models = [network, replace(network), replace(network, seed=1)]
    threads = [threading.Thread(target=lambda model=model: found.append((model, model.fit(train)))) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = network.fit(train)
    fitted = {id(model): result for model, result in found}
    assert equal(here, fitted[id(models[0])])
    assert equal(here, fitted[id(models[1])])
    assert not equal(here, fitted[id(models[2])])


def test_threads_that_share_a_model_do_not_mix_their_weights(network: NetworkModel, simulated_parts: Parts) -> None:
    train, test = simulated_parts
    first = network.fit(train[train.fold != 0])
    expected = first.probabilities(test.reflectance)
    alone = [network.fit(train[train.fold != fold]) for fold in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        fits = [pool.submit(network.fit, train[train.fold != fold]) for fold in (1, 2)]
        asked = 0
        while not all(fit.done() for fit in fits) or asked == 0:
            np.testing.assert_array_equal(first.probabilities(test.reflectance), expected)
            asked += 1
    assert [equal(fit.result(), own) for fit, own in zip(fits, alone, strict=True)] == [True, True]


def test_members_are_of_different_seeds_and_answer_with_their_mean(
    trained: FittedNetwork, simulated_parts: Parts
) -> None:
    _, test = simulated_parts
    alone = [replace(trained, members=(member,)).probabilities(test.reflectance) for member in trained.members]
    assert not np.allclose(*alone, atol=1e-3)
    np.testing.assert_allclose(trained.probabilities(test.reflectance), np.mean(alone, axis=0))
    assert trained.curves["member"].unique().tolist() == [1, 2]


def test_the_loss_falls_and_the_network_beats_chance_by_far(trained: FittedNetwork, simulated_parts: Parts) -> None:
    _, test = simulated_parts
    curves = trained.curves[trained.curves["member"] == 1]
    assert curves["loss"].iloc[-1] < 0.6 * curves["loss"].iloc[0]
    assert curves["validation_loss"].min() < 0.6 * curves["validation_loss"].iloc[0]
    found = scores("bus_class", test, trained.probabilities(test.reflectance))
    chance = scores("bus_class", test, np.tile(np.bincount(test.bus, minlength=26) / len(test), (len(test), 1)))
    assert found["main_weighted_f1"] > 0.85 > 0.5 > chance["main_weighted_f1"]
    assert found["bus_accuracy"] > 0.6 > 0.5 > chance["bus_accuracy"]


def test_labels_without_a_pattern_are_not_learned(simulated_parts: Parts) -> None:
    train, test = simulated_parts
    shuffled = replace(train, bus=np.random.default_rng(0).permutation(train.bus))
    fitted = model_of(recipe=LONGER).fit(shuffled)
    assert scores("bus_class", test, fitted.probabilities(test.reflectance))["main_weighted_f1"] < 0.6


@pytest.mark.parametrize("group_loss", [0.0, 1.0])
def test_early_stopping_goes_back_to_the_best_weights(simulated_parts: Parts, group_loss: float) -> None:
    train, validation = simulated_parts
    recipe = Recipe(epochs=60, patience=3, averaging=0.8, learning_rate=0.02, group_loss=group_loss)
    fitted = model_of(recipe=recipe).fit_with_validation(train, validation)
    curve = fitted.curves["validation_loss"]
    assert len(curve) < 60
    assert len(curve) - 1 - curve.argmin() == 3  # it went on for as long as its patience
    (member,) = fitted.members
    logits = fitted.model._training.outputs(member.weights, (validation.reflectance - member.mean) / member.deviation)
    rows = np.arange(len(validation))
    loss = -log_softmax(logits, axis=1)[rows, validation.bus]
    loss -= group_loss * np.log(softmax(logits, axis=1) @ ROLL_UP + 1e-7)[rows, validation.codes("main_group")]
    assert loss.mean() == pytest.approx(curve.min(), abs=1e-5)
    assert abs(loss.mean() - curve.iloc[-1]) > 1e-4


def test_the_spectra_that_stop_a_network_do_not_standardise_it(network: NetworkModel, simulated_parts: Parts) -> None:
    train, validation = simulated_parts
    moved = replace(validation, reflectance=validation.reflectance + 3)
    first, second = (network.fit_with_validation(train, held_out) for held_out in (validation, moved))
    np.testing.assert_array_equal(first.members[0].mean, train.reflectance.mean(axis=0))
    np.testing.assert_array_equal(first.members[0].mean, second.members[0].mean)
    assert first.members[0].deviation == second.members[0].deviation
    assert first.curves["validation_loss"].iloc[0] != second.curves["validation_loss"].iloc[0]
    assert first.curves["loss"].iloc[0] == second.curves["loss"].iloc[0]


def test_the_constant_channel_at_055_does_no_harm(network: NetworkModel, simulated_parts: Parts) -> None:
    train, test = simulated_parts
    for spectra in (train, test):
        np.testing.assert_allclose(spectra.reflectance[:, NORMALISATION_CHANNEL], 1, atol=1e-12)
    fitted = network.fit(train)
    assert np.isfinite(fitted.curves.to_numpy()).all()
    assert np.isfinite(fitted.probabilities(test.reflectance)).all()


def test_labels_that_were_not_there_get_exactly_nothing(network: NetworkModel, simulated_parts: Parts) -> None:
    train, test = simulated_parts
    without = train[train.bus != BUS_CLASSES.index("Ch")]
    found = network.fit(without).probabilities(test.reflectance)
    present = np.isin(np.arange(26), without.bus)
    assert not present[BUS_CLASSES.index("Ch")]
    assert (found[:, ~present] == 0).all()
    assert (found[:, present] > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert network.fit(train).probabilities(test.reflectance)[:, BUS_CLASSES.index("Ch")].min() > 0


def test_balanced_weights_help_the_rare(simulated_parts: Parts) -> None:
    train, test = simulated_parts
    x = train.codes("x_vs_rest") == 1
    kept = np.flatnonzero(x)[:8]
    lopsided = train[np.sort(np.concatenate([np.flatnonzero(~x), kept]))]
    shares = [
        model_of("x_vs_rest", DENSE, replace(LONGER, epochs=10, balanced=balanced))
        .fit(lopsided)
        .probabilities(test.reflectance)[:, 1]
        .mean()
        for balanced in (False, True)
    ]
    assert shares[1] > 1.5 * shares[0]


@pytest.mark.parametrize("batch_size", [64, 512], ids=["within an epoch", "in the only step of an epoch"])
def test_a_diverging_learning_rate_is_named(simulated_parts: Parts, batch_size: int) -> None:
    recipe = Recipe(epochs=30, learning_rate=1e30, batch_size=batch_size)
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) after epoch 1: try a learning rate below 1e\+30"):
        model_of(architecture=DENSE, recipe=recipe).fit(simulated_parts[0])


def test_too_few_spectra_to_stop_early_by_are_named(simulated_parts: Parts) -> None:
    few = simulated_parts[0][np.arange(6)]
    with pytest.raises(ValueError, match="expected spectra to stop early by"):
        model_of(architecture=DENSE).fit(few)


@pytest.mark.parametrize("downsampling", ["stride", "max-pooling"])
def test_each_convolution_is_fed_by_the_one_before(downsampling) -> None:
    import keras

    architecture = ConvolutionalNetwork((8, 12, 16), (5, 5, 3), downsampling)
    network = networks.build(architecture, 26, seed=0)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv1D)]
    assert [layer.input.shape[1:] for layer in convolutions] == [(49, 1), *_fed(downsampling)]
    inputs = keras.Model(network.input, [layer.input for layer in convolutions])
    spectrum = np.linspace(-1, 1, 49)[None]
    before = [np.array(value) for value in inputs(spectrum)]
    convolutions[0].kernel.assign(convolutions[0].kernel + 1.0)
    after = [np.array(value) for value in inputs(spectrum)]
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, False, False]


def _fed(downsampling: str) -> list[tuple[int, int]]:
    return [(25, 8), (13, 12)] if downsampling == "stride" else [(24, 8), (12, 12)]


def test_a_kernel_size_for_each_convolution_is_needed() -> None:
    with pytest.raises(ValueError, match="expected a kernel size for each convolution, got 2 numbers of filters and 1"):
        ConvolutionalNetwork((8, 8), (3,))


def test_fresh_weights_come_of_the_seed() -> None:
    first, again, other = (networks.build(SMALL, 4, seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def spectra_to_compare(request: pytest.FixtureRequest) -> np.ndarray:
    if request.param == "simulated":
        return request.getfixturevalue("simulated_parts")[1].reflectance
    raw = request.getfixturevalue("raw_table")
    return np.array(dataset.features(raw)["reflectance"].tolist())


reflectance = pytest.fixture(params=["simulated", pytest.param("archive", marks=pytest.mark.archive)])(
    spectra_to_compare
)


def onnx_logits(network: bytes, reflectance: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: reflectance.astype(np.float32)})[0]


@pytest.mark.parametrize("members", [1, 2])
def test_onnx_keras_and_the_fitted_network_agree(trained: FittedNetwork, reflectance: np.ndarray, members: int) -> None:
    fitted = replace(trained, members=trained.members[:members])
    keras_model = fitted.keras_model()
    in_keras = softmax(np.array(keras_model(reflectance.astype(np.float32)), dtype=float), axis=1)
    in_onnx = softmax(onnx_logits(to_onnx(keras_model), reflectance).astype(float), axis=1)
    np.testing.assert_allclose(in_onnx, in_keras, atol=1e-5)
    with_all_labels = replace(fitted, present=np.ones(26, dtype=bool))
    np.testing.assert_allclose(in_onnx, with_all_labels.probabilities(reflectance), atol=1e-5)


def test_several_members_deploy_as_the_mean_of_their_probabilities(simulated_parts: Parts) -> None:
    _, test = simulated_parts
    mean = test.reflectance.mean(axis=0)
    members = [(networks.build(DENSE, 4, seed), mean + seed, 0.1 + seed) for seed in (0, 1, 2)]
    rows = test.reflectance.astype(np.float32)
    alone = [softmax(np.array(deployable([member])(rows), dtype=float), axis=1) for member in members]
    together = np.exp(np.array(deployable(members)(rows), dtype=float))
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)

"""Networks and machines in one graph: what it answers is what they answer together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.svm import SVC

from astrd.classical import CommonScaler
from astrd.dataset import LabelledSpectra
from astrd.ensemble import SVM_WEIGHT, EnsembleModel, FittedEnsemble
from astrd.evaluation import cross_validate
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork, to_onnx
from astrd.onnx_network import OnnxNetwork
from astrd.pairwise_svm import FittedPairwiseSvm, PairwiseSvm
from astrd.taxonomy import BUS_CLASSES

Parts = tuple[LabelledSpectra, LabelledSpectra]
SMALL = NetworkModel(
    "small", "bus_class", ConvolutionalNetwork((8,), (5,), units=16), Recipe(epochs=12, averaging=0.8), 2
)


@pytest.fixture(scope="module")
def machines(simulated_parts: Parts) -> FittedPairwiseSvm:
    train, _ = simulated_parts
    return PairwiseSvm().fit(train.reflectance, train.bus, len(BUS_CLASSES))


@pytest.fixture(scope="module")
def fitted(simulated_parts: Parts) -> FittedEnsemble:
    return EnsembleModel("small", SMALL).fit(simulated_parts[0])


def test_pairs_vote_as_those_of_scikit_learn(simulated_parts: Parts, machines: FittedPairwiseSvm) -> None:
    train, test = simulated_parts
    scaler = CommonScaler().fit(train.reflectance)
    machine = SVC(C=PairwiseSvm.C, gamma=PairwiseSvm.gamma, decision_function_shape="ovo", break_ties=False)
    machine.fit(scaler.transform(train.reflectance), train.bus)
    margins = machine.decision_function(scaler.transform(test.reflectance))
    first, second = np.triu_indices(len(machine.classes_), k=1)
    expected = np.zeros((len(test), len(BUS_CLASSES)))
    for pair, (i, j) in enumerate(zip(machine.classes_[first], machine.classes_[second], strict=True)):
        expected[:, i] -= np.logaddexp(0, -4 * margins[:, pair])
        expected[:, j] -= np.logaddexp(0, 4 * margins[:, pair])
    np.testing.assert_allclose(machines.scores(test.reflectance), expected, atol=0.02)
    voted = machine.predict(scaler.transform(test.reflectance))
    assert (machine.classes_[expected[:, machine.classes_].argmax(axis=1)] == voted).mean() > 0.9


@pytest.mark.parametrize("labels", [2, 3])
def test_few_labels_are_told_apart_too(simulated_parts: Parts, labels: int) -> None:
    """Of two classes scikit-learn gives the margin the other way round."""
    train, test = simulated_parts
    common = np.argsort(-np.bincount(train.bus))[:labels]
    rows, tried = np.isin(train.bus, common), np.isin(test.bus, common)
    scores = PairwiseSvm().fit(train.reflectance[rows], train.bus[rows], 26).scores(test.reflectance[tried])
    right = np.sort(common)[scores[:, np.sort(common)].argmax(axis=1)] == test.bus[tried]
    assert right.mean() > 0.8


def test_the_pool_is_the_product_of_what_both_say(simulated_parts: Parts, fitted: FittedEnsemble) -> None:
    spectra = simulated_parts[1].reflectance
    with np.errstate(divide="ignore"):
        logits = np.log(fitted.network.probabilities(spectra)) + SVM_WEIGHT * fitted.machines.scores(spectra)
    np.testing.assert_allclose(fitted.probabilities(spectra), softmax(logits, axis=1))
    assert not np.allclose(fitted.probabilities(spectra), fitted.network.probabilities(spectra), atol=0.05)


def test_the_graph_answers_without_tensorflow_what_the_ensemble_answers(
    simulated_parts: Parts, fitted: FittedEnsemble
) -> None:
    train, test = simulated_parts
    present = np.isin(np.arange(len(BUS_CLASSES)), train.bus)
    logits = OnnxNetwork(to_onnx(fitted.keras_model()))(test.reflectance)
    answers = softmax(np.where(present, logits, -np.inf), axis=1)
    np.testing.assert_allclose(answers, fitted.probabilities(test.reflectance), atol=0.01)  # both in single precision
    assert (answers.argmax(axis=1) == fitted.probabilities(test.reflectance).argmax(axis=1)).mean() > 0.98


@pytest.mark.archive
def test_machines_alone_know_the_archive(archive_parts: Parts) -> None:
    """Seven eighths of the Bus classes out of fold, far above the nearest class template (0.65)."""
    train, _ = archive_parts

    class Machines:
        name, target, params = "machines", "bus_class", PairwiseSvm().params()

        def fit(self, spectra: LabelledSpectra) -> object:
            fitted = PairwiseSvm().fit(spectra.reflectance, spectra.bus, len(BUS_CLASSES))
            present = np.isin(np.arange(len(BUS_CLASSES)), spectra.bus)

            class Fitted:
                curves = None

                def probabilities(self, reflectance: np.ndarray) -> np.ndarray:
                    return softmax(np.where(present, fitted.scores(reflectance), -np.inf), axis=1)

            return Fitted()

    summary = cross_validate(Machines(), train).summary()
    assert summary["cv_bus_accuracy"] > 0.85
    assert summary["cv_main_weighted_f1"] > 0.955

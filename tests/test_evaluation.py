"""Any model is judged by the folds that the table stores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from astrd.dataset import LabelledSpectra
from astrd.evaluation import CrossValidation, cross_validate
from astrd.metrics import scores

Parts = tuple[LabelledSpectra, LabelledSpectra]


@dataclass
class Witness:
    """A model that remembers whom it learned from, and answers with how many fits there were."""

    learned: list[set[str]] = field(default_factory=list)
    name: str = "witness"
    target: str = "main_group"
    params: dict = field(default_factory=dict)

    def fit(self, spectra: LabelledSpectra) -> Statement:
        self.learned.append(set(spectra.designation))
        return Statement((len(self.learned) - 1) % 4)


@dataclass
class Statement:
    """What a witness has learned: one answer."""

    answer: int
    curves: None = None

    def probabilities(self, reflectance: np.ndarray) -> np.ndarray:
        return np.tile(np.eye(4)[self.answer], (len(reflectance), 1))


def test_each_spectrum_is_predicted_by_the_model_that_did_not_see_its_stored_fold(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    model = Witness()
    found = cross_validate(model, train)
    for fold, learned in enumerate(model.learned):
        held_out = {name for name, own in zip(train.designation, train.fold, strict=True) if own == fold}
        assert held_out
        assert learned == set(train.designation) - held_out
    assert len(model.learned) == 5
    assert found.probabilities.argmax(axis=1).tolist() == (train.fold % 4).tolist()


def test_other_folds_give_other_predictions(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    turned = replace(train, fold=(train.fold + 1) % 5)
    first, second = cross_validate(Witness(), train), cross_validate(Witness(), turned)
    assert not np.array_equal(first.probabilities, second.probabilities)


def test_the_score_of_a_fold_is_that_of_its_own_spectra(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    found = cross_validate(Witness(), train)
    for fold in range(5):
        rows = train.fold == fold
        expected = scores("main_group", train[rows], found.probabilities[rows])
        assert {name: values[fold] for name, values in found.fold_scores.items()} == expected


def test_progress_is_told_after_every_fold(simulated_parts: Parts) -> None:
    told: list[int] = []
    cross_validate(Witness(), simulated_parts[0], on_fold=told.append)
    assert told == [1, 2, 3, 4, 5]


def test_the_summary_is_mean_and_sample_deviation() -> None:
    found = CrossValidation(np.zeros((0, 4)), {"main_accuracy": (0.9, 0.8, 0.7, 0.8, 0.8)}, ()).summary()
    assert found.keys() == {"cv_main_accuracy", "cv_main_accuracy_sd"}
    assert found["cv_main_accuracy"] == pytest.approx(0.8)
    assert found["cv_main_accuracy_sd"] == pytest.approx(np.sqrt(0.02 / 4))

"""A label is in doubt when every model that had not learned the asteroid contradicts it; strange is what is rare."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from astrd import dataset
from astrd.analogues import Archive
from astrd.audit import OutOfFold, draw_shares, label_audit, neighbours
from astrd.autoencoder import PrincipalComponents, cross_validate_compression
from astrd.classical import svm
from astrd.dataset import LabelledSpectra
from astrd.evaluation import cross_validate
from astrd.outliers import held_out_log_density, rare_class_auc, strangeness
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS, ROLL_UP

Parts = tuple[LabelledSpectra, LabelledSpectra]

S, C, V = (BUS_CLASSES.index(name) for name in "SCV")


def sure(classes: list[int], confidence: float = 0.9) -> np.ndarray:
    """Bus probabilities of models that are this sure."""
    probabilities = np.full((len(classes), 26), (1 - confidence) / 25)
    probabilities[np.arange(len(classes)), classes] = confidence
    return probabilities


@pytest.fixture
def four() -> LabelledSpectra:
    bus = np.array([S, S, C, V])
    return LabelledSpectra(tuple("1234"), np.ones((4, 49)), bus, np.arange(4), np.ones(4, dtype=bool))


def test_only_what_every_model_contradicts_is_listed(four: LabelledSpectra) -> None:
    first = OutOfFold("first", "bus_class", sure([C, C, C, S]))
    second = OutOfFold("second", "bus_class", sure([C, S, C, S], 0.7))
    audit = label_audit([first, second], four)
    groups = audit[audit["level"] == "main_group"]
    assert groups["designation"].tolist() == ["1", "4"]  # of the second, only one model says so
    assert groups["suggested"].tolist() == ["C", "S"]
    assert groups["catalogued"].tolist() == ["S", "Other"]
    assert groups["models"].tolist() == ["2 of 2"] * 2
    both = np.mean([(sure([C], share) @ ROLL_UP)[0] for share in (0.9, 0.7)], axis=0)
    assert groups["probability"].iloc[0] == pytest.approx(both[MAIN_GROUPS.index("C")])
    assert groups["catalogued_probability"].iloc[0] == pytest.approx(both[MAIN_GROUPS.index("S")])


def test_a_level_is_asked_of_those_who_answer_it(four: LabelledSpectra) -> None:
    bus = OutOfFold("bus", "bus_class", sure([C, S, C, V]))
    main = OutOfFold("main", "main_group", np.eye(4)[[1, 0, 0, 3]])  # agrees on 1, contradicts 2
    x = OutOfFold("x", "x_vs_rest", np.eye(2)[[1, 1, 1, 1]])  # contradicts all, and is not asked
    audit = label_audit([bus, main, x], four)
    assert audit[audit["level"] == "main_group"].empty
    assert audit.loc[audit["level"] == "bus_class", ["designation", "models"]].to_numpy().tolist() == [["1", "1 of 1"]]


def test_the_most_confident_come_first(four: LabelledSpectra) -> None:
    probabilities = np.vstack([sure([C], 0.6), sure([C], 0.95), sure([C]), sure([V])])
    audit = label_audit([OutOfFold("a", "bus_class", probabilities)], four)
    assert audit.loc[audit["level"] == "bus_class", "designation"].tolist() == ["2", "1"]
    assert audit.loc[audit["level"] == "bus_class", "rank"].tolist() == [1, 2]


def test_an_audit_without_anyone_to_ask_is_an_error(four: LabelledSpectra) -> None:
    with pytest.raises(ValueError, match="expected out-of-fold predictions of a model that answers the bus_class"):
        label_audit([OutOfFold("main", "main_group", np.eye(4)[[0, 0, 0, 0]])], four)


def test_wrong_labels_are_found_and_stand_the_noise(simulated_raw: pd.DataFrame) -> None:
    train, _ = dataset.labelled(dataset.features(simulated_raw))
    groups = train.codes("main_group")
    wrong = np.flatnonzero((groups == MAIN_GROUPS.index("S")) & (train.bus == S))[:3]
    bus = train.bus.copy()
    bus[wrong] = C
    mislabelled = replace(train, bus=bus)
    machine = svm("main_group", class_weight=None)
    answers = OutOfFold("svm", "main_group", cross_validate(machine, mislabelled).probabilities)
    bus_answers = OutOfFold("bus", "bus_class", np.eye(26)[bus])
    audit = label_audit([answers, bus_answers], mislabelled)
    assert audit.empty  # the second agrees with all labels
    audit = label_audit([answers, replace(bus_answers, probabilities=np.eye(26)[train.bus])], mislabelled)
    found = audit[audit["level"] == "main_group"].reset_index(drop=True)
    names = [train.designation[i] for i in wrong]
    assert sorted(found["designation"]) == sorted(names)
    shares = draw_shares(found, mislabelled, simulated_raw, draws=8)
    assert (shares > 0.8).all()
    right = found.assign(designation=[train.designation[i] for i in np.flatnonzero(train.bus == S)[5:8]])
    assert (draw_shares(right, mislabelled, simulated_raw, draws=8) < 0.5).all()


def test_neighbours_are_the_nearest_and_never_the_asteroid_itself(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    distance = np.square(train.reflectance - train.reflectance[7]).sum(axis=1)
    nearest = np.argsort(distance)[1:6]
    names = np.full(len(train), "", dtype="<U9")
    names[nearest[0]] = "Ceres"
    archive = Archive(np.array(train.designation), names, train.bus, train.reflectance)
    (text,) = neighbours([train.designation[7]], archive)
    first, *others = text.split("; ")
    assert first == f"{train.designation[nearest[0]]} Ceres ({BUS_CLASSES[train.bus[nearest[0]]]})"
    assert [part.split(" (")[0] for part in others] == [train.designation[i] for i in nearest[1:]]
    assert neighbours([], archive) == []


def test_strangeness_counts_in_units_of_the_noise() -> None:
    left_over = np.array([[0.02] * 49, [0.02] * 49])
    noise = np.array([[0.01] * 49, [0.04] * 49])
    np.testing.assert_allclose(strangeness(left_over, noise), [2, 0.5])


def test_rare_classes_are_found_by_what_is_high_for_them(four: LabelledSpectra) -> None:
    assert rare_class_auc(np.array([1.0, 2.0, 3.0, 4.0]), four) == 1
    assert rare_class_auc(np.array([4.0, 3.0, 2.0, 1.0]), four) == 0
    assert np.isnan(rare_class_auc(np.ones(3), four[np.arange(3)]))


@pytest.mark.archive
def test_on_the_archive_density_finds_the_rare_classes(raw_table: pd.DataFrame) -> None:
    train, _ = dataset.labelled(dataset.features(raw_table))
    held_out = cross_validate_compression(partial(PrincipalComponents.fit_each, latent=5), train)
    density = held_out_log_density(held_out, train, 5)
    assert rare_class_auc(-density, train) > 0.9
    assert rare_class_auc(np.random.default_rng(0).permutation(-density), train) < 0.65

"""Scores answer at every level of the taxonomy, and count only what can be scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrd.dataset import LabelledSpectra
from astrd.metrics import confusion, levels, per_class, scores
from astrd.taxonomy import BUS_CLASSES, LABELS, MAIN_GROUPS, main_groups_of_bus

SEEDS = st.integers(0, 2**32 - 1)


def spectra_of(*classes: str) -> LabelledSpectra:
    """Spectra of these Bus classes, all scored."""
    size = len(classes)
    return LabelledSpectra(
        tuple(str(i) for i in range(size)),
        np.ones((size, 49)),
        np.array([BUS_CLASSES.index(name) for name in classes]),
        np.arange(size) % 5,
        np.ones(size, dtype=bool),
    )


def sure_of(*classes: str) -> np.ndarray:
    """Bus probabilities without a doubt."""
    return np.eye(len(BUS_CLASSES))[[BUS_CLASSES.index(name) for name in classes]]


def random_probabilities(seed: int, rows: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(len(BUS_CLASSES), 0.3), rows)


@given(seed=SEEDS)
def test_every_level_sums_to_one_and_follows_from_the_level_below(seed: int) -> None:
    bus = random_probabilities(seed)
    answers = levels("bus_class", bus)
    assert list(answers) == ["bus_class", "main_group", "x_vs_rest"]
    for answer in answers.values():
        np.testing.assert_allclose(answer.sum(axis=1), 1)
    for column, group in enumerate(MAIN_GROUPS):
        members = [main_groups_of_bus(np.array([code]))[0] == column for code in range(26)]
        np.testing.assert_allclose(answers["main_group"][:, column], bus[:, members].sum(axis=1), err_msg=group)
    np.testing.assert_allclose(answers["x_vs_rest"][:, 1], answers["main_group"][:, 2])


def test_a_main_group_answer_says_nothing_of_the_bus_class() -> None:
    assert list(levels("main_group", np.full((3, 4), 0.25))) == ["main_group", "x_vs_rest"]
    assert list(levels("x_vs_rest", np.full((3, 2), 0.5))) == ["x_vs_rest"]


@pytest.mark.parametrize(
    ("target", "prefixes"),
    [("bus_class", ("bus", "main", "x")), ("main_group", ("main", "x")), ("x_vs_rest", ("x",))],
)
def test_the_name_of_a_score_says_its_level(target, prefixes) -> None:
    spectra = spectra_of("C", "S", "X", "V")
    probabilities = np.full((4, len(LABELS[target])), 1 / len(LABELS[target]))
    expected = {f"{prefix}_{score}" for prefix in prefixes for score in ("weighted_f1", "macro_f1", "accuracy")}
    assert scores(target, spectra, probabilities).keys() == expected | {"x_f1"}


@settings(max_examples=20)
@given(seed=SEEDS)
def test_right_answers_score_one_and_none_scores_more(seed: int) -> None:
    classes = np.random.default_rng(seed).choice(BUS_CLASSES, 12)
    spectra = spectra_of(*classes)
    right = scores("bus_class", spectra, sure_of(*classes))
    assert all(value == 1 for name, value in right.items() if name != "x_f1")
    assert right["x_f1"] == float("X" in {MAIN_GROUPS[code] for code in spectra.codes("main_group")})
    assert all(0 <= value <= 1 for value in scores("bus_class", spectra, random_probabilities(seed, 12)).values())


def test_a_class_that_is_mistaken_for_its_neighbour_still_has_its_main_group() -> None:
    spectra = spectra_of("S", "Sq", "C", "Ch")
    found = scores("bus_class", spectra, sure_of("Sq", "S", "C", "Ch"))
    assert (found["bus_accuracy"], found["main_accuracy"]) == (0.5, 1.0)
    found = scores("bus_class", spectra, sure_of("C", "Sq", "C", "Ch"))
    assert (found["bus_accuracy"], found["main_accuracy"]) == (0.75, 0.75)


def test_classes_too_small_to_score_count_for_the_main_group_only() -> None:
    spectra = spectra_of("S", "C", "X", "R")
    small = replace(spectra, scored=np.array([True, True, True, False]))
    wrong = sure_of("S", "C", "X", "S")
    assert scores("bus_class", spectra, wrong)["bus_accuracy"] == 0.75
    found = scores("bus_class", small, wrong)
    assert (found["bus_accuracy"], found["bus_weighted_f1"], found["bus_macro_f1"]) == (1, 1, 1)
    assert found["main_accuracy"] == 0.75


def test_the_f1_of_x_is_that_of_x_alone() -> None:
    spectra = spectra_of("X", "Xc", "Xk", "S", "S", "S", "S", "S")
    found = scores("bus_class", spectra, sure_of("X", "X", "C", "Xe", "S", "S", "S", "S"))
    assert found["x_f1"] == pytest.approx(2 / 3)  # 2 found, 1 missed, 1 too many
    assert found["x_weighted_f1"] == pytest.approx((3 * 2 / 3 + 5 * 4 / 5) / 8)
    assert found["x_macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_x_that_is_never_found_scores_zero_without_a_warning() -> None:
    assert scores("bus_class", spectra_of("X", "S"), sure_of("S", "S"))["x_f1"] == 0


def test_a_class_that_is_never_there_does_not_lower_the_macro_f1() -> None:
    found = scores("main_group", spectra_of("S", "S", "C", "C"), np.eye(4)[[1, 1, 0, 2]])
    assert found["main_macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_confusion_counts_catalogued_against_predicted() -> None:
    counts = confusion("bus_class", spectra_of("S", "S", "S", "C", "V"), sure_of("S", "S", "Sq", "C", "C"))
    assert counts.index.tolist() == counts.columns.tolist() == ["C", "S", "Sq", "V"]
    assert counts.loc["S"].to_dict() == {"C": 0, "S": 2, "Sq": 1, "V": 0}
    assert counts.loc["V", "C"] == 1
    assert counts.loc["C", "V"] == 0
    assert counts.to_numpy().sum() == 5


def test_the_table_of_classes_holds_each_class_that_is_there_or_was_predicted() -> None:
    table = per_class("bus_class", spectra_of("S", "S", "S", "C"), sure_of("S", "S", "Sq", "C"))
    bus = table[table["target"] == "bus_class"].set_index("class")
    assert bus.index.tolist() == ["C", "S", "Sq"]
    assert bus["support"].to_dict() == {"C": 1, "S": 3, "Sq": 0}
    assert bus.loc["S", "recall"] == pytest.approx(2 / 3)
    assert bus.loc["S", "precision"] == 1
    assert bus.loc["Sq", "f1"] == 0
    assert table.groupby("target")["support"].sum().to_dict() == {"bus_class": 4, "main_group": 4, "x_vs_rest": 4}

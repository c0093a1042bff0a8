"""Prediction sets hold the right class as often as asked, rare classes too, and are never empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrd.calibration import at_temperature
from astrd.conformal import COVERAGES, GRADES, GradedSets, PredictionSets

SEEDS = st.integers(0, 2**32 - 1)


def guesses(seed: int, size: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure (below 1) or too shy (above 1), and truths; some classes are rare."""
    random = np.random.default_rng(seed)
    honest = random.dirichlet(np.geomspace(0.6, 0.02, 12), size)
    truth = (honest.cumsum(axis=1) < random.random((size, 1))).sum(axis=1).clip(max=11)
    return at_temperature(np.maximum(honest, 1e-9), temperature), truth


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, temperature=st.sampled_from([0.5, 1.0, 2.0]), coverage=st.sampled_from([0.9, 0.95]))
def test_random_halves_are_covered_as_asked_even_by_a_badly_calibrated_network(
    seed: int, temperature: float, coverage: float
) -> None:
    probabilities, truth = guesses(seed, 4000, temperature)
    sets = PredictionSets.fit(probabilities[:2000], truth[:2000]).of(probabilities[2000:], coverage)
    covered = sets[np.arange(2000), truth[2000:]]
    assert covered.mean() > coverage - 0.045  # five standard deviations of two halves
    assert sets.any(axis=1).all()
    common = [label for label in range(12) if (truth[2000:] == label).sum() >= 100]
    assert min(covered[truth[2000:] == label].mean() for label in common) > coverage - 0.15


def test_a_class_that_is_often_missed_is_covered_too() -> None:
    """Of two classes that are told apart badly, the rarer one loses with one threshold for all."""
    random = np.random.default_rng(0)
    truth = (random.random(4000) < 0.15).astype(int)
    first = np.clip(np.where(truth == 0, 0.9, 0.65) + 0.2 * random.standard_normal(4000), 0.01, 0.99)
    probabilities = np.stack([first, 1 - first], axis=1)
    sets = PredictionSets.fit(probabilities[:2000], truth[:2000]).of(probabilities[2000:], 0.9)
    rare = truth[2000:] == 1
    assert sets[rare, 1].mean() > 0.8
    one_threshold = np.quantile(1 - probabilities[np.arange(2000), truth[:2000]], 0.9)
    assert (1 - probabilities[2000:][rare, 1] <= one_threshold).mean() < 0.6


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, coverage=st.floats(0.001, 0.999))
def test_no_set_is_empty(seed: int, coverage: float) -> None:
    probabilities, truth = guesses(seed, 120)
    sets = PredictionSets.fit(probabilities[60:], truth[60:]).of(probabilities[:60], coverage)
    assert sets.any(axis=1).all()


def test_a_coverage_beyond_the_last_threshold_takes_all_that_can_be() -> None:
    sets = PredictionSets(np.zeros((len(COVERAGES), 3))).of(np.array([[0.7, 0.3, 0.0]]), 0.999)
    assert sets.tolist() == [[True, True, False]]


def test_a_coverage_in_between_takes_the_next_higher_thresholds() -> None:
    thresholds = np.where(COVERAGES[:, None] < 0.91, [0.5, 0.5], [1.0, 1.0])
    sets = PredictionSets(thresholds)
    probabilities = np.array([[0.8, 0.2]])
    assert sets.of(probabilities, 0.9).sum() == 1
    assert sets.of(probabilities, 0.905).sum() == 2


def test_classes_that_cannot_be_are_in_no_set() -> None:
    sets = PredictionSets(np.ones((len(COVERAGES), 3))).of(np.array([[0.7, 0.3, 0.0]]), 0.9)
    assert sets.tolist() == [[True, True, False]]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(ValueError, match=r"expected a coverage between 0 and 1, such as 0\.9; got"):
        PredictionSets(np.ones((len(COVERAGES), 1))).of(np.ones((1, 1)), coverage)


def test_flat_answers_for_bad_spectra_are_covered_by_sets_of_their_own_grade() -> None:
    """With the thresholds of good spectra, hardly any class would reach into a flat answer's set."""
    random = np.random.default_rng(0)
    bad = random.dirichlet(np.ones(12), 2000)
    truth = (bad.cumsum(axis=1) < random.random((2000, 1))).sum(axis=1).clip(max=11)
    good = np.where(np.arange(12) == truth[:, None], 0.945, 0.005)
    hot = np.full(2000, 2 * GRADES[-1])
    graded = GradedSets.fit([(good, np.ones(2000)), (bad, hot)], truth)
    rows = np.arange(2000)
    assert graded.of(bad, 0.9, hot)[rows, truth].mean() > 0.87
    assert graded.of(good, 0.9, np.ones(2000)).sum(axis=1).max() == 1
    assert PredictionSets.fit(good, truth).of(bad, 0.9)[rows, truth].mean() < 0.5


def test_grades_without_spectra_take_the_thresholds_of_better_ones() -> None:
    probabilities, truth = guesses(5, 500)
    graded = GradedSets.fit([(probabilities, np.ones(500))], truth)
    assert len(graded.grades) == len(GRADES) + 1
    usual, worst = (graded.of(probabilities, 0.9, np.full(500, heat)) for heat in (1.0, 9.0))
    np.testing.assert_array_equal(usual, worst)

"""Prediction sets hold the right class as often as asked, and are never empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrd.calibration import at_temperature
from astrd.conformal import conformity_scores, prediction_sets

SEEDS = st.integers(0, 2**32 - 1)


def guesses(seed: int, size: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure (below 1) or too shy (above 1), and truths."""
    random = np.random.default_rng(seed)
    honest = random.dirichlet(np.full(26, 0.1), size)
    truth = (honest.cumsum(axis=1) < random.random((size, 1))).sum(axis=1).clip(max=25)
    return at_temperature(honest, temperature), truth


@settings(max_examples=20)
@given(seed=SEEDS, temperature=st.sampled_from([0.3, 1.0, 3.0]), coverage=st.sampled_from([0.9, 0.95]))
def test_random_halves_are_covered_as_asked_even_by_a_badly_calibrated_network(
    seed: int, temperature: float, coverage: float
) -> None:
    probabilities, truth = guesses(seed, 4000, temperature)
    scores = conformity_scores(probabilities[:2000], truth[:2000])
    sets = prediction_sets(probabilities[2000:], scores, coverage)
    covered = sets[np.arange(2000), truth[2000:]].mean()
    assert covered > coverage - 0.045  # five standard deviations
    assert sets.any(axis=1).all()


@given(seed=SEEDS, coverage=st.floats(0.001, 0.999))
def test_a_set_is_the_likeliest_classes_and_never_empty(seed: int, coverage: float) -> None:
    probabilities, truth = guesses(seed, 60, 1.0)
    sets = prediction_sets(probabilities[30:], conformity_scores(probabilities[:30], truth[:30]), coverage)
    assert sets[np.arange(30), probabilities[30:].argmax(axis=1)].all()
    for inside, probability in zip(sets, probabilities[30:], strict=True):
        assert inside.all() or probability[inside].min() >= probability[~inside].max()


@given(seed=SEEDS, coverages=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted))
def test_more_coverage_never_takes_a_class_away(seed: int, coverages: list[float]) -> None:
    probabilities, truth = guesses(seed, 100, 1.0)
    scores = conformity_scores(probabilities[:50], truth[:50])
    less, more = (prediction_sets(probabilities[50:], scores, coverage) for coverage in coverages)
    assert (more | ~less).all()


def test_the_less_likely_the_right_class_was_the_stranger_it_looked() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3]] * 3)
    np.testing.assert_allclose(conformity_scores(probabilities, np.array([0, 1, 2])), [0.8, 0.5, 0.7])


def test_classes_that_cannot_be_are_in_no_set() -> None:
    probabilities = np.array([[0.7, 0.3, 0.0]])
    sets = prediction_sets(probabilities, np.ones(10), 0.99)
    assert sets.tolist() == [[True, True, False]]


def test_few_calibration_spectra_promise_nothing_that_they_cannot_hold() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1]])
    scores = np.full(8, 0.5)
    assert prediction_sets(probabilities, scores, 0.8).sum() == 1
    assert prediction_sets(probabilities, scores, 0.95).sum() == 3  # 8 scores cannot tell the worst in 20


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_coverage_is_a_share(coverage: float) -> None:
    with pytest.raises(ValueError, match=r"expected a coverage between 0 and 1, such as 0\.9; got"):
        prediction_sets(np.ones((1, 1)), np.ones(3), coverage)

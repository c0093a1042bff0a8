"""A temperature makes confidence mean what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrd.calibration import at_temperature, error_of_perfect, expected_calibration_error, fit_temperature

SEEDS = st.integers(0, 2**32 - 1)


def honest(seed: int, size: int = 6000, labels: int = 26) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and truths drawn from them: a network that knows exactly how much it knows."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(labels, 0.15), size)
    truth = (probabilities.cumsum(axis=1) < random.random((size, 1))).sum(axis=1).clip(max=labels - 1)
    return probabilities, truth


@pytest.mark.parametrize("temperature", [0.4, 0.7, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    calibrated, truth = honest(1)
    shown = at_temperature(calibrated, 1 / temperature)
    assert fit_temperature(shown, truth) == pytest.approx(temperature, rel=0.06)


def test_a_temperature_fitted_to_groups_too_is_the_same_for_an_honest_network() -> None:
    calibrated, truth = honest(1)
    groups = np.eye(4)[np.arange(26) % 4]
    assert fit_temperature(at_temperature(calibrated, 2.0), truth, groups) == pytest.approx(0.5, rel=0.06)


def test_the_fitted_temperature_takes_the_calibration_error_away() -> None:
    calibrated, truth = honest(2)
    for wrong in (at_temperature(calibrated, 3.0), at_temperature(calibrated, 0.3)):
        repaired = at_temperature(wrong, fit_temperature(wrong, truth))
        assert expected_calibration_error(wrong, truth) > 0.08
        assert expected_calibration_error(repaired, truth) < 0.03


@settings(max_examples=20)
@given(seed=SEEDS)
def test_honest_probabilities_have_next_to_no_calibration_error(seed: int) -> None:
    assert expected_calibration_error(*honest(seed)) < 0.03


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    sure = np.tile([1.0, 0.0], (10, 1))
    assert expected_calibration_error(sure, np.zeros(10, dtype=int)) == 0
    assert expected_calibration_error(sure, np.arange(10) % 2) == pytest.approx(0.5)
    half_and_half = np.concatenate([sure, np.tile([0.4, 0.6], (10, 1))])
    assert expected_calibration_error(half_and_half, np.zeros(20, dtype=int)) == pytest.approx(0.3)


@given(seed=SEEDS, temperature=st.floats(0.05, 20))
def test_a_temperature_changes_no_answer_and_wakes_no_zero(seed: int, temperature: float) -> None:
    probabilities, _ = honest(seed, size=20)
    probabilities[:, 3] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    changed = at_temperature(probabilities, temperature)
    np.testing.assert_allclose(changed.sum(axis=1), 1)
    assert (changed[:, 3] == 0).all()
    assert (changed.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    higher = changed.max(axis=1) - probabilities.max(axis=1)
    assert (higher * (1 - temperature) >= -1e-12).all()  # sharper below 1, flatter above


def test_temperature_one_changes_nothing() -> None:
    probabilities, _ = honest(3, size=50)
    np.testing.assert_allclose(at_temperature(probabilities, 1.0), probabilities, atol=1e-12)


def test_a_truth_without_probability_does_not_break_the_fit() -> None:
    probabilities, truth = honest(4)
    probabilities[0] = np.eye(26)[0]
    truth[0] = 1
    assert np.isfinite(fit_temperature(probabilities, truth))


def test_honest_probabilities_err_as_perfect_ones_do_and_others_more() -> None:
    probabilities, truth = honest(4, size=1000)
    limit = error_of_perfect(probabilities)
    assert 0.01 < limit < 0.08
    assert expected_calibration_error(probabilities, truth) < 1.3 * limit
    assert expected_calibration_error(at_temperature(probabilities, 0.5), truth) > limit
    assert error_of_perfect(honest(4, size=8000)[0]) < 0.7 * limit

"""A registered version says what it is, how good, and what it cannot do."""

from __future__ import annotations

from itertools import product

import pytest

from astrd.dataset import DatasetRef, LabelledSpectra
from astrd.model_card import model_card, wilson

NAMES = ("main_weighted_f1", "main_accuracy", "bus_accuracy", "bus_macro_f1", "x_f1")
SCORES = {
    "temperature": 0.71,
    "cv_calibration_error_main_group_after": 0.011,
    "cv_calibration_error_bus_class_after": 0.022,
    **{f"{kind}_{score}": 0.9 for kind, score in product(("cv", "test"), NAMES)},
    **{
        f"cv_{score}_sd": 0.01
        for score in ("main_weighted_f1", "main_accuracy", "bus_accuracy", "bus_macro_f1", "x_f1")
    },
}


def card(source: str, parts: tuple[LabelledSpectra, LabelledSpectra]) -> str:
    features = DatasetRef("features.parquet", "ab" * 32, 300, source)  # type: ignore[arg-type]
    return model_card("bus-cnn", features, *parts, SCORES, "it beats the baselines")


def test_the_card_names_data_scores_and_limits(simulated_parts: tuple[LabelledSpectra, LabelledSpectra]) -> None:
    text = card("smass2", simulated_parts)
    assert "ab" * 32 in text
    assert "| Bus class, accuracy | 0.900 ± 0.010 | 0.900 (" in text
    assert "cannot answer" in text
    assert "Q" in text.split("cannot answer")[1].split("(no training")[0]
    assert "it beats the baselines." in text
    assert "simulated" not in text


def test_the_card_of_a_simulated_survey_says_so_first(
    simulated_parts: tuple[LabelledSpectra, LabelledSpectra],
) -> None:
    assert card("simulated", simulated_parts).startswith("**Trained on simulated spectra")


def test_the_interval_of_a_share() -> None:
    low, high = wilson(0.5, 100)
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-4)

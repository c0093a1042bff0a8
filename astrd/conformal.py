"""Prediction sets that hold the right class as often as asked: split-conformal prediction with adaptive sets.

Source: Romano, Sesia & Candès 2020, "Classification with valid and adaptive coverage" (without the randomisation, so
that no set is empty and the same spectrum always gets the same set).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def conformity_scores(probabilities: Array, truth: NDArray[np.integer]) -> Array:
    """Probability of the right class together with all that are likelier, shape (n,)."""
    return _cumulative(probabilities)[np.arange(len(truth)), truth]


def prediction_sets(probabilities: Array, calibration_scores: Array, coverage: float) -> NDArray[np.bool_]:
    """Which labels belong to each spectrum's set, shape (n, labels); the likeliest always does.

    Parameters
    ----------
    calibration_scores
        `conformity_scores` of spectra that the model was not trained on.
    coverage
        Share of sets that hold the right class, between 0 and 1.

    Raises
    ------
    ValueError
        If the coverage is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"expected a coverage between 0 and 1, such as 0.9; got {coverage}")
    n = len(calibration_scores)
    rank = int(np.ceil((n + 1) * coverage))
    limit = np.sort(calibration_scores)[rank - 1] if rank <= n else 1.0
    inside = (_cumulative(probabilities) <= limit + 1e-12) & (probabilities > 0)
    inside[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return np.asarray(inside)


def _cumulative(probabilities: Array) -> Array:
    order = np.argsort(-probabilities, axis=1, kind="stable")
    total = np.empty_like(probabilities)
    np.put_along_axis(total, order, np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1), axis=1)
    return np.minimum(total, 1.0)

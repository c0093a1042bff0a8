"""Prediction sets that hold the right class as often as asked: split-conformal prediction.

Source: Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued classifiers with bounded error levels". The likeliest
class always belongs to its set, so that none is empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def conformity_scores(probabilities: Array, truth: NDArray[np.integer]) -> Array:
    """How strange the right class looked: 1 minus its probability, shape (n,)."""
    return 1 - probabilities[np.arange(len(truth)), truth]


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
    inside = (1 - probabilities <= limit) & (probabilities > 0)
    inside[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return np.asarray(inside)

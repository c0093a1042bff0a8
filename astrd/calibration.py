"""Temperature scaling: one number that makes a network's confidence mean what it says (Guo et al. 2017)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Array = NDArray[np.float64]

BINS: Final = 15
_FLOOR: Final = 1e-12  # of a probability whose logarithm is taken: a label that was ruled out costs much, not all


def fit_temperature(probabilities: Array, truth: NDArray[np.integer], groups: Array | None = None) -> float:
    """The temperature that minimises the cross-entropy of probabilities the network was not trained on.

    Parameters
    ----------
    probabilities
        Shape (n, labels), out of fold, at temperature 1.
    truth
        Codes of the right labels, shape (n,).
    groups
        Membership (labels, groups) of labels in groups, whose cross-entropy then counts as much.
    """
    from scipy.optimize import minimize_scalar  # as slow to import as all else that a classifier needs of SciPy

    rows = np.arange(len(truth))

    def cross_entropy(log_temperature: float) -> float:
        scaled = at_temperature(probabilities, float(np.exp(log_temperature)))
        loss = -np.log(np.maximum(scaled[rows, truth], _FLOOR)).mean()
        if groups is not None:
            loss -= np.log(np.maximum((scaled * groups.T[groups[truth].argmax(axis=1)]).sum(axis=1), _FLOOR)).mean()
        return float(loss)

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-3, 3), method="bounded").x))


def at_temperature(probabilities: Array, temperature: float | Array) -> Array:
    """Probabilities sharpened (below 1) or flattened (above 1); zeros stay zero. One temperature, or (n, 1) of them."""
    with np.errstate(divide="ignore"):
        return np.asarray(softmax(np.log(probabilities) / temperature, axis=1))


def expected_calibration_error(probabilities: Array, truth: NDArray[np.integer]) -> float:
    """Mean gap between confidence and accuracy over 15 bins of equal width, weighted by their members."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.abs(np.bincount(bins, right - confidence, minlength=BINS))
    return float(gap.sum() / len(truth))


def error_of_perfect(probabilities: Array, draws: int = 100) -> float:
    """The calibration error below which perfect probabilities stay 19 times in 20: bins of few spectra scatter.

    Truths are drawn from the probabilities themselves, so that these are perfect.
    """
    random = np.random.default_rng(0)
    cumulated = probabilities.cumsum(axis=1)
    errors = []
    for _ in range(draws):
        truth = (cumulated < random.random((len(probabilities), 1)) * cumulated[:, -1:]).sum(axis=1)
        errors.append(expected_calibration_error(probabilities, truth))
    return float(np.quantile(errors, 0.95))

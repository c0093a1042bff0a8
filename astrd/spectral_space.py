"""The low-rank space in which the archive's spectra lie: how strange a spectrum is, and what its missing ends were.

A probabilistic principal component analysis (Tipping & Bishop 1999): spectra are Gaussian with a covariance of a few
components and equal noise in every channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COMPONENTS: Final = 8
FALSE_ALARMS: Final = 0.05


@dataclass(frozen=True)
class SpectralSpace:
    """`mean` (49,) and `covariance` (49, 49) of spectra; `threshold` is the score above which one is an outlier."""

    mean: Array
    covariance: Array
    threshold: float

    @classmethod
    def fit(cls, reflectance: Array, fold: NDArray[np.int64]) -> SpectralSpace:
        """Learn from (n, 49) spectra; the threshold is set on folds that were left out, at 5% false alarms."""
        scores = np.empty(len(reflectance))
        for held_out in np.unique(fold):
            rows = fold == held_out
            mean, covariance = _moments(reflectance[~rows])
            scores[rows] = _distance(reflectance[rows], mean, covariance)
        mean, covariance = _moments(reflectance)
        return cls(mean, covariance, float(np.quantile(scores, 1 - FALSE_ALARMS)))

    def outlier_scores(self, reflectance: Array) -> Array:
        """Mahalanobis distance from the archive's mean divided by its threshold, shape (n,): above 1 is an outlier."""
        return _distance(reflectance, self.mean, self.covariance) / self.threshold

    def completed(self, reflectance: Array, missing: NDArray[np.bool_]) -> Array:
        """A spectrum (49,) whose missing channels are the ones expected from those that were seen."""
        if not missing.any():
            return reflectance
        seen = ~missing
        gain = np.linalg.solve(self.covariance[np.ix_(seen, seen)], (reflectance - self.mean)[seen])
        completed = reflectance.copy()
        completed[missing] = self.mean[missing] + self.covariance[np.ix_(missing, seen)] @ gain
        return completed


def _moments(reflectance: Array) -> tuple[Array, Array]:
    mean = reflectance.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(reflectance - mean, rowvar=False))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[COMPONENTS:].mean()
    components = vectors[:, :COMPONENTS]
    covariance = components * (values[:COMPONENTS] - noise) @ components.T + noise * np.eye(len(mean))
    return mean, covariance


def _distance(reflectance: Array, mean: Array, covariance: Array) -> Array:
    offset = reflectance - mean
    squared = (offset * np.linalg.solve(covariance, offset.T).T).sum(axis=1)
    return np.sqrt(squared)

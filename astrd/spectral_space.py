"""The low-rank space in which the archive's spectra lie: how strange a spectrum is, and what its missing ends were.

Spectra are described by a probabilistic principal component analysis (Tipping & Bishop 1999): a few components and
equal noise in every channel. A spectrum is strange by its distance from the nearest archive spectra in the whitened
components, by what the components leave over, and by being smoother than any real measurement (a straight line is near
many spectra and yet none of them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Array = NDArray[np.float64]

COMPONENTS: Final = 8
"""Of the covariance, from which missing channels are filled."""

DISTANCE_COMPONENTS: Final = 5
NEIGHBOURS: Final = 3
FALSE_ALARMS: Final = 0.05

_COMPLETION_SEED: Final = 0
_SMALLEST_ROUGHNESS: Final = 1e-6  # far below any measurement: an exact line has none at all


@dataclass(frozen=True)
class SpectralSpace:
    """What a training set teaches about spectra.

    `mean` (49,), `components` (8, 49), `variances` (8,) and `noise`, the variance of the channels beside them;
    `archive` (n, 5) holds the training spectra in the whitened components, `roughness` the mean and standard deviation
    of the logarithm of theirs. Scores above `threshold` are outliers.
    """

    mean: Array
    components: Array
    variances: Array
    noise: float
    archive: Array
    roughness: tuple[float, float]
    threshold: float = 1.0

    @classmethod
    def fit(cls, reflectance: Array, fold: NDArray[np.int64]) -> SpectralSpace:
        """Learn from (n, 49) spectra; the threshold is set on folds that were left out, at 5% false alarms."""
        scores = np.empty(len(reflectance))
        for held_out in np.unique(fold):
            rows = fold == held_out
            scores[rows] = cls.of(reflectance[~rows]).outlier_scores(reflectance[rows])
        return cls.of(reflectance, float(np.quantile(scores, 1 - FALSE_ALARMS)))

    @classmethod
    def of(cls, reflectance: Array, threshold: float = 1.0) -> SpectralSpace:
        """Learn from (n, 49) spectra, with a threshold that is known."""
        mean = reflectance.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(reflectance, rowvar=False))
        values, vectors = values[::-1], vectors[:, ::-1]
        components, variances = np.ascontiguousarray(vectors[:, :COMPONENTS].T), values[:COMPONENTS].copy()
        logarithm = _log_roughness(reflectance)
        archive = (reflectance - mean) @ components[:DISTANCE_COMPONENTS].T / np.sqrt(variances[:DISTANCE_COMPONENTS])
        return cls(
            mean, components, variances, float(values[COMPONENTS:].mean()), archive,
            (float(logarithm.mean()), float(logarithm.std())), threshold,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """All of it as lists and numbers."""
        return {
            "mean": self.mean.tolist(),
            "components": self.components.tolist(),
            "variances": self.variances.tolist(),
            "noise": self.noise,
            "archive": self.archive.tolist(),
            "roughness": list(self.roughness),
            "threshold": self.threshold,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SpectralSpace:
        """Read what `to_dict` wrote."""
        arrays = {name: np.array(content[name]) for name in ("mean", "components", "variances", "archive")}
        mean, deviation = content["roughness"]
        return cls(**arrays, noise=content["noise"], roughness=(mean, deviation), threshold=content["threshold"])

    def outlier_scores(self, reflectance: Array) -> Array:
        """How strange spectra (n, 49) are, in units of the threshold, shape (n,): above 1 is an outlier."""
        offset = reflectance - self.mean
        projected = offset @ self.components[:DISTANCE_COMPONENTS].T
        within = projected / np.sqrt(self.variances[:DISTANCE_COMPONENTS])
        distance = self._neighbours.query(within, NEIGHBOURS)[0].mean(axis=1)
        left_over = np.maximum(_sums_of_squares(offset) - _sums_of_squares(projected), 0)
        residual = np.sqrt(left_over / self.noise / (len(self.mean) - DISTANCE_COMPONENTS))
        mean, deviation = self.roughness
        too_smooth = np.maximum((mean - _log_roughness(reflectance)) / deviation, 0)
        return np.asarray(np.sqrt(distance**2 + (residual / 4) ** 2 + (too_smooth / 2) ** 2) / self.threshold)

    def completed(self, reflectance: Array, missing: NDArray[np.bool_]) -> Array:
        """Spectra (n, 49) whose missing channels, (49,), are the ones expected from those that were seen."""
        return self._conditioned(reflectance, missing)[0]

    def completions(self, reflectance: Array, missing: NDArray[np.bool_], draws: int) -> Array:
        """Spectra (n, draws, 49) that agree with (n, 49) in the seen channels and differ in the missing ones, (49,)."""
        expected, covariance = self._conditioned(reflectance, missing)
        completions = np.repeat(expected[:, None], draws, axis=1)
        values, vectors = np.linalg.eigh(covariance)
        # The same draws for each spectrum: those beside it change no answer.
        noise = np.random.default_rng(_COMPLETION_SEED).standard_normal((draws, len(values)))
        completions[:, :, missing] += noise * np.sqrt(np.maximum(values, 0)) @ vectors.T
        return completions

    def _conditioned(self, reflectance: Array, missing: NDArray[np.bool_]) -> tuple[Array, Array]:
        """The expected spectra (n, 49), and the covariance of their missing channels, given the seen ones."""
        seen = ~missing
        across = self._covariance[np.ix_(missing, seen)]
        gain = np.linalg.solve(self._covariance[np.ix_(seen, seen)], across.T).T
        completed = reflectance.copy()
        completed[:, missing] = self.mean[missing] + (reflectance - self.mean)[:, seen] @ gain.T
        return completed, self._covariance[np.ix_(missing, missing)] - gain @ across.T

    @cached_property
    def _neighbours(self) -> KDTree:
        return KDTree(self.archive, leafsize=64)  # a fifth faster here than with the default, 10

    @cached_property
    def _covariance(self) -> Array:
        excess = (self.variances - self.noise)[:, None] * self.components
        return np.asarray(self.components.T @ excess + self.noise * np.eye(len(self.mean)))


def _log_roughness(reflectance: Array) -> Array:
    second = np.diff(reflectance, 2, axis=1)
    roughness = np.sqrt(_sums_of_squares(second) / second.shape[1])
    return np.asarray(np.log(np.maximum(roughness, _SMALLEST_ROUGHNESS)))


def _sums_of_squares(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))

"""Gaussian mixtures by expectation and maximisation, each a product of matrices.

The logarithm of a Gaussian's density is linear in a point's coordinates and their products, and a component's mean and
covariance are made of sums of the same. With these in a row for each point, a step for all components is two products
of matrices, several times as fast as one component after the other; a clustering compares some thousand mixtures.
Start, steps and end are those of scikit-learn's `GaussianMixture` with full covariances, and so are the mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

Array = NDArray[np.float64]

MOST_STEPS: Final = 200
ENOUGH: Final = 1e-3
"""Steps end when the mean logarithm of the density rises by less."""

_NEVER_NONE: Final = 10 * np.finfo(np.float64).eps  # the weight of a component without points


@dataclass(frozen=True)
class GaussianMixture:
    """`weights` (k,), `means` (k, d) and `covariances` (k, d, d).

    `lower_bound` is the mean logarithm of the density that the last step began with.
    """

    weights: Array
    means: Array
    covariances: Array
    lower_bound: float

    @classmethod
    def fit(
        cls, points: Array, components: int, seed: int, smallest_variance: float, means: Array | None = None
    ) -> GaussianMixture:
        """The mixture to which a start leads.

        Parameters
        ----------
        points
            Shape (n, d), of the size of 1.
        seed
            Of the k-means clustering that it starts from.
        smallest_variance
            Added to every component's in each direction.
        means
            To start from, (k, d), beside weights and covariances of that clustering.
        """
        features = _features(points)
        labels = KMeans(components, n_init=1, random_state=seed).fit(points).labels_
        mixture = cls._of(np.eye(components)[labels].T @ features, smallest_variance, -np.inf)
        if means is not None:
            mixture = cls(mixture.weights, means, mixture.covariances, -np.inf)
        for _ in range(MOST_STEPS):
            joint = features @ mixture._coefficients()
            density = _logsumexp(joint)
            before = mixture.lower_bound
            mixture = cls._of(np.exp(joint - density).T @ features, smallest_variance, float(density.mean()))
            if abs(mixture.lower_bound - before) < ENOUGH:
                break
        return mixture

    @classmethod
    def _of(cls, sums: Array, smallest_variance: float, lower_bound: float) -> GaussianMixture:
        """Of the sums of features (k, features) of the points that belong to each component."""
        size, d = sums[:, :1] + _NEVER_NONE, _dimensions(sums.shape[1])
        means = sums[:, 1 : 1 + d] / size
        rows, columns = np.triu_indices(d)
        covariances = np.empty((len(sums), d, d))
        covariances[:, rows, columns] = sums[:, 1 + d :] / size - means[:, rows] * means[:, columns]
        covariances[:, columns, rows] = covariances[:, rows, columns]
        covariances[:, range(d), range(d)] += smallest_variance
        return cls(size[:, 0] / size.sum(), means, covariances, lower_bound)

    @property
    def components(self) -> int:
        return len(self.weights)

    def memberships(self, points: Array) -> Array:
        """Probability of each component, (n, d) to (n, k)."""
        joint = _features(points) @ self._coefficients()
        return np.asarray(np.exp(joint - _logsumexp(joint)))

    def labels(self, points: Array) -> NDArray[np.int64]:
        """The likeliest component, (n, d) to (n,)."""
        return np.asarray((_features(points) @ self._coefficients()).argmax(axis=1))

    def log_density(self, points: Array) -> Array:
        """(n, d) to (n,)."""
        return _logsumexp(_features(points) @ self._coefficients())[:, 0]

    def bic(self, points: Array) -> float:
        """Bayes's information criterion (Schwarz 1978); the lower the better."""
        k, d = self.means.shape
        parameters = k * d * (d + 1) // 2 + k * d + k - 1
        return float(parameters * np.log(len(points)) - 2 * self.log_density(points).sum())

    def distances(self, points: Array) -> Array:
        """Mahalanobis distance from each component's mean, (n, d) to (n, k)."""
        whitened = np.linalg.solve(np.linalg.cholesky(self.covariances), (points[None] - self.means[:, None]).mT)
        return np.asarray(np.sqrt((whitened**2).sum(axis=1)).T)

    def _coefficients(self) -> Array:
        """(features, k): of the logarithm of weight and density."""
        precision = np.linalg.inv(self.covariances)
        slope = (precision @ self.means[:, :, None])[:, :, 0]
        d = self.means.shape[1]
        rows, columns = np.triu_indices(d)
        twice = np.where(rows == columns, 0.5, 1.0)  # what is left out below the diagonal counts above it
        constant = (
            np.log(self.weights)
            - (np.linalg.slogdet(self.covariances)[1] + d * np.log(2 * np.pi) + (slope * self.means).sum(axis=1)) / 2
        )
        return np.vstack([constant, slope.T, -(precision[:, rows, columns] * twice).T])


def adjusted_rand(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """How well two clusterings (n,) agree beyond chance, at most 1 (Hubert & Arabie 1985)."""
    size = int(second.max()) + 1
    together = np.bincount(first * size + second, minlength=(int(first.max()) + 1) * size).reshape(-1, size)
    pairs, in_first, in_second = (
        float((counts * (counts - 1)).sum()) for counts in (together, together.sum(axis=1), together.sum(axis=0))
    )
    by_chance = in_first * in_second / (len(first) * (len(first) - 1))
    most = (in_first + in_second) / 2
    return 1.0 if pairs == most else (pairs - by_chance) / (most - by_chance)


def _features(points: Array) -> Array:
    """1, the coordinates, and their products, (n, d) to (n, 1 + d + d (d + 1) / 2)."""
    rows, columns = np.triu_indices(points.shape[1])
    return np.hstack([np.ones((len(points), 1)), points, points[:, rows] * points[:, columns]])


def _dimensions(features: int) -> int:
    return int((np.sqrt(8 * features + 1) - 3) / 2)


def _logsumexp(values: Array) -> Array:
    """Over rows, (n, k) to (n, 1); SciPy's takes three times as long."""
    most = values.max(axis=1, keepdims=True)
    return np.asarray(most + np.log(np.exp(values - most).sum(axis=1, keepdims=True)))

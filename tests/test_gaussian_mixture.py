"""Mixtures are those of scikit-learn, to rounding, from the same starts; and so is the agreement of clusterings."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as Reference

from astrd.gaussian_mixture import GaussianMixture, adjusted_rand

VARIANCE = 1e-4


def clouds(seed: int = 0, dimensions: int = 4) -> np.ndarray:
    random = np.random.default_rng(seed)
    points = np.vstack(
        [
            random.standard_normal((n, dimensions)) @ random.standard_normal((dimensions, dimensions))
            + 2 * random.standard_normal(dimensions)
            for n in (150, 90, 60)
        ]
    )
    return (points - points.mean(axis=0)) / points.std(axis=0)


def reference(points: np.ndarray, components: int, seed: int, means: np.ndarray | None = None) -> Reference:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Reference(components, random_state=seed, max_iter=200, reg_covar=VARIANCE, means_init=means).fit(points)


@pytest.mark.parametrize("components", [1, 3, 7])
@pytest.mark.parametrize("dimensions", [1, 4])
def test_mixtures_are_those_of_scikit_learn(components: int, dimensions: int) -> None:
    points, others = clouds(0, dimensions), clouds(1, dimensions)
    for seed in range(3):
        expected = reference(points, components, seed)
        found = GaussianMixture.fit(points, components, seed, VARIANCE)
        np.testing.assert_allclose(found.weights, expected.weights_, atol=1e-6)
        np.testing.assert_allclose(found.means, expected.means_, atol=1e-6)
        np.testing.assert_allclose(found.covariances, expected.covariances_, atol=1e-6)
        assert found.lower_bound == pytest.approx(expected.lower_bound_)
        assert found.bic(points) == pytest.approx(expected.bic(points))
        np.testing.assert_allclose(found.memberships(others), expected.predict_proba(others), atol=1e-6)
        np.testing.assert_allclose(found.log_density(others), expected.score_samples(others), rtol=1e-6)
        np.testing.assert_array_equal(found.labels(points), expected.predict(points))


def test_a_fit_can_start_at_the_means_of_another() -> None:
    points = clouds()
    means = GaussianMixture.fit(points, 3, 5, VARIANCE).means
    found = GaussianMixture.fit(points[::2], 3, 0, VARIANCE, means)
    np.testing.assert_allclose(found.means, reference(points[::2], 3, 0, means).means_, atol=1e-6)
    assert np.abs(found.means - GaussianMixture.fit(points[::2], 3, 0, VARIANCE).means).max() > 0.01


def test_distances_are_mahalanobis() -> None:
    points = clouds()
    found = GaussianMixture.fit(points, 3, 0, VARIANCE)
    for component, (mean, covariance) in enumerate(zip(found.means, found.covariances, strict=True)):
        density = multivariate_normal(mean, covariance).logpdf
        expected = np.sqrt(2 * (density(mean) - density(points)))
        np.testing.assert_allclose(found.distances(points)[:, component], expected, rtol=1e-6)


def test_a_component_on_a_single_point_stays_a_gaussian() -> None:
    points = np.vstack([clouds(), np.full((1, 4), 9.0)])
    found = GaussianMixture.fit(points, 6, 0, VARIANCE)
    assert np.isfinite(found.log_density(points)).all()
    assert np.linalg.eigvalsh(found.covariances).min() >= VARIANCE * 0.99


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 4), (3, 4), (5, 2)])
def test_agreement_is_the_adjusted_rand_index(first: int, second: int) -> None:
    random = np.random.default_rng(0)
    a, b = random.integers(first, size=80), random.integers(second, size=80)
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))
    assert adjusted_rand(a, a) == 1.0
    assert adjusted_rand(a, (a + 1) % first) == 1.0  # names do not matter

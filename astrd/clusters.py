"""Gaussian mixtures over a space of spectra: how many there are, how sure that is, and what lies in each.

The number of components is the one of lowest BIC among those that are stable: fits from other seeds, and fits to
bootstraps, must put the spectra into the same clusters, to a mean adjusted Rand index of `STABLE` each. BIC alone is
flat around its lowest point, where chance decides. If none is stable, it is the one with the highest such index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from astrd.classical import without_slope
from astrd.dataset import LabelledSpectra
from astrd.gaussian_mixture import GaussianMixture, adjusted_rand
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS
from astrd.workers import InTurn, Workers, in_groups

Array = NDArray[np.float64]

MOST_COMPONENTS: Final = 15
SEEDS: Final = 20
BOOTSTRAPS: Final = 10
STABLE: Final = 0.7

LATENT_SPACE_TABLE: Final = "latent_space.csv"
MAIN_GROUP_TABLE: Final = "clusters_by_main_group.csv"
BUS_CLASS_TABLE: Final = "clusters_by_bus_class.csv"
STABILITY_TABLE: Final = "bic_and_stability.csv"
"""Names of the tables that a clustering leaves behind."""

_SMALLEST_VARIANCE: Final = 1e-4  # of a component, in units of the space's


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture of scaled coordinates; its clusters are numbered from 1, the heaviest first."""

    scaler: StandardScaler = field(repr=False)
    mixture: GaussianMixture = field(repr=False)

    @property
    def components(self) -> int:
        return self.mixture.components

    def memberships(self, coordinates: Array) -> Array:
        """Probability of each cluster, (n, d) to (n, components)."""
        return self.mixture.memberships(self.scaler.transform(coordinates))[:, self._order]

    def clusters(self, coordinates: Array) -> NDArray[np.int64]:
        """Number of the likeliest cluster, (n, d) to (n,)."""
        return np.asarray(self.memberships(coordinates).argmax(axis=1) + 1)

    def log_density(self, coordinates: Array) -> Array:
        """Logarithm of the mixture's density, (n, d) to (n,)."""
        return self.mixture.log_density(self.scaler.transform(coordinates))

    def distances(self, coordinates: Array) -> Array:
        """Mahalanobis distance from the centre of each cluster, (n, d) to (n, components)."""
        return self.mixture.distances(self.scaler.transform(coordinates))[:, self._order]

    @property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(-self.mixture.weights, kind="stable")


@dataclass(frozen=True)
class Clustering:
    """The mixture that was chosen, and the table of BIC and stability by which it was."""

    mixture: Mixture
    stability: pd.DataFrame = field(repr=False)


def fit_mixture(coordinates: Array, components: int, seeds: Sequence[int] = range(5)) -> Mixture:
    """The likeliest of the mixtures to which the seeds lead, of coordinates (n, d)."""
    scaler = StandardScaler().fit(coordinates)
    scaled = scaler.transform(coordinates)
    with threadpool_limits(1):
        fits = [_fit(scaled, components, seed) for seed in seeds]
    return Mixture(scaler, max(fits, key=lambda fit: fit.lower_bound))


def cluster(
    coordinates: Array,
    most_components: int = MOST_COMPONENTS,
    seeds: int = SEEDS,
    bootstraps: int = BOOTSTRAPS,
    on_components: Callable[[int], None] = lambda done: None,
    workers: Workers = InTurn(),  # noqa: B008
) -> Clustering:
    """Fit mixtures of 1 to `most_components` to coordinates (n, d) of training spectra, and choose one.

    Parameters
    ----------
    on_components
        Called with how many numbers of components are done, as they are.

    Returns
    -------
    Clustering
        With a table of one row a number of components: `components`, `bic` of the likeliest fit, `ari_seeds_mean` and
        `_sd` between fits of all pairs of seeds, `ari_bootstrap_mean` and `_sd` between that fit and those to
        bootstraps, which start at its centres: chance in the start counts once, `stable`, `chosen`.
    """
    scaler = StandardScaler().fit(coordinates)
    scaled = scaler.transform(coordinates)
    random = np.random.default_rng(0)
    samples = [scaled[random.integers(len(scaled), size=len(scaled))] for _ in range(bootstraps)]
    pieces = range(1, most_components + 1)
    fit = partial(_fit_components, scaled, samples, seeds)
    likeliest, rows = zip(*in_groups(workers, fit, pieces, 1, on_components), strict=True)
    table = pd.DataFrame(
        rows,
        columns=[
            "components", "bic", "ari_seeds_mean", "ari_seeds_sd", "ari_bootstrap_mean", "ari_bootstrap_sd",
        ],
    )  # fmt: skip
    least = table[["ari_seeds_mean", "ari_bootstrap_mean"]].min(axis=1)
    table["stable"] = (least >= STABLE) & (table["components"] > 1)
    chosen = table.loc[table["stable"], "bic"].idxmin() if table["stable"].any() else least.iloc[1:].idxmax()
    table["chosen"] = table.index == chosen
    return Clustering(Mixture(scaler, likeliest[int(chosen)]), table)


def _fit_components(
    scaled: Array, samples: Sequence[Array], seeds: int, numbers: Sequence[int]
) -> Sequence[tuple[GaussianMixture, tuple[float, ...]]]:
    """The likeliest mixture of each number of components, and its row of the table."""
    found = []
    with threadpool_limits(1):  # the matrices are small: sharing them out takes ten times as long
        for components in numbers:
            fits = [_fit(scaled, components, seed) for seed in range(seeds)]
            best = max(fits, key=lambda fit: fit.lower_bound)
            resampled = [_fit(sample, components, seed=0, centres=best.means) for sample in samples]
            labels = best.labels(scaled)
            between_seeds = [adjusted_rand(a, b) for a, b in combinations([fit.labels(scaled) for fit in fits], 2)]
            to_bootstraps = [adjusted_rand(labels, fit.labels(scaled)) for fit in resampled]
            row = (components, best.bic(scaled), *_mean_and_sd(between_seeds), *_mean_and_sd(to_bootstraps))
            found.append((best, row))
    return found


def slope_and_shape(reflectance: Array, training: NDArray[np.bool_], components: int = 4) -> Array:
    """Slope (per µm) and principal components of the slope-removed spectra, (n, 49) to (n, 1 + components).

    The components are those of the rows marked as `training`.
    """
    slope, shape = without_slope(reflectance)
    mean = shape[training].mean(axis=0)
    axes = np.linalg.svd(shape[training] - mean, full_matrices=False)[2][:components]
    return np.hstack([slope[:, None], (shape - mean) @ axes.T])


def agreement(clusters: NDArray[np.int64], spectra: LabelledSpectra) -> dict[str, float]:
    """Adjusted Rand index and adjusted mutual information of clusters (n,) with both levels of the taxonomy."""
    scores = {}
    for level in ("main_group", "bus_class"):
        truth = spectra.codes(level)
        scores[f"ari_{level}"] = adjusted_rand(truth, clusters)
        scores[f"ami_{level}"] = float(adjusted_mutual_info_score(truth, clusters))
    return scores


def counts_by(level: str, clusters: NDArray[np.int64], spectra: LabelledSpectra) -> pd.DataFrame:
    """Asteroids in each cluster (rows) by their catalogued class (columns), in the taxonomy's order."""
    names, codes = (MAIN_GROUPS, spectra.codes("main_group")) if level == "main_group" else (BUS_CLASSES, spectra.bus)
    table = pd.crosstab(pd.Series(clusters, name="cluster"), np.array(names, dtype=object)[codes])
    return table[[name for name in names if name in table.columns]].rename_axis(columns=None).reset_index()


def cluster_spectra(clusters: NDArray[np.int64], reflectance: Array) -> dict[int, tuple[Array, Array]]:
    """Mean and 1-sigma spectrum of each cluster, shapes (49,)."""
    return {
        int(number): (reflectance[clusters == number].mean(axis=0), reflectance[clusters == number].std(axis=0))
        for number in np.unique(clusters)
    }


def portraits(mixture: Mixture, coordinates: Array, spectra: LabelledSpectra, most: int = 5) -> pd.DataFrame:
    """One row a cluster: its size, leading classes, purest members, strangers, and whether it is Gaussian.

    The purest members lie nearest to the centre, the strangers farthest from it, by the cluster's own Mahalanobis
    distance. The test of normality (Henze-Zirkler) is of the members, each counted in its likeliest cluster.
    """
    numbers, distances = mixture.clusters(coordinates), mixture.distances(coordinates)
    groups, bus = spectra.codes("main_group"), spectra.bus
    rows = []
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        order = members[np.argsort(distances[members, number - 1])]
        group_counts, bus_counts = np.bincount(groups[members]), np.bincount(bus[members])
        named = [f"{spectra.designation[i]} ({BUS_CLASSES[bus[i]]})" for i in order]
        statistic, p = henze_zirkler(coordinates[members])
        rows.append(
            {
                "cluster": number,
                "asteroids": len(members),
                "main_group": MAIN_GROUPS[group_counts.argmax()],
                "main_group_share": group_counts.max() / len(members),
                "bus_class": BUS_CLASSES[bus_counts.argmax()],
                "bus_class_share": bus_counts.max() / len(members),
                "purest": "; ".join(named[:most]),
                "strangers": "; ".join(named[: -most - 1 : -1]),
                "henze_zirkler": statistic,
                "normality_p": p,
                "normality": in_words(p),
            }
        )
    return pd.DataFrame(rows)


def henze_zirkler(sample: Array) -> tuple[float, float]:
    """Test whether a sample (n, d) is of one multivariate normal distribution.

    Source: Henze & Zirkler 1990, Communications in Statistics - Theory and Methods 19, 3595. The p-value is that of
    the lognormal distribution with the statistic's mean and variance under normality.

    Returns
    -------
    statistic, p
        Both NaN where the sample is too small for its covariance (n < d + 2).
    """
    n, d = sample.shape
    if n < d + 2:
        return np.nan, np.nan
    offset = sample - sample.mean(axis=0)
    inner = offset @ np.linalg.solve(offset.T @ offset / n, offset.T)
    own = np.diag(inner)
    between = own[:, None] + own - 2 * inner
    b2 = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2
    statistic = n * (
        np.exp(-b2 / 2 * between).mean()
        - 2 * (1 + b2) ** (-d / 2) * np.exp(-b2 / (2 * (1 + b2)) * own).mean()
        + (1 + 2 * b2) ** (-d / 2)
    )
    b4, b8, a = b2**2, b2**4, 1 + 2 * b2
    w = (1 + b2) * (1 + 3 * b2)
    mean = 1 - a ** (-d / 2) * (1 + d * b2 / a + d * (d + 2) * b4 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b2) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b4 / a**2 + 3 * d * (d + 2) * b8 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b4 / (2 * w) + d * (d + 2) * b8 / (2 * w**2))
    )
    spread = np.log(1 + variance / mean**2)
    centre = np.log(mean) - spread / 2
    return float(statistic), float(stats.norm.sf((np.log(statistic) - centre) / np.sqrt(spread)))


def in_words(p: float) -> str:
    """What the p-value of a test of normality means."""
    if np.isnan(p):
        return "too few members to tell"
    chance = "less than 1 in 1000" if p < 0.001 else f"{p:.1%}"
    verdict = "not one Gaussian" if p < 0.01 else "hardly one Gaussian" if p < 0.05 else "may be one Gaussian"
    return f"{verdict}: the chance that a Gaussian sample looks so strange is {chance}"


def _fit(scaled: Array, components: int, seed: int, centres: Array | None = None) -> GaussianMixture:
    return GaussianMixture.fit(scaled, components, seed, _SMALLEST_VARIANCE, centres)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))

"""Mixtures find the clusters that are there, say when there are none, and name what lies in them."""

from __future__ import annotations

import numpy as np
import pytest

from astrd import clusters
from astrd.clusters import Mixture, cluster, fit_mixture, henze_zirkler, in_words
from astrd.dataset import LabelledSpectra
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS

Parts = tuple[LabelledSpectra, LabelledSpectra]

SIZES = (150, 100, 60)
CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
TRUTH = np.repeat([1, 2, 3], SIZES)


def three_clouds(seed: int = 0) -> np.ndarray:
    return CENTRES[TRUTH - 1] + np.random.default_rng(seed).standard_normal((len(TRUTH), 2))


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return fit_mixture(three_clouds(), 3)


def labelled(reflectance: np.ndarray, bus: list[str]) -> LabelledSpectra:
    n = len(bus)
    codes = np.array([BUS_CLASSES.index(name) for name in bus])
    return LabelledSpectra(
        tuple(map(str, range(1, n + 1))), reflectance, codes, np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    )


def test_the_number_of_clouds_is_found_and_is_stable() -> None:
    found = cluster(three_clouds(), most_components=5, seeds=4, bootstraps=3)
    table = found.stability.set_index("components")
    assert table.index.tolist() == [1, 2, 3, 4, 5]
    assert found.mixture.components == 3
    assert table["chosen"].tolist() == [False, False, True, False, False]
    assert table.loc[3, ["ari_seeds_mean", "ari_bootstrap_mean"]].min() > 0.99
    assert table["bic"].idxmin() == 3


def test_of_one_cloud_no_number_of_clusters_is_stable() -> None:
    cloud = np.random.default_rng(0).standard_normal((200, 3))
    table = cluster(cloud, most_components=4, seeds=6, bootstraps=4).stability
    assert not table["stable"].any()
    assert table["bic"].idxmin() == 0


def test_an_unstable_number_is_not_chosen_however_low_its_bic(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = cluster(three_clouds(), most_components=4, seeds=3, bootstraps=2).mixture.components
    monkeypatch.setattr(clusters, "adjusted_rand", lambda a, b: 0.9 if max(a.max(), b.max()) != 2 else 0.1)
    other = cluster(three_clouds(), most_components=4, seeds=3, bootstraps=2).mixture.components
    assert (lowest, other != 3) == (3, True)


def test_clusters_are_numbered_from_one_the_heaviest_first(mixture: Mixture) -> None:
    numbers = mixture.clusters(three_clouds())
    np.testing.assert_array_equal(numbers, TRUTH)
    memberships = mixture.memberships(three_clouds())
    np.testing.assert_allclose(memberships.sum(axis=1), 1)
    np.testing.assert_array_equal(memberships.argmax(axis=1) + 1, numbers)


def test_distances_are_in_units_of_the_cluster_itself(mixture: Mixture) -> None:
    distances = mixture.distances(CENTRES)
    assert (np.diag(distances) < 0.3).all()
    assert (distances[~np.eye(3, dtype=bool)] > 5).all()
    own = mixture.distances(three_clouds())[np.arange(len(TRUTH)), TRUTH - 1]
    assert np.sqrt((own**2).mean()) == pytest.approx(np.sqrt(2), rel=0.05)  # in two dimensions


def test_density_falls_away_from_the_clouds(mixture: Mixture) -> None:
    inside, outside = mixture.log_density(np.array([[0.0, 0.0], [4.0, 4.0]]))
    assert inside > outside + 3


def test_agreement_is_one_for_the_labels_themselves_and_none_for_chance(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    own = clusters.agreement(train.codes("main_group"), train)
    assert own["ari_main_group"] == own["ami_main_group"] == pytest.approx(1)
    assert own["ari_bus_class"] < 0.9
    shuffled = np.random.default_rng(0).permutation(train.codes("main_group"))
    assert max(map(abs, clusters.agreement(shuffled, train).values())) < 0.05


def test_tables_count_each_asteroid_once() -> None:
    spectra = labelled(np.ones((5, 49)), ["S", "S", "C", "V", "C"])
    numbers = np.array([1, 1, 2, 2, 2])
    groups = clusters.counts_by("main_group", numbers, spectra)
    assert groups.columns.tolist() == ["cluster", "C", "S", "Other"]  # in the taxonomy's order; no X is there
    assert groups.to_numpy().tolist() == [[1, 0, 2, 0], [2, 2, 0, 1]]
    classes = clusters.counts_by("bus_class", numbers, spectra)
    assert classes.columns.tolist() == ["cluster", "C", "S", "V"]


def test_portraits_name_the_purest_and_the_strangers(mixture: Mixture) -> None:
    points = three_clouds()
    points[0], points[1] = [0, 0], [-3.4, -3.4]
    names = np.array(["S", "C", "V"], dtype=object)[TRUTH - 1].tolist()
    names[1] = "X"
    rows = clusters.portraits(mixture, points, labelled(np.ones((len(points), 49)), names)).set_index("cluster")
    assert rows.loc[1, "strangers"].startswith("2 (X); ")
    assert "1 (S)" in rows.loc[1, "purest"]
    assert rows["main_group"].tolist() == ["S", "C", "Other"]
    assert rows["main_group_share"].iloc[0] == pytest.approx(149 / 150)
    assert set(rows["main_group"]) <= set(MAIN_GROUPS)


def test_mean_spectra_and_bands_are_those_of_the_members() -> None:
    reflectance = np.vstack([np.full((2, 49), 1.0), np.full((2, 49), [[2.0], [4.0]])])
    spectra = clusters.cluster_spectra(np.array([1, 1, 2, 2]), reflectance)
    np.testing.assert_array_equal(spectra[1], np.array([np.ones(49), np.zeros(49)]))
    np.testing.assert_array_equal(spectra[2], np.array([np.full(49, 3.0), np.ones(49)]))


def test_the_slope_of_a_line_is_its_slope_and_its_shape_nothing(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    line = 1 + 0.5 * (WAVELENGTH - 0.55)
    rows = np.vstack([train.reflectance, line])
    training = np.arange(len(rows)) < len(train)
    coordinates = clusters.slope_and_shape(rows, training)
    assert coordinates.shape == (len(rows), 5)
    assert coordinates[-1, 0] == pytest.approx(0.5)
    changed = rows.copy()
    changed[-1] = rows[0]
    np.testing.assert_allclose(clusters.slope_and_shape(changed, training)[:-1], coordinates[:-1])


@pytest.mark.parametrize("dimensions", [2, 5])
def test_the_test_of_normality_errs_as_often_as_it_says(dimensions: int) -> None:
    random = np.random.default_rng(0)
    normal = [henze_zirkler(random.standard_normal((80, dimensions)))[1] for _ in range(300)]
    assert np.mean(np.array(normal) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(normal) == pytest.approx(0.5, abs=0.06)
    heavy = [henze_zirkler(random.standard_t(2, (80, dimensions)))[1] for _ in range(20)]
    two = [
        henze_zirkler(random.standard_normal((80, dimensions)) + np.repeat([0, 6], 40)[:, None])[1] for _ in range(5)
    ]
    assert max(*heavy, *two) < 0.05


def test_normality_does_not_depend_on_scale_or_turn() -> None:
    random = np.random.default_rng(0)
    sample, turn = random.standard_normal((60, 3)), random.standard_normal((3, 3))
    assert henze_zirkler(sample @ turn + 7) == pytest.approx(henze_zirkler(sample))


def test_too_few_members_are_no_sample() -> None:
    assert in_words(henze_zirkler(np.eye(4)[:, :3])[1]) == "too few members to tell"


def test_a_p_value_is_said_in_words() -> None:
    assert in_words(0.4) == "may be one Gaussian: the chance that a Gaussian sample looks so strange is 40.0%"
    assert in_words(0.03).startswith("hardly one Gaussian")
    assert in_words(1e-9).endswith("less than 1 in 1000")

"""The archive beside an answer: its most similar asteroids, and the means of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astrd import dataset
from astrd.analogues import ANALOGUES, Archive, full_name


@pytest.fixture(scope="module")
def features(simulated_raw: pd.DataFrame) -> pd.DataFrame:
    return dataset.features(simulated_raw)


@pytest.fixture(scope="module")
def archive(features: pd.DataFrame) -> Archive:
    return Archive.of(features)


def test_the_nearest_are_those_of_all_pairs(archive: Archive) -> None:
    random = np.random.default_rng(0)
    asked = archive.reflectance[::3] + random.normal(0, 0.01, archive.reflectance[::3].shape)
    seen = random.random(asked.shape) < 0.8
    rows, distance = archive.nearest(asked, seen)
    assert rows.shape == distance.shape == (len(asked), ANALOGUES)
    for own, channels, found, far in zip(asked, seen, rows, distance, strict=True):
        every = np.sqrt(((archive.reflectance - own)[:, channels] ** 2).mean(axis=1))
        np.testing.assert_array_equal(found, np.argsort(every)[:ANALOGUES])
        np.testing.assert_allclose(far, np.sort(every)[:ANALOGUES])


def test_an_asteroid_of_the_archive_is_its_own_nearest(archive: Archive) -> None:
    rows, distance = archive.nearest(archive.reflectance, np.ones(archive.reflectance.shape, bool))
    np.testing.assert_array_equal(rows[:, 0], np.arange(len(archive.bus)))
    np.testing.assert_array_equal(distance[:, 0], 0)
    assert (distance[:, 1] > 0).all()


def test_channels_that_were_not_seen_do_not_count(archive: Archive) -> None:
    seen = np.ones((1, 49), bool)
    seen[:, -8:] = False
    invented = archive.reflectance[[7]].copy()
    invented[:, -8:] = 5.0
    assert archive.nearest(invented, seen)[0][0, 0] == 7
    assert archive.nearest(invented, np.ones((1, 49), bool))[1][0, 0] > 1


def test_more_spectra_than_are_compared_at_once_get_the_same(archive: Archive) -> None:
    many = np.tile(archive.reflectance, (4, 1))[:1100]
    rows, _ = archive.nearest(many, np.ones(many.shape, bool))
    np.testing.assert_array_equal(rows[:, 0], np.arange(1100) % len(archive.bus))
    assert archive.nearest(many[:0], np.ones((0, 49), bool))[0].shape == (0, ANALOGUES)


def test_the_class_mean_is_that_of_its_members(archive: Archive, features: pd.DataFrame) -> None:
    members = np.array(features.loc[features["bus_class"] == "S", "reflectance"].tolist())
    np.testing.assert_allclose(archive.class_mean("S"), members.mean(axis=0))
    np.testing.assert_allclose(archive.class_deviation("S"), members.std(axis=0, ddof=1))


def test_a_class_without_members_has_no_mean_and_one_of_a_single_member_no_deviation(features: pd.DataFrame) -> None:
    few = Archive.of(features.assign(bus_class=["O", *["S"] * (len(features) - 1)]))
    assert few.class_mean("Q") is few.class_deviation("Q") is few.class_deviation("O") is None
    np.testing.assert_array_equal(few.class_mean("O"), features["reflectance"].iloc[0])


def test_what_was_saved_is_loaded(archive: Archive, tmp_path: Path) -> None:
    archive.save(tmp_path / "archive.npz")
    loaded = Archive.load(tmp_path / "archive.npz")
    for name in ("designation", "name", "bus", "reflectance"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(archive, name))


def test_an_asteroid_without_a_name_is_called_by_its_designation() -> None:
    assert (full_name("4", "Vesta"), full_name("1998 WS", "")) == ("4 Vesta", "1998 WS")


@pytest.mark.archive
def test_the_archive_names_vesta_and_those_like_it(raw_table: pd.DataFrame) -> None:
    archive = Archive.of(dataset.features(raw_table))
    vesta = int(np.flatnonzero(archive.designation == "4")[0])
    assert archive.name[vesta] == "Vesta"
    rows, _ = archive.nearest(archive.reflectance[[vesta]], np.ones((1, 49), bool))
    assert rows[0, 0] == vesta
    assert archive.class_deviation("O") is None


@pytest.mark.archive
def test_the_docs_say_how_near_neighbours_are_in_the_archive(raw_table: pd.DataFrame) -> None:
    archive = Archive.of(dataset.features(raw_table))
    _, distance = archive.nearest(archive.reflectance, np.ones(archive.reflectance.shape, bool))
    half, most = np.quantile(distance[:, 1], [0.5, 0.95])
    text = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text()
    assert f"other neighbour within {half:.3f},\nnineteen of twenty within {most:.3f}." in text

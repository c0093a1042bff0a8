"""The table of spectra: a split that nothing moves, and references that notice a change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrd import dataset, simulate
from astrd.taxonomy import BUS_CLASSES

LABELS = st.lists(st.sampled_from(BUS_CLASSES[:6]), min_size=1, max_size=120)


def names(count: int) -> list[str]:
    return [str(i) for i in range(1, count + 1)]


@given(labels=LABELS, random=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_move_the_split(labels: list[str], random) -> None:
    rows = list(zip(names(len(labels)), labels, strict=True))
    shuffled = random.sample(rows, len(rows))
    placed = []
    for designations, classes in (zip(*rows, strict=True), zip(*shuffled, strict=True)):
        split, fold = dataset.fixed_split(designations, classes)
        placed.append(dict(zip(designations, zip(split, fold.tolist(), strict=True), strict=True)))
    assert placed[0] == placed[1]


@given(labels=LABELS)
def test_the_split_is_stratified_within_one_and_small_classes_train(labels: list[str]) -> None:
    split, fold = dataset.fixed_split(names(len(labels)), labels)
    table = pd.DataFrame({"bus_class": labels, "split": split, "fold": fold})
    assert ((table["fold"] == -1) == (table["split"] == "test")).all()
    for _, members in table.groupby("bus_class"):
        tested = (members["split"] == "test").sum()
        if len(members) < dataset.SMALLEST_CLASS:
            assert tested == 0
        else:
            assert abs(tested - dataset.TEST_SHARE * len(members)) < 1
            assert tested > 0
        sizes = members.loc[members["fold"] >= 0, "fold"].value_counts().reindex(range(dataset.FOLDS), fill_value=0)
        assert sizes.max() - sizes.min() <= 1
    sizes = table.loc[table["fold"] >= 0, "fold"].value_counts().reindex(range(dataset.FOLDS), fill_value=0)
    assert sizes.max() - sizes.min() <= 1


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return simulate.survey(200, seed=3)


def test_a_reference_reads_what_was_written(raw: pd.DataFrame, tmp_path: Path) -> None:
    written = dataset.write(raw, tmp_path / "deep" / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    assert written == dataset.DatasetRef.of(written.path)
    assert (written.rows, written.data_source) == (200, "simulated")
    table = written.read()
    assert table["designation"].tolist() == raw["designation"].tolist()
    np.testing.assert_array_equal(table["reflectance"][5], raw["reflectance"][5])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["raw.parquet"]


def test_a_changed_file_is_not_read(raw: pd.DataFrame, tmp_path: Path) -> None:
    written = dataset.write(raw, tmp_path / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    other = dataset.write(raw.iloc[1:], tmp_path / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    with pytest.raises(ValueError, match=f"changed: expected SHA-256 {written.sha256}, found {other.sha256}"):
        written.read()


def test_a_missing_file_names_the_step_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m flows ingest"):
        dataset.DatasetRef.of(tmp_path / "smass2.parquet")
    with pytest.raises(FileNotFoundError, match="python -m flows features"):
        dataset.DatasetRef.of(tmp_path / "features.parquet")


def test_a_file_that_does_not_say_its_source_is_refused(raw: pd.DataFrame, tmp_path: Path) -> None:
    written = dataset.write(raw, tmp_path / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    pq.write_table(pq.read_table(written.path).replace_schema_metadata({}), tmp_path / "unsaid.parquet")
    with pytest.raises(ValueError, match="does not say its data source"):
        dataset.DatasetRef.of(tmp_path / "unsaid.parquet")


def test_a_write_that_fails_leaves_the_old_file_and_no_part(raw: pd.DataFrame, tmp_path: Path) -> None:
    written = dataset.write(raw, tmp_path / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    with pytest.raises(KeyError):
        dataset.write(raw.drop(columns="wavelength"), tmp_path / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    assert dataset.DatasetRef.of(written.path) == written
    assert len(list(tmp_path.iterdir())) == 1


def test_features_come_apart_into_training_and_test(raw: pd.DataFrame, tmp_path: Path) -> None:
    ref = dataset.write(dataset.features(raw), tmp_path / "features.parquet", dataset.FEATURES_SCHEMA, "simulated")
    train, test = dataset.labelled(ref.read())
    assert len(train) + len(test) == 200
    assert len(test) > 0
    assert set(train.designation).isdisjoint(test.designation)
    assert train.reflectance.shape == (len(train), 49)
    assert (train.fold >= 0).all()
    assert (test.fold == -1).all()
    assert [BUS_CLASSES[code] for code in train[:3].bus] == [
        raw.set_index("designation").loc[name, "bus_class"] for name in train.designation[:3]
    ]

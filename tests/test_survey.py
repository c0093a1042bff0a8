"""Surveys as Parquet: every row is read once, wherever it lies, and what is no survey is told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrd import simulate, survey
from astrd.survey import BATCH_ROWS, CHANNEL_COLUMNS, Partition, Survey, SurveyError

CHANNELS = simulate.channels(300, seed=2)[0]
FILES = {"a": 130, "b": 1, "c": 0, "d": 64}


def lists(values: np.ndarray, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(list(values), kind or pa.list_(pa.float64()))


def by_row(rows: int) -> pa.Table:
    """Spectra whose designation is their row."""
    names = [str(row) for row in range(rows)]
    return pa.table({"designation": names, "reflectance": lists(np.tile(CHANNELS[:1], (rows, 1)))})


def read(place: str, partition_rows: int = 10**9) -> list[tuple[str, int, str]]:
    """File, row and designation of all spectra of a survey."""
    found = Survey.find(place)
    return [
        (Path(partition.file).name, first + offset, name)
        for partition in found.partitions(partition_rows)
        for first, batch in survey.batches(partition, found.layout)
        for offset, name in enumerate(survey.designations(batch))
    ]


LISTS: dict[str, Callable[[], pa.Array]] = {
    "lists": lambda: lists(CHANNELS),
    "large lists": lambda: lists(CHANNELS, pa.large_list(pa.float64())),
    "lists of one size": lambda: lists(CHANNELS, pa.list_(pa.float64(), 49)),
    "32 bit": lambda: lists(CHANNELS, pa.list_(pa.float32())),
}


@pytest.mark.parametrize("kind", LISTS)
def test_channels_in_any_kind_of_list_are_the_same(tmp_path: Path, kind: str) -> None:
    pq.write_table(pa.table({"reflectance": LISTS[kind]()}), tmp_path / "survey.parquet", row_group_size=70)
    assert_reads_channels(tmp_path / "survey.parquet", "channels")


def test_channels_in_columns_are_the_same(tmp_path: Path) -> None:
    columns = dict(zip(CHANNEL_COLUMNS, CHANNELS.T, strict=True))
    pq.write_table(pa.table({"anything": [0] * len(CHANNELS), **columns}), tmp_path / "survey.parquet")
    assert_reads_channels(tmp_path / "survey.parquet", "channel columns")


def assert_reads_channels(path: Path, layout: str) -> None:
    found = Survey.find(str(path))
    assert (found.layout, found.rows) == (layout, len(CHANNELS))
    parts = [b for p in found.partitions(110) for _, b in survey.batches(p, found.layout)]
    values, faults = zip(*(survey.channels(part) for part in parts), strict=True)
    np.testing.assert_allclose(np.concatenate(values), CHANNELS, rtol=1e-6)
    assert {fault for some in faults for fault in some} == {None}
    assert [name for part in parts for name in survey.designations(part)] == [""] * len(CHANNELS)


def test_a_null_channel_is_one_that_was_not_seen_and_a_list_of_another_length_is_none(tmp_path: Path) -> None:
    values = CHANNELS[:4].tolist()
    values[0][0] = values[0][-1] = None
    values[1] = None
    values[2] = values[2][:-1]
    pq.write_table(pa.table({"reflectance": pa.array(values)}), tmp_path / "survey.parquet")
    ((_, batch),) = survey.batches(Survey.find(str(tmp_path)).partitions(9)[0], "channels")
    found, faults = survey.channels(batch)
    assert np.flatnonzero(np.isnan(found[0])).tolist() == [0, 48]
    np.testing.assert_array_equal(found[3], CHANNELS[3])
    assert faults == [
        None, "expected a list of 49 reflectances, got none", "expected a list of 49 reflectances, got 48", None,
    ]  # fmt: skip


@pytest.mark.parametrize("partition_rows", [1, 7, 50, 64, 1000])
@pytest.mark.parametrize("group_rows", [1, 20, 64, 1000])
def test_every_row_is_read_once(tmp_path: Path, partition_rows: int, group_rows: int) -> None:
    for name, rows in FILES.items():
        pq.write_table(by_row(rows), tmp_path / f"{name}.parquet", row_group_size=group_rows)
    found = read(str(tmp_path), partition_rows)
    assert found == [
        (f"{n}.parquet", row, str(row)) for n, rows in (("a", 130), ("b", 1), ("d", 64)) for row in range(rows)
    ]


def test_a_large_row_group_is_read_a_few_thousand_rows_at_a_time(tmp_path: Path) -> None:
    pq.write_table(by_row(2 * BATCH_ROWS + 100), tmp_path / "survey.parquet", row_group_size=10**6)
    (partition,) = Survey.find(str(tmp_path)).partitions(10**9)
    sizes = [batch.num_rows for _, batch in survey.batches(partition, "channels")]
    assert max(sizes) <= BATCH_ROWS and sum(sizes) == 2 * BATCH_ROWS + 100


def test_a_survey_is_a_file_a_folder_a_pattern_or_a_url(tmp_path: Path) -> None:
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    pq.write_table(by_row(3), tmp_path / "one.parquet")
    pq.write_table(by_row(2), deep / "two.parquet")
    for unread in (tmp_path / "_three.parquet", tmp_path / ".four.parquet", tmp_path / "notes.txt"):
        unread.write_text("no Parquet")
    for place, rows in (
        (tmp_path / "one.parquet", 3),
        (tmp_path, 5),
        (tmp_path / "*.parquet", 3),
        (deep / "t?o.parquet", 2),
        (tmp_path.as_uri(), 5),
    ):
        assert len(read(str(place))) == rows
    with pytest.raises(SurveyError, match=r"expected Parquet at .*notes.txt, got what cannot be read as such"):
        Survey.find(str(tmp_path / "*.txt"))
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/survey/one.parquet", (tmp_path / "one.parquet").read_bytes())
    assert [row for _, row, _ in read("memory://survey", 2)] == [0, 1, 2]


def test_a_file_that_was_written_anew_has_another_fingerprint(tmp_path: Path) -> None:
    pq.write_table(by_row(3), tmp_path / "one.parquet")
    first, again = (Survey.find(str(tmp_path)) for _ in range(2))
    assert first == again
    pq.write_table(by_row(3), tmp_path / "two.parquet")
    (tmp_path / "two.parquet").replace(tmp_path / "one.parquet")
    assert Survey.find(str(tmp_path)).files[0].fingerprint != first.files[0].fingerprint


NO_SURVEYS: dict[str, tuple[dict[str, object], str]] = {
    "other columns": ({"flux": [1.0]}, "lists `wavelength` and `reflectance`.*got flux"),
    "no lists": ({"wavelength": [0.5], "reflectance": [[1.0]]}, "expected lists of numbers as wavelength, got double"),
    "words": ({"reflectance": [["one"]]}, r"expected lists of numbers as reflectance, got list<.*string"),
    "lists in columns": ({name: [[1.0]] for name in CHANNEL_COLUMNS}, r"expected numbers as 0.44, got list"),
    "no rows": ({"reflectance": pa.array([], pa.list_(pa.float64()))}, "expected at least one spectrum"),
}


@pytest.mark.parametrize("kind", NO_SURVEYS)
def test_what_is_no_survey_is_refused(tmp_path: Path, kind: str) -> None:
    columns, message = NO_SURVEYS[kind]
    pq.write_table(pa.table(columns), tmp_path / "survey.parquet")
    with pytest.raises(SurveyError, match=message):
        Survey.find(str(tmp_path))


def test_files_of_several_layouts_are_no_survey(tmp_path: Path) -> None:
    pq.write_table(by_row(1), tmp_path / "a.parquet")
    pq.write_table(pa.table({"wavelength": [[0.5]], "reflectance": [[1.0]]}), tmp_path / "b.parquet")
    with pytest.raises(SurveyError, match=r"one layout .* channels in .*a\.parquet, raw in .*b\.parquet"):
        Survey.find(str(tmp_path))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.parquet", "no survey at nowhere.parquet: expected a Parquet file, a folder"),
        ("nowhere/*.parquet", "no survey at"),
        ("tape://survey", r"tape://survey cannot be reached: .*tape"),
    ],
)
def test_a_place_without_a_survey_is_named(place: str, message: str) -> None:
    with pytest.raises(SurveyError, match=message):
        Survey.find(place)


def test_partitions_hold_their_number_of_rows() -> None:
    files = tuple(survey.SurveyFile(f"{n}", rows, "") for n, rows in (("a", 5), ("b", 0), ("c", 4)))
    found = Survey(files, "raw")
    assert found.partitions(4) == [Partition("a", 0, 4), Partition("a", 4, 5), Partition("c", 0, 4)]
    assert sum(map(len, found.partitions(3))) == found.rows == 9

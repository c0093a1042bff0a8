"""Surveys as Parquet: every row is read once, wherever it lies, and what is no survey is told apart."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrd import simulate, survey
from astrd.storage import without_secrets
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


def test_a_null_among_lists_of_one_size_is_a_row_without_a_spectrum(tmp_path: Path) -> None:
    values = pa.array([*CHANNELS[:2].tolist(), None, CHANNELS[2].tolist()], pa.list_(pa.float32(), 49))
    pq.write_table(pa.table({"reflectance": values, "designation": list("abcd")}), tmp_path / "survey.parquet")
    ((_, batch),) = survey.batches(Survey.find(str(tmp_path)).partitions(9)[0], "channels")
    found, faults = survey.channels(batch)
    np.testing.assert_allclose(found[[0, 1, 3]], CHANNELS[:3], rtol=1e-6)
    assert faults == [None, None, "expected a list of 49 reflectances, got none", None]
    assert survey.designations(batch) == list("abcd")


@pytest.mark.parametrize("uncertainty", [None, [], [None] * 3])
def test_a_raw_survey_may_have_no_uncertainty_at_all(tmp_path: Path, uncertainty: Any) -> None:
    columns = {"wavelength": [[0.4, 0.5, 0.6]] * 2, "reflectance": [[1.0, 1.0, 1.0]] * 2}
    pd.DataFrame({**columns, "uncertainty": [uncertainty] * 2}).to_parquet(tmp_path / "survey.parquet")
    found = Survey.find(str(tmp_path))
    ((_, batch),) = survey.batches(found.partitions(9)[0], found.layout)
    assert list(survey.lists(batch, "uncertainty")) == [None, None]


def test_a_channel_that_nobody_saw_is_a_column_of_none(tmp_path: Path) -> None:
    columns = {**dict(zip(CHANNEL_COLUMNS, CHANNELS[:3].T, strict=True)), CHANNEL_COLUMNS[-1]: [None] * 3}
    pd.DataFrame(columns).to_parquet(tmp_path / "survey.parquet")
    found = Survey.find(str(tmp_path))
    ((_, batch),) = survey.batches(found.partitions(9)[0], found.layout)
    values, faults = survey.channels(batch)
    np.testing.assert_array_equal(values[:, :-1], CHANNELS[:3, :-1])
    assert np.isnan(values[:, -1]).all() and faults == [None] * 3


@pytest.mark.parametrize("empty", [[], {"reflectance": []}, {"wavelength": pd.Series([], dtype=object), "flux": []}])
def test_a_file_without_rows_adds_nothing_whatever_its_columns(tmp_path: Path, empty: Any) -> None:
    pd.DataFrame(empty).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(SurveyError, match="expected at least one spectrum, got no rows in"):
        Survey.find(str(tmp_path))
    pq.write_table(by_row(3), tmp_path / "survey.parquet")
    assert len(read(str(tmp_path))) == 3


NAMES: dict[str, tuple[pa.Array, list[str]]] = {
    "bytes in another encoding": (pa.array([b"(1) C\xe9r\xe8s", b"Vesta", None]), ["(1) C\ufffdr\ufffds", "Vesta", ""]),
    "numbers": (pa.array([1, 4, None]), ["1", "4", ""]),
    "none": (pa.nulls(3), ["", "", ""]),
    "few": (pa.array(["a", "b", None]).dictionary_encode(), ["a", "b", ""]),
}


@pytest.mark.parametrize("kind", NAMES)
def test_designations_are_text_whatever_they_were_written_as(tmp_path: Path, kind: str) -> None:
    column, expected = NAMES[kind]
    pq.write_table(pa.table({"designation": column, "reflectance": lists(CHANNELS[:3])}), tmp_path / "survey.parquet")
    assert [name for *_, name in read(str(tmp_path))] == expected


def test_text_that_is_no_utf_8_is_read_all_the_same(tmp_path: Path) -> None:
    """Parquet does not hold its writers to the encoding that it says."""
    broken = pa.array([b"C\xe9r\xe8s"]).view(pa.string())
    pq.write_table(pa.table({"designation": broken, "reflectance": lists(CHANNELS[:1])}), tmp_path / "survey.parquet")
    assert [name for *_, name in read(str(tmp_path))] == ["C\ufffdr\ufffds"]


def read_again(partition: Partition) -> None:
    list(survey.batches(partition, "channels"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "survey.parquet"
    pq.write_table(by_row(100), path, compression="none", use_dictionary=False)
    partition = Survey.find(str(tmp_path)).partitions(60)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(40) + whole[44:])
    with pytest.raises(SurveyError, match=r"survey\.parquet, rows 60 to 100, cannot be read: .*Is the file whole"):
        read_again(partition)
    pq.write_table(by_row(50), path)
    with pytest.raises(SurveyError, match=r"rows 60 to 100, cannot be read: expected 100 rows or more, got 50"):
        read_again(partition)
    path.unlink()
    with pytest.raises(SurveyError, match=r"rows 60 to 100, cannot be read: .*No such file"):
        read_again(partition)
    path.write_bytes(whole)
    read_again(partition)


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


def test_names_that_look_like_patterns_or_chains_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("run[1].parquet", "run::2.parquet", "RUN.PARQUET", "night[3]/x.parquet", "a::b/y.pq"):
        Path(name).parent.mkdir(exist_ok=True)
        with Path(name).open("wb") as file:
            pq.write_table(by_row(1), file)
        assert read(name) == read(str(Path(name).absolute())) == [(Path(name).name, 0, "0")]
    assert len(read("night[3]")) == len(read("a::b/*.pq")) == 1
    assert len(read(".")) == 5


def test_a_pattern_may_match_folders(tmp_path: Path) -> None:
    for name in (
        "night=1/a.parquet",
        "night=1/notes.txt",
        "night=1/_log/b.parquet",
        "night=2/deep/c.PARQUET",
        "d.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(by_row(1), tmp_path / name)
    assert [name for name, *_ in read(str(tmp_path / "night=*"))] == ["a.parquet", "c.PARQUET"]
    for everything in ("*", "**/*.[pP]*", "."):
        assert [name for name, *_ in read(str(tmp_path / everything))] == ["d.parquet", "a.parquet", "c.PARQUET"]


def test_folders_that_links_lead_to_are_read_and_none_without_end(tmp_path: Path) -> None:
    for name in ("elsewhere/a.parquet", "elsewhere/deep/b.parquet", "survey/c.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(by_row(1), tmp_path / name)
    (tmp_path / "survey" / "night=1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "survey" / "d.parquet").symlink_to(tmp_path / "elsewhere" / "a.parquet")
    (tmp_path / "survey" / "back").symlink_to(tmp_path)
    (tmp_path / "elsewhere" / "deep" / "round").symlink_to(tmp_path / "survey")
    names = ["c.parquet", "d.parquet", "a.parquet", "b.parquet"]
    for place in ("survey", "survey/**/*.parquet"):
        assert [name for name, *_ in read(str(tmp_path / place))] == names
    assert [name for name, *_ in read(str(tmp_path / "survey/*/*.parquet"))] == ["a.parquet"]


def test_a_link_to_nowhere_and_a_folder_that_must_not_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(by_row(1), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to(tmp_path / "nowhere.parquet")
    with pytest.raises(SurveyError, match=r"expected Parquet at .*b\.parquet"):
        Survey.find(str(tmp_path))
    (tmp_path / "b.parquet").unlink()
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refused(path: str) -> Any:  # tests may run as root, whom no mode keeps out
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="closed"):
        Survey.find(str(tmp_path))


def test_the_answers_are_no_part_of_the_survey(tmp_path: Path) -> None:
    pq.write_table(by_row(2), tmp_path / "a.parquet")
    (tmp_path / "answers" / "classified").mkdir(parents=True)
    pq.write_table(by_row(2), tmp_path / "answers" / "classified" / "part-000000.parquet")
    pq.write_table(by_row(2), tmp_path / "answers2.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "answers")
    for place in (str(tmp_path), str(tmp_path / "**" / "*.parquet"), tmp_path.as_uri()):
        for answers in ("answers", "link"):
            files = Survey.find(place, besides=str(tmp_path / answers)).files
            assert [Path(file.url).name for file in files] == ["a.parquet", "answers2.parquet"]
    with pytest.raises(SurveyError, match=r"no survey at .*classified outside of .*answers: expected"):
        Survey.find(str(tmp_path / "answers" / "classified"), besides=str(tmp_path / "answers"))


def test_a_survey_may_lie_in_an_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        pq.write_table(by_row(3), tmp_path / f"{name}.parquet")
    with zipfile.ZipFile(tmp_path / "nights.zip", "w") as archive:
        archive.write(tmp_path / "one.parquet", "deep/one.parquet")
        archive.write(tmp_path / "two.parquet", "two.parquet")
    chain = (tmp_path / "nights.zip").as_uri()
    for place, names in (("two.parquet", ["two"]), ("", ["one", "two"]), ("deep", ["one"]), ("*.parquet", ["two"])):
        found = Survey.find(f"zip://{place}::{chain}")
        assert [file.url for file in found.files] == [
            f"zip://{'deep/' if name == 'one' else ''}{name}.parquet::{chain}" for name in names
        ]
        for partition in pickle.loads(pickle.dumps(found.partitions(2))):
            assert sum(batch.num_rows for _, batch in survey.batches(partition, found.layout)) == len(partition)


def test_a_password_opens_the_survey_and_is_shown_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    pq.write_table(by_row(3), path)
    Hosted().pipe_file("/survey/one.parquet", path.read_bytes())
    found = Survey.find("hosted://me:s3cret@far/survey")
    assert found.files[0].url == "hosted://far/survey/one.parquet"
    assert "s3cret" not in repr(found) + str(found.partitions(2))
    (first, _) = pickle.loads(pickle.dumps(found.partitions(2)))
    assert [batch.num_rows for _, batch in survey.batches(first, "channels")] == [2]
    with pytest.raises(SurveyError, match="no survey at hosted://far/nothing: expected"):
        Survey.find("hosted://me:s3cret@far/nothing")


class Hosted(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A storage whose paths do not name the host, and whose one connection serves one thread, as that of FTP."""

    protocol = "hosted"
    store: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, host: str = "far", password: str = "s3cret", **options: Any) -> None:
        super().__init__(**options)
        assert (host, password) == ("far", "s3cret")
        self.thread = threading.get_ident()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("hosted://").partition("/")[2].rstrip("/") if "://" in path else path.rstrip("/")

    def _open(self, *arguments: Any, **options: Any) -> Any:
        assert self.thread == threading.get_ident()
        return super()._open(*arguments, **options)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        user, _, host = path.removeprefix("hosted://").partition("/")[0].rpartition("@")
        return {"host": host, "password": user.partition(":")[2]}


fsspec.register_implementation("hosted", Hosted, clobber=True)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ftp://me:pw@host/a", "ftp://host/a"),
        ("zip://a::ftp://me:pw@host/z.zip", "zip://a::ftp://host/z.zip"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("zip://a::https://host/z.zip?sig=pw&x=1", "zip://a::https://host/z.zip"),
        ("nights/run?.parquet", "nights/run?.parquet"),
    ],
)
def test_urls_are_shown_without_passwords(name: str, shown: str) -> None:
    assert without_secrets(name) == shown


def test_what_storages_call_the_time_of_writing_is_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    pq.write_table(by_row(3), path)
    (before,) = Survey.find(str(path)).files
    path.chmod(0o600)
    os.link(path, tmp_path / "two")
    assert Survey.find(str(path)).files == (before,)
    shutil.copy(path, tmp_path / "three")
    os.utime(tmp_path / "three", (2e9, 2e9))
    (tmp_path / "three").replace(path)
    assert Survey.find(str(path)).files != (before,)


def test_a_file_that_was_written_anew_has_another_fingerprint(tmp_path: Path) -> None:
    pq.write_table(by_row(3), tmp_path / "one.parquet")
    first, again = (Survey.find(str(tmp_path)) for _ in range(2))
    assert first == again
    pq.write_table(by_row(3), tmp_path / "two.parquet")
    os.utime(tmp_path / "two.parquet", (2e9, 2e9))
    (tmp_path / "two.parquet").replace(tmp_path / "one.parquet")
    assert Survey.find(str(tmp_path)).files[0].fingerprint != first.files[0].fingerprint


NO_SURVEYS: dict[str, tuple[dict[str, object], str]] = {
    "other columns": ({"flux": [1.0]}, "lists `wavelength` and `reflectance`.*got flux"),
    "no lists": ({"wavelength": [0.5], "reflectance": [[1.0]]}, "expected lists of numbers as wavelength, got double"),
    "words": ({"reflectance": [["one"]]}, r"expected lists of numbers as reflectance, got list<.*string"),
    "a channel is missing": (
        {name: [1.0] for name in CHANNEL_COLUMNS if name != "0.60"},
        "got 48 of these, without 0.60, in",
    ),
    "many other columns": ({f"flux{n}": [1.0] for n in range(9)}, r"got flux0, .*, flux7, \.\.\. in"),
    "lists in columns": ({name: [[1.0]] for name in CHANNEL_COLUMNS}, r"expected numbers as 0.44, got list"),
    "names in lists": (
        {"designation": [["a"]], "reflectance": [[1.0]]},
        r"expected text or numbers as designation, got list<.*string",
    ),
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
    with pytest.raises(ValueError, match=message):
        Survey.find(place)


def test_partitions_hold_their_number_of_rows() -> None:
    files = tuple(survey.SurveyFile(f"{n}", rows, "") for n, rows in (("a", 5), ("b", 0), ("c", 4)))
    found = Survey(files, "raw")
    assert found.partitions(4) == [Partition("a", 0, 4), Partition("a", 4, 5), Partition("c", 0, 4)]
    assert sum(map(len, found.partitions(3))) == found.rows == 9

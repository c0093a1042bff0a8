"""The SMASS II archive: fetched safely, read completely."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import logging
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from astrd import smass, smass_spectra
from astrd.dataset import RAW_SCHEMA
from astrd.smoothing import WAVELENGTH, bus_smoothing

CONTENT = {"Bus.Taxonomy.txt": b"1 Ceres\tG\tC\n", "smass2data.tar.gz": gzip.compress(b"spectra")}


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small files in the archive's place, no mirror in the environment, and an official host that is closed."""
    files = tuple(smass.ArchiveFile(name, hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items())
    monkeypatch.setattr(smass, "FILES", files)
    monkeypatch.setattr(smass, "OFFICIAL_ADDRESS", "http://127.0.0.1:9/data")
    monkeypatch.setattr(smass, "_BACK_OFF", 0.0)
    monkeypatch.delenv(smass.MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def mirror(tmp_path: Path, pinned: None) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return folder


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        if self.path.endswith(".gz"):  # as some servers declare it
            self.send_header("Content-Encoding", "x-gzip")
        super().end_headers()


@pytest.fixture
def served(mirror: Path) -> Iterator[str]:
    """The mirror as a web server on this machine."""
    handler = functools.partial(_Handler, directory=str(mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_mirror_folder_is_copied_and_missing_folders_are_made(tmp_path: Path, mirror: Path) -> None:
    paths = smass.fetch(tmp_path / "data" / "raw", str(mirror))
    assert contents(tmp_path / "data" / "raw") == CONTENT
    assert paths.taxonomy.name == "Bus.Taxonomy.txt"
    assert paths.spectra.name == "smass2data.tar.gz"


def test_a_mirror_may_be_a_file_address(tmp_path: Path, mirror: Path) -> None:
    smass.fetch(tmp_path / "raw", mirror.as_uri())
    assert contents(tmp_path / "raw") == CONTENT


def test_a_mirror_may_be_a_web_address_even_one_that_calls_the_tar_an_encoding(tmp_path: Path, served: str) -> None:
    smass.fetch(tmp_path / "raw", served)
    assert contents(tmp_path / "raw") == CONTENT


def test_the_environment_names_a_mirror_and_the_argument_goes_before_it(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(smass.MIRROR_VARIABLE, str(mirror))
    smass.fetch(tmp_path / "raw")
    assert contents(tmp_path / "raw") == CONTENT
    with pytest.raises(smass.ArchiveUnavailable, match="elsewhere"):
        smass.fetch(tmp_path / "other", str(tmp_path / "elsewhere"))


def test_without_a_mirror_the_official_address_is_asked(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smass, "OFFICIAL_ADDRESS", served)
    smass.fetch(tmp_path / "raw")
    assert contents(tmp_path / "raw") == CONTENT


def test_files_that_are_there_need_no_source(tmp_path: Path, mirror: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mirror.iterdir()}
    smass.fetch(mirror, "http://127.0.0.1:9/nowhere")
    assert {path: path.stat().st_mtime_ns for path in mirror.iterdir()} == before


def test_a_damaged_file_is_replaced_with_a_warning(
    tmp_path: Path, mirror: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "Bus.Taxonomy.txt").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        smass.fetch(folder, str(mirror))
    assert contents(folder) == CONTENT
    assert "Bus.Taxonomy.txt has the wrong content" in caplog.text


def test_a_damaged_file_stays_until_there_is_a_good_one(tmp_path: Path, mirror: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "Bus.Taxonomy.txt").write_bytes(b"damaged")
    (mirror / "Bus.Taxonomy.txt").unlink()
    with pytest.raises(smass.ArchiveUnavailable):
        smass.fetch(folder, str(mirror))
    assert contents(folder) == {"Bus.Taxonomy.txt": b"damaged"}


@pytest.mark.parametrize("over_http", [False, True])
def test_a_wrong_hash_is_explained_and_leaves_nothing_half_written(
    tmp_path: Path, mirror: Path, served: str, over_http: bool
) -> None:
    (mirror / "smass2data.tar.gz").write_bytes(b"an error page")
    named = served if over_http else str(mirror)
    with pytest.raises(smass.ArchiveError) as caught:
        smass.fetch(tmp_path / "raw", named)
    assert not isinstance(caught.value, smass.ArchiveUnavailable)
    expected, found = smass.FILES[1].sha256, hashlib.sha256(b"an error page").hexdigest()
    for part in ("smass2data.tar.gz", f"the mirror {named}", expected, found, smass.FILES[1].address):
        assert part in str(caught.value)
    assert set(contents(tmp_path / "raw")) == {"Bus.Taxonomy.txt"}


@pytest.mark.parametrize("over_http", [False, True])
def test_a_mirror_without_the_file_is_named_and_not_passed_over(
    tmp_path: Path, mirror: Path, served: str, over_http: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mirror / "Bus.Taxonomy.txt").rename(mirror.parent / "Bus.Taxonomy.txt")
    monkeypatch.setattr(smass, "OFFICIAL_ADDRESS", mirror.parent.as_uri())
    named = served if over_http else str(mirror)
    with pytest.raises(smass.ArchiveUnavailable) as caught:
        smass.fetch(tmp_path / "raw", named)
    assert f"Bus.Taxonomy.txt could not be had from the mirror {named}" in str(caught.value)
    assert contents(tmp_path / "raw") == {}


def test_an_unreachable_official_address_names_the_three_ways(tmp_path: Path, pinned: None) -> None:
    started = time.monotonic()
    with pytest.raises(smass.ArchiveUnavailable) as caught:
        smass.fetch(tmp_path / "raw")
    assert time.monotonic() - started < 20
    hashes = [file.sha256 for file in smass.FILES]
    for way in ("data/raw", *hashes, "--mirror", "ASTRD_MIRROR", smass.OFFICIAL_ADDRESS, "--source simulated"):
        assert way in str(caught.value)
    assert contents(tmp_path / "raw") == {}


@pytest.mark.parametrize("address", ["ftp://example.org/smass", "s3://bucket/smass"])
def test_a_mirror_of_an_unknown_kind_is_refused(tmp_path: Path, pinned: None, address: str) -> None:
    with pytest.raises(smass.ArchiveUnavailable, match="expected a folder, or an address with file://"):
        smass.fetch(tmp_path / "raw", address)


def test_a_password_in_a_mirrors_address_is_not_shown(tmp_path: Path, pinned: None) -> None:
    with pytest.raises(smass.ArchiveUnavailable) as caught:
        smass.fetch(tmp_path / "raw", "http://observer:secret@127.0.0.1:9/smass")
    assert "secret" not in str(caught.value)
    assert "http://127.0.0.1:9/smass" in str(caught.value)


def test_a_file_that_changed_after_it_was_fetched_is_not_read(mirror: Path) -> None:
    paths = smass.ArchivePaths(mirror / "Bus.Taxonomy.txt", mirror / "smass2data.tar.gz")
    with pytest.raises(smass.ArchiveError, match=r"Bus\.Taxonomy\.txt from .* is not the official file"):
        smass.read(paths)


def raw_text(rows: int = 10, first: float = 0.5) -> bytes:
    return b"".join(b"%.4f\t1.0000\t0.0100\n" % (first + 0.01 * i) for i in range(rows))


SMOOTHED_TEXT = b"".join(b"%.2f\t1.0000\n" % channel for channel in WAVELENGTH)

Change = Callable[[tarfile.TarInfo], None]


def spectra_tar(*members: tuple[str, bytes], change: Change = lambda info: None) -> io.BytesIO:
    """A gzipped tar with these members; `change` is applied to the header of the last one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for i, (name, data) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if i == len(members) - 1:
                change(info)
            tar.addfile(info, io.BytesIO(data))
    packed.seek(0)
    return packed


def classes_table(folder: Path, text: str) -> pd.DataFrame:
    path = folder / "Bus.Taxonomy.txt"
    path.write_text("A header without tabs\n\n" + text)
    return smass.read_classes(path)


def test_a_hand_made_archive_is_read_and_joined(tmp_path: Path) -> None:
    members = [(f"smass2/{name}.[2]", raw_text()) for name in ("a011785", "au1996PW", "a000002")]
    members += [(f"smass2/{name}.spfit.[2]", SMOOTHED_TEXT) for name in ("a000002", "a011785", "au1996PW")]
    text = "2 Pallas\tB\tB\n11785 1973 AW3\t\tCh\n      1996 PW \t\tLd\n"
    survey = smass.join(classes_table(tmp_path, text), smass_spectra.read_spectra(spectra_tar(*members)))
    assert survey.refused == ()
    assert survey.table["designation"].tolist() == ["2", "11785", "1996 PW"]
    assert survey.table["bus_class"].tolist() == ["B", "Ch", "Ld"]
    assert survey.table["name"].tolist()[:2] == ["Pallas", "1973 AW3"]
    assert survey.table["name"].isna().tolist() == [False, False, True]
    assert survey.table["tholen_class"].isna().tolist() == [False, True, True]


def test_spectra_that_cannot_be_joined_are_named(tmp_path: Path) -> None:
    members = [(f"a00000{i}.[2]", raw_text()) for i in (1, 2, 3)] + [("a000004.spfit.[2]", SMOOTHED_TEXT)]
    text = "2 Pallas\tB\t-\n3 Juno\tS\tSk\n4 Vesta\tV\tV\n"
    survey = smass.join(classes_table(tmp_path, text), smass_spectra.read_spectra(spectra_tar(*members)))
    assert len(survey.table) == 0
    assert [(refusal.member, refusal.reason) for refusal in survey.refused] == [
        ("a000001.[2]", "1 has no row in the table of classes"),
        ("a000002.[2]", "2 has no Bus class"),
        ("a000003.[2]", "3 has no smoothed spectrum"),
        ("a000004.spfit.[2]", "4 has no raw spectrum"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a000001.[2]", b"0.5 one 0.1\n", "numbers only"),
        ("a000001.[2]", b"0.5 1.0\n", "3 columns"),
        ("a000001.[2]", raw_text() + b"0.9 nan 0.1\n", "finite"),
        ("a000001.[2]", raw_text(3), "at least 4 rows"),
        ("a000001.[2]", raw_text() + raw_text(), "increase strictly"),
        ("a000001.[2]", raw_text() + b"0.9 1.0 0.0\n", "above 0"),
        ("a000001.[2]", b"", "at least 4 rows"),
        ("a000001.spfit.[2]", b"0.44 1.0\n", "49 wavelengths"),
        ("a000001.txt", raw_text(), "expected a name"),
        ("a000009.[2]", raw_text(), "a second spectrum of 9"),
    ],
)
def test_a_broken_spectrum_is_refused_and_the_others_are_read(name: str, data: bytes, reason: str) -> None:
    files = smass_spectra.read_spectra(spectra_tar(("smass2/a000009.[2]", raw_text()), (f"smass2/{name}", data)))
    assert list(files.raw) == ["9"]
    assert [refusal.member for refusal in files.refused] == [f"smass2/{name}"]
    assert reason in files.refused[0].reason


def test_broken_spectra_do_not_stand_in_each_others_way() -> None:
    """All are checked at once: what is wrong with one is told of it alone."""
    broken = {
        "a000001.[2]": (raw_text() + b"0.9 inf 0.1\n", "finite numbers in 3 columns"),
        "a000003.[2]": (b"0 0 0\n" * 5, "got 0"),
        "a000005.[2]": (raw_text(3), "got 3"),
        "a000007.[2]": (b"-0.1 1 0.1\n" + raw_text(), "increase strictly"),
        "a000009.[2]": (raw_text() + b"0.9 1.0 -0.1\n", "above 0"),
        "a000011.[2]": (b"one", "numbers only"),
        "a000001.spfit.[2]": (b"0.44 1.0\n", "49 wavelengths"),
        "a000003.spfit.[2]": (SMOOTHED_TEXT.replace(b"0.92", b"0.93"), "49 wavelengths"),
        "a000005.spfit.[2]": (SMOOTHED_TEXT + b"1", "finite numbers in 2 columns"),
    }
    sound = {f"a00000{number}{kind}.[2]": raw_text() if not kind else SMOOTHED_TEXT
             for number in (2, 4, 6, 8) for kind in ("", ".spfit")}  # fmt: skip
    members = sorted({**{name: data for name, (data, _) in broken.items()}, **sound}.items())
    files = smass_spectra.read_spectra(spectra_tar(*members))
    alone = smass_spectra.read_spectra(spectra_tar(*sound.items()))
    assert list(files.raw) == list(files.smoothed) == ["2", "4", "6", "8"]
    for designation in files.raw:
        np.testing.assert_array_equal(files.raw[designation], alone.raw[designation])
        np.testing.assert_array_equal(files.smoothed[designation], alone.smoothed[designation])
    reasons = {refusal.member: refusal.reason for refusal in files.refused}
    assert reasons.keys() == broken.keys()
    for name, (_, reason) in broken.items():
        assert reason in reasons[name]


def test_rejected_rows_are_dropped_and_counted() -> None:
    files = smass_spectra.read_spectra(spectra_tar(("a000009.[2]", b"0.0 0.0 0.0\n" + raw_text() + b"0.0 0.0 0.0\n")))
    assert files.rejected_rows == {"9": 2}
    assert files.raw["9"].shape == (10, 3)


def as_link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "a000001.[2]", 0


def as_hard_link(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.LNKTYPE, "a000001.[2]", 0


def as_device(info: tarfile.TarInfo) -> None:
    info.type, info.size = tarfile.CHRTYPE, 0


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("/etc/a000002.[2]", None, "leaves the archive"),
        ("smass2/../../a000002.[2]", None, "leaves the archive"),
        ("..\\a000002.[2]", None, "leaves the archive"),
        ("a000002.[2]", as_link, "neither a file nor a folder"),
        ("a000002.[2]", as_hard_link, "neither a file nor a folder"),
        ("a000002.[2]", as_device, "neither a file nor a folder"),
    ],
)
def test_an_archive_with_an_unsafe_member_is_not_read(name: str, change: Change | None, problem: str) -> None:
    tar = spectra_tar(("a000001.[2]", raw_text()), (name, raw_text()), change=change or (lambda info: None))
    with pytest.raises(smass.ArchiveError, match=problem):
        smass_spectra.read_spectra(tar)


def in_other_formats() -> Iterator[tuple[str, bytes]]:
    """Names that a plain header holds, and those that take a prefix, a header of their own, or all of its bytes."""
    names = [
        "a000001.[2]",
        "smass2/a000001.[2]",
        f"{'x' * 88}/a000001.[2]",
        f"{'x' * 120}/a000001.[2]",
        "é/a000001.[2]",
    ]
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for name in names:
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz", format=form) as tar:
                info = tarfile.TarInfo(name)
                info.size = len(raw_text())
                tar.addfile(info, io.BytesIO(raw_text()))
            yield name, packed.getvalue()


def test_every_form_of_header_is_read_as_tarfile_reads_it() -> None:
    for name, packed in in_other_formats():
        files = smass_spectra.read_spectra(io.BytesIO(packed))
        assert list(files.raw) == ["1"]
        assert files.member == {"1": name}


@pytest.mark.parametrize("place", [0, 130, 150, 156])
def test_a_header_that_is_out_of_order_is_told(place: int) -> None:
    content = bytearray(gzip.decompress(spectra_tar(("a000001.[2]", raw_text())).getvalue()))
    content[place] ^= 1  # its sum is no longer what the header says
    with pytest.raises(smass.ArchiveError, match="not a readable gzipped tar"):
        smass_spectra.read_spectra(io.BytesIO(gzip.compress(bytes(content))))


def test_a_member_above_the_limit_is_not_read() -> None:
    with pytest.raises(smass.ArchiveError, match="the limit is 1048576"):
        smass_spectra.read_spectra(spectra_tar(("a000001.[2]", b" " * (smass_spectra.MAX_MEMBER_BYTES + 1))))
    assert smass_spectra.read_spectra(spectra_tar(("DIRECTORY", b" " * smass_spectra.MAX_MEMBER_BYTES))).raw == {}


def test_too_many_members_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [(f"a00000{i}.[2]", raw_text()) for i in range(1, 5)]
    monkeypatch.setattr(smass_spectra, "MAX_MEMBERS", 4)
    assert len(smass_spectra.read_spectra(spectra_tar(*members)).raw) == 4
    monkeypatch.setattr(smass_spectra, "MAX_MEMBERS", 3)
    with pytest.raises(smass.ArchiveError, match="more than 3 members"):
        smass_spectra.read_spectra(spectra_tar(*members))


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (smass_spectra.MAX_TOTAL_BYTES + 1), compresslevel=1)
    with pytest.raises(smass.ArchiveError, match="unpacks to more than"):
        smass_spectra.read_spectra(io.BytesIO(bomb))


@pytest.mark.parametrize(
    "data",
    [b"not an archive", b"", spectra_tar(("a000001.[2]", raw_text())).getvalue()[:-20], gzip.compress(b"x" * 600)],
)
def test_what_is_no_gzipped_tar_is_an_archive_error(data: bytes) -> None:
    with pytest.raises(smass.ArchiveError, match="not a readable gzipped tar"):
        smass_spectra.read_spectra(io.BytesIO(data))


def test_shifted_columns_give_their_class_and_a_dash_gives_none(tmp_path: Path) -> None:
    table = classes_table(tmp_path, "523 Ada\t\t\t\tX\n3908 Nyx        \tV\t-\n4 Vesta\tV\tV\n5 Astraea\tS\t\n")
    assert table["bus_class"].fillna("none").tolist() == ["X", "none", "V", "none"]
    assert table["tholen_class"].fillna("none").tolist() == ["none", "V", "V", "S"]


@pytest.mark.parametrize(("row", "problem"), [("1 Ceres\tG\tZ\n", "got 'Z'"), ("Ceres\tG\tC\n", "got 'Ceres'")])
def test_a_row_that_makes_no_sense_is_named_by_its_line(tmp_path: Path, row: str, problem: str) -> None:
    with pytest.raises(smass.ArchiveError, match=f"line 3: .*{problem}"):
        classes_table(tmp_path, row)


@pytest.mark.archive
def test_all_1341_spectra_find_their_class(archive_survey: smass.Survey) -> None:
    table = archive_survey.table
    assert archive_survey.refused == ()
    assert len(table) == table["designation"].nunique() == 1341
    assert table["main_group"].value_counts().to_dict() == {"S": 549, "C": 397, "X": 238, "Other": 157}
    assert table["bus_class"].nunique() == 25
    assert "Q" not in set(table["bus_class"])


@pytest.mark.archive
def test_the_table_of_classes_has_1447_rows(archive_folder: Path) -> None:
    classes = smass.read_classes(archive_folder / "Bus.Taxonomy.txt")
    assert len(classes) == classes["designation"].nunique() == 1447
    without = classes.loc[classes["bus_class"].isna(), "designation"]
    assert without.tolist() == ["3908", "5646", "7888", "8566"]


@pytest.mark.archive
def test_provisional_designations_find_their_class(raw_table: pd.DataFrame) -> None:
    provisional = raw_table.iloc[-8:]
    assert provisional["designation"].tolist() == sorted(provisional["designation"])
    assert provisional.set_index("designation").loc["1996 PW", "bus_class"] == "Ld"
    assert provisional["name"].isna().all()
    assert raw_table["designation"].iloc[:-8].astype(int).is_monotonic_increasing


@pytest.mark.archive
def test_shifted_columns_of_the_archive_are_read(raw_table: pd.DataFrame) -> None:
    rows = raw_table.set_index("designation")
    assert rows.loc["523", ["name", "bus_class"]].tolist() == ["Ada", "X"]
    assert rows.loc["614", ["name", "bus_class"]].tolist() == ["Pia", "C"]
    assert rows.loc[["523", "614"], "tholen_class"].isna().all()
    assert rows.loc["1", ["name", "tholen_class"]].tolist() == ["Ceres", "G"]


@pytest.mark.archive
def test_rejected_rows_of_the_archive_are_dropped(archive_survey: smass.Survey) -> None:
    table = archive_survey.table
    rejected = table.loc[table["rejected_rows"] > 0].set_index("designation")["rejected_rows"]
    assert rejected.to_dict() == {"3861": 1, "6847": 23}
    assert archive_survey.rejected_rows == 24
    assert all((wavelength > 0.4).all() and (np.diff(wavelength) > 0).all() for wavelength in table["wavelength"])


@pytest.mark.archive
def test_our_smoothing_reproduces_the_archives_own(raw_table: pd.DataFrame) -> None:
    ours = bus_smoothing(*(raw_table[c].tolist() for c in ("wavelength", "reflectance", "uncertainty")))
    rms = np.sqrt(((ours - np.array(raw_table["reference_reflectance"].tolist())) ** 2).mean(axis=1))
    assert np.median(rms) < 1e-4
    assert (rms > 2e-4).sum() <= 15


@pytest.mark.archive
def test_the_table_fits_the_schema(raw_table: pd.DataFrame) -> None:
    arrow = pa.Table.from_pandas(raw_table, schema=RAW_SCHEMA, preserve_index=False)
    assert arrow.column("name").null_count == 8
    assert arrow.column("bus_class").null_count == arrow.column("reflectance").null_count == 0

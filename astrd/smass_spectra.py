"""The spectra of the SMASS II archive: a gzipped tar, read in one pass, and what is wrong with a spectrum in it.

The numbers of all raw files become one array, those of all smoothed ones another, and are checked at once.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from astrd.smoothing import WAVELENGTH

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_MEMBERS: Final = 10_000
MAX_MEMBER_BYTES: Final = 2**20
MAX_TOTAL_BYTES: Final = 64 * 2**20

_NAME: Final = re.compile(r"a(?:(\d{6})|u(\d{4})([A-Z]{2}\d*))(\.spfit)?\.\[2\]")
_FEWEST_ROWS: Final = 4  # that a spline can smooth


class ArchiveError(Exception):
    """A file of the archive is not what it must be."""


@dataclass(frozen=True)
class Refusal:
    """A member of the archive that did not become a row of the table, and why."""

    member: str
    reason: str


@dataclass(frozen=True)
class SpectraFiles:
    """The spectra in the tar, by designation.

    `raw` holds arrays of shape (n, 3): wavelength (µm), reflectance, uncertainty (1 sigma), without the rejected
    rows, which are counted. `smoothed` holds Bus's own 49 channels. `member` names the file of each.
    """

    raw: Mapping[str, Array]
    smoothed: Mapping[str, Array]
    rejected_rows: Mapping[str, int]
    member: Mapping[str, str]
    refused: tuple[Refusal, ...] = ()


def read_spectra(archive: IO[bytes]) -> SpectraFiles:
    """Read all spectra from the gzipped tar, in one pass and without writing a file.

    A spectrum that is broken is refused and named. An archive with anything that has no place in it is not read at all.

    Raises
    ------
    ArchiveError
        If it is not a gzipped tar, or holds a path that is absolute or climbs, a link or device, a member above 1 MiB,
        more than 10,000 members or more than 64 MiB.
    """
    raw_members: list[_Member] = []
    smoothed_members: list[_Member] = []
    refused: list[Refusal] = []
    for name, content in _members(archive):
        if found := _NAME.fullmatch(_last_part(name)):
            number, year, letters, smoothed = found.groups()
            member = _Member(name, str(int(number)) if number else f"{year} {letters}", content)
            (smoothed_members if smoothed else raw_members).append(member)
        else:
            refused.append(Refusal(name, "expected a name like a000001.[2] or a000001.spfit.[2]"))
    raw, rejected_rows, raw_faults = _raw(raw_members)
    smoothed_spectra, smoothed_faults = _smoothed(smoothed_members)
    raw_places = _sound(raw_members, raw_faults, refused)
    smoothed_places = _sound(smoothed_members, smoothed_faults, refused)
    return SpectraFiles(
        raw={designation: raw[place] for designation, place in raw_places.items()},
        smoothed={designation: smoothed_spectra[place] for designation, place in smoothed_places.items()},
        rejected_rows={designation: rejected_rows[place] for designation, place in raw_places.items()},
        member={designation: smoothed_members[place].name for designation, place in smoothed_places.items()}
        | {designation: raw_members[place].name for designation, place in raw_places.items()},
        refused=tuple(refused),
    )


@dataclass(frozen=True)
class _Member:
    """A file in the tar that has the name of a spectrum."""

    name: str
    designation: str
    content: bytes


class _Header(tarfile.TarInfo):
    """Reads the headers of plain files, which are all but one, in a third of the time: without owners and dates."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Name and size of a plain file. Any other header, and any that is out of order, is left to `tarfile`."""
        name, ended, _ = buf[:100].partition(b"\0")
        if len(buf) == tarfile.BLOCKSIZE and ended and buf[156:157] == tarfile.REGTYPE and not buf[345]:
            try:
                size, checksum = int(buf[124:136].rstrip(b"\0 "), 8), int(buf[148:156].rstrip(b"\0 "), 8)
            except ValueError:
                return super().frombuf(buf, encoding, errors)
            if checksum == sum(buf[:148]) + sum(buf[156:]) + 8 * ord(" "):  # for the field of the sum itself
                header = cls(name.decode(encoding, errors))
                header.size = size
                return header
        return super().frombuf(buf, encoding, errors)


def _members(archive: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the files in the gzipped tar, but for its list of contents."""
    try:
        # One bounded read: no header in the tar can make its reader ask for more than this.
        content = gzip.GzipFile(fileobj=archive).read(MAX_TOTAL_BYTES + 1)
        if len(content) > MAX_TOTAL_BYTES:
            raise ArchiveError(f"the archive unpacks to more than {MAX_TOTAL_BYTES} bytes: refused")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:", tarinfo=_Header) as tar:
            total = 0
            for count, member in enumerate(tar, start=1):
                total += member.size
                _check_member(member, count, total)
                if not member.isdir() and _last_part(member.name) != "DIRECTORY":
                    yield member.name, content[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ArchiveError(f"the spectra are not a readable gzipped tar: {error}") from error


def _check_member(member: tarfile.TarInfo, count: int, total: int) -> None:
    # As text, not as a path: that takes a tenth of the time of reading the archive.
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        problem = "its path leaves the archive"
    elif not (member.isreg() or member.isdir()):
        problem = "it is neither a file nor a folder"
    elif not 0 <= member.size <= MAX_MEMBER_BYTES:
        problem = f"it has {member.size} bytes, the limit is {MAX_MEMBER_BYTES}"
    elif count > MAX_MEMBERS:
        problem = f"it is one of more than {MAX_MEMBERS} members"
    elif total > MAX_TOTAL_BYTES:
        problem = f"with it the archive has more than {MAX_TOTAL_BYTES} bytes"
    else:
        return
    raise ArchiveError(f"unsafe member {member.name!r} in the archive of spectra: {problem}. Nothing was read.")


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _raw(members: Sequence[_Member]) -> tuple[list[Array], list[int], list[str]]:
    """Each file's spectrum without its rejected rows, how many these are, and what is wrong, empty where nothing is.

    The columns of a spectrum are contiguous.
    """
    rows, file, faults = _rows(members, columns=3)
    bad = rows[:, 0] == 0  # so the observers marked them
    columns, rejected, file = (
        np.ascontiguousarray(rows[~bad].T),
        np.bincount(file[bad], minlength=len(members)),
        file[~bad],
    )
    count = np.bincount(file, minlength=len(members))
    wavelength, _, uncertainty = columns
    falling = (np.diff(wavelength, prepend=0) <= 0) & (np.diff(file, prepend=-1) == 0) | (wavelength < 0)
    _blame(faults, count < _FEWEST_ROWS, lambda n: f"expected at least {_FEWEST_ROWS} rows to smooth, got {count[n]}")
    _blame(faults, _holds(file, falling, len(members)), lambda n: "expected wavelengths that increase strictly")
    _blame(faults, _holds(file, uncertainty <= 0, len(members)), lambda n: "expected uncertainties above 0")
    return [columns[:, rows].T for rows in _slices(count)], rejected.tolist(), faults


def _smoothed(members: Sequence[_Member]) -> tuple[list[Array], list[str]]:
    """Each file's 49 channels, and what is wrong, empty where nothing is."""
    rows, file, faults = _rows(members, columns=2)
    count = np.bincount(file, minlength=len(members))
    whole = count == len(WAVELENGTH)
    on_channels = whole.copy()
    on_channels[whole] = (rows[whole[file], 0].reshape(-1, len(WAVELENGTH)) == WAVELENGTH).all(axis=1)
    _blame(faults, ~on_channels, lambda n: "expected the 49 wavelengths from 0.44 to 0.92 µm")
    reflectance = np.ascontiguousarray(rows[:, 1])
    return [reflectance[channels] for channels in _slices(count)], faults


def _rows(members: Sequence[_Member], columns: int) -> tuple[Array, NDArray[np.int64], list[str]]:
    """The rows (n, columns) of all files one after the other, which file each is of, and what is wrong with a file.

    A file in which anything else was found has no rows.
    """
    faults = [""] * len(members)
    numbers = _numbers([member.content for member in members])
    for place, values in enumerate(numbers):
        if values is None:
            faults[place] = "expected numbers only"
        elif len(values) % columns:
            faults[place] = f"expected finite numbers in {columns} columns"
    found = [np.empty(0) if fault or values is None else values for fault, values in zip(faults, numbers, strict=True)]
    rows = np.concatenate([np.empty(0), *found]).reshape(-1, columns)
    file = np.repeat(np.arange(len(members)), np.array([len(values) // columns for values in found], dtype=int))
    infinite = _holds(file, ~np.isfinite(rows).all(axis=1), len(members))
    _blame(faults, infinite, lambda n: f"expected finite numbers in {columns} columns")
    return rows, file, faults


def _numbers(files: list[bytes]) -> list[Array | None]:
    """The numbers that each file holds, in the order of the text; None if it holds anything else."""
    if not files:
        return []
    try:
        # All files at once: splitting each by itself, and making its words numbers, takes twice as long.
        words = pc.ascii_split_whitespace(pa.array(map(bytes.strip, files), pa.binary()).cast(pa.string()))
        values = words.flatten().cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        if len(files) > 1:
            return [numbers for file in files for numbers in _numbers([file])]
        return [None if files[0].strip() else np.empty(0)]
    return [values[numbers] for numbers in _slices(np.diff(words.offsets.to_numpy()))]


def _slices(counts: NDArray[np.integer]) -> list[slice]:
    """Where each of so many lies, one after the other."""
    return [slice(start, stop) for start, stop in itertools.pairwise([0, *counts.cumsum().tolist()])]


def _holds(file: NDArray[np.int64], chosen: Mask, files: int) -> Mask:
    """Whether any row of a file, given the file of each, is chosen; shape (files,)."""
    return np.bincount(file[chosen], minlength=files) > 0


def _blame(faults: list[str], broken: Mask, fault: Callable[[int], str]) -> None:
    """Say of the broken files what is wrong, unless something was said before."""
    for place in np.flatnonzero(broken).tolist():
        faults[place] = faults[place] or fault(place)


def _sound(members: Sequence[_Member], faults: Sequence[str], refused: list[Refusal]) -> dict[str, int]:
    """The place of each designation's file; the files that have a fault, or are its second, are refused."""
    places: dict[str, int] = {}
    for place, (member, fault) in enumerate(zip(members, faults, strict=True)):
        if fault or member.designation in places:
            refused.append(Refusal(member.name, fault or f"a second spectrum of {member.designation}"))
        else:
            places[member.designation] = place
    return places

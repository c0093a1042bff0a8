"""A survey as Parquet files, in a folder or in any storage that fsspec knows: what its columns are, and its partitions.

One row is a spectrum, in one of three layouts, each with an optional `designation`:

- raw: lists `wavelength` (µm) and `reflectance`, and an optional `uncertainty` (1 sigma);
- channels: a list `reflectance` of 49 values and no `wavelength`; what was not seen at the ends is null or NaN;
- channel columns: 49 columns of numbers named `0.44`, `0.45`, ..., `0.92`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astrd.lists import Lists, is_number
from astrd.smoothing import WAVELENGTH

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Array = NDArray[np.float64]
Layout = Literal["raw", "channels", "channel columns"]

CHANNEL_COLUMNS: Final = tuple(f"{wavelength:.2f}" for wavelength in WAVELENGTH)
BATCH_ROWS: Final = 2048
"""Spectra in memory at once: a batch's working set stays in the processor's cache; that of twice as many does not."""

_SUFFIXES: Final = (".parquet", ".parq", ".pq")
_READ_BUFFER: Final = 1 << 20  # bytes of a column read at once: a row group of any size does not fill the memory
_LAYOUTS: Final = (
    "lists `wavelength` and `reflectance` (raw spectra), a list `reflectance` alone (49 channels), or 49 columns of "
    f"numbers named {CHANNEL_COLUMNS[0]} to {CHANNEL_COLUMNS[-1]}"
)


class SurveyError(ValueError):
    """A survey that cannot be read, or an output that belongs to another one; the message says what to do."""


@dataclass(frozen=True)
class Partition:
    """Rows `start` to `stop` of a file, counted from 0: what is scored, and written, as one."""

    file: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class SurveyFile:
    """A file of a survey; another `fingerprint` says that it was written anew."""

    url: str
    rows: int
    fingerprint: str


@dataclass(frozen=True)
class Survey:
    """The files of a survey, in one layout."""

    files: tuple[SurveyFile, ...]
    layout: Layout

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @classmethod
    def find(cls, place: str) -> Survey:
        """Look at the files of a survey, without reading their spectra.

        Parameters
        ----------
        place
            A Parquet file, a folder of them or a pattern (`*`, `?`, `[]`): a path, or any fsspec URL.

        Raises
        ------
        SurveyError
            If there is none, or the columns or their types are none of the layouts.
        """
        system, path = storage(place)
        if any(sign in path for sign in "*?["):
            found = [name for name in system.glob(path) if not _is_hidden(name, name.rpartition("/")[0])]
        elif system.isdir(path):
            found = [name for name in system.find(path) if name.endswith(_SUFFIXES) and not _is_hidden(name, path)]
        else:
            found = [path] if system.exists(path) else []
        if not found:
            raise SurveyError(f"no survey at {place}: expected a Parquet file, a folder of them, or a pattern")
        files, layouts = [], {}
        for name in sorted(found):
            url = system.unstrip_protocol(name)
            try:
                with system.open(name, "rb") as file:
                    parquet = pq.ParquetFile(file)
                    rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
            except (pa.ArrowException, OSError) as error:
                raise SurveyError(f"expected Parquet at {url}, got what cannot be read as such: {error}") from error
            layouts[_layout_of(schema, url)] = url
            files.append(SurveyFile(url, rows, str(system.checksum(name))))
        if len(layouts) > 1:
            examples = ", ".join(f"{layout} in {url}" for layout, url in layouts.items())
            raise SurveyError(f"expected one layout in all files of a survey, got {examples}: score them apart")
        survey = cls(tuple(files), next(iter(layouts)))
        if survey.rows == 0:
            raise SurveyError(f"expected at least one spectrum, got no rows in {place}")
        return survey

    def partitions(self, rows: int) -> list[Partition]:
        """All rows in partitions of so many, each of one file, in order."""
        return [
            Partition(file.url, start, min(start + rows, file.rows))
            for file in self.files
            for start in range(0, file.rows, rows)
        ]


def storage(place: str) -> tuple[AbstractFileSystem, str]:
    """The file system that a path or URL names, and the path in it.

    Raises
    ------
    SurveyError
        If the storage is of no known kind, or its package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise SurveyError(f"{place} cannot be reached: {error}") from error


def batches(partition: Partition, layout: Layout) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Read a partition a few thousand rows at a time, each with the place of its first row in the file."""
    system, path = storage(partition.file)
    with system.open(path, "rb") as file:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=_READ_BUFFER)
        columns = [name for name in _columns(layout) if name in parquet.schema_arrow.names]
        sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.flatnonzero((ends > partition.start) & (ends - sizes < partition.stop)).tolist()
        place = int(ends[groups[0]]) - sizes[groups[0]]
        for batch in parquet.iter_batches(BATCH_ROWS, groups, columns, use_threads=False):
            first, last = max(partition.start - place, 0), min(partition.stop - place, batch.num_rows)
            if first < last:
                yield place + first, batch.slice(first, last - first)
            place += batch.num_rows
            if place >= partition.stop:
                return


def designations(batch: pa.RecordBatch) -> list[str]:
    """The designations of a batch as text, empty where there is none."""
    if "designation" not in batch.schema.names:
        return [""] * batch.num_rows
    return [name or "" for name in batch.column("designation").cast(pa.string()).to_pylist()]


def lists(batch: pa.RecordBatch, name: str) -> Sequence[Any]:
    """A column of lists as one array a row, None where there is none; nulls in the lists are NaN."""
    return Lists.of(batch.column(name)) if name in batch.schema.names else [None] * batch.num_rows


def channels(batch: pa.RecordBatch) -> tuple[Array, list[str | None]]:
    """Spectra on the 49 channels, shape (n, 49), NaN where nothing was seen; and why a row is no such spectrum."""
    if "reflectance" not in batch.schema.names:
        columns = [batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False) for name in CHANNEL_COLUMNS]
        return np.column_stack(columns), [None] * batch.num_rows
    found = Lists.of(batch.column("reflectance"))
    points = found.points
    whole = found.there & (points == len(WAVELENGTH))
    if whole.all():  # one after the other
        return found.flat.reshape(-1, len(WAVELENGTH)), [None] * batch.num_rows
    reflectance = np.full((batch.num_rows, len(WAVELENGTH)), np.nan)
    reflectance[whole] = found.values[found.offsets[:-1][whole, None] + np.arange(len(WAVELENGTH))]
    faults: list[str | None] = [None] * batch.num_rows
    for row in np.flatnonzero(~whole):
        got = points[row] if found.there[row] else "none"
        faults[row] = f"expected a list of {len(WAVELENGTH)} reflectances, got {got}"
    return reflectance, faults


def _columns(layout: Layout) -> tuple[str, ...]:
    numbers = {
        "raw": ("wavelength", "reflectance", "uncertainty"),
        "channels": ("reflectance",),
        "channel columns": CHANNEL_COLUMNS,
    }
    return ("designation", *numbers[layout])


def _layout_of(schema: pa.Schema, url: str) -> Layout:
    names = set(schema.names)
    layout: Layout
    if {"wavelength", "reflectance"} <= names:
        layout = "raw"
    elif "reflectance" in names:
        layout = "channels"
    elif set(CHANNEL_COLUMNS) <= names:
        layout = "channel columns"
    else:
        raise SurveyError(f"expected columns {_LAYOUTS}; got {', '.join(schema.names[:8])} in {url}")
    for name in _columns(layout)[1:]:
        holds, expected = (
            (is_number, "numbers") if layout == "channel columns" else (Lists.holds_numbers, "lists of numbers")
        )
        if name in names and not holds(schema.field(name).type):
            raise SurveyError(f"expected {expected} as {name}, got {schema.field(name).type} in {url}")
    return layout


def _is_hidden(name: str, folder: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.removeprefix(folder).split("/"))

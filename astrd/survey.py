"""A survey as Parquet files, in a folder or in any storage that fsspec knows: what its columns are, and its partitions.

One row is a spectrum, in one of three layouts, each with an optional `designation`:

- raw: lists `wavelength` (µm) and `reflectance`, and an optional `uncertainty` (1 sigma);
- channels: a list `reflectance` of 49 values and no `wavelength`; what was not seen at the ends is null or NaN;
- channel columns: 49 columns of numbers named `0.44`, `0.45`, ..., `0.92`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astrd.lists import Lists, is_number
from astrd.smoothing import WAVELENGTH
from astrd.storage import Place, at_once, without_secrets

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
    place: Place | None = field(default=None, compare=False, repr=False)
    """By which the file is reached; without it, by its name."""

    def __str__(self) -> str:
        return f"{self.file}, rows {self.start} to {self.stop},"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class SurveyFile:
    """A file of a survey; another `fingerprint` says that it was written anew."""

    url: str
    rows: int
    fingerprint: str
    place: Place | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Survey:
    """The files of a survey, in one layout."""

    files: tuple[SurveyFile, ...]
    layout: Layout

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @classmethod
    def find(cls, place: str, besides: str = "") -> Survey:
        """Look at the files of a survey, without reading their spectra.

        Parameters
        ----------
        place
            A Parquet file, a folder of them or a pattern (`*`, `?`, `[]`): a path, or any fsspec URL.
        besides
            A folder that is no part of it wherever it lies: that of the answers.

        Raises
        ------
        ValueError
            If there is none, or the columns or their types are none of the layouts.
        """
        at = Place.of(place)
        found = at.files(_SUFFIXES)
        if besides and found != [at]:
            answers = Place.of(besides)
            found = [file for file in found if not file.lies_in(answers)]
        if not found:
            outside = f" outside of {without_secrets(besides)}" if besides else ""
            raise SurveyError(
                f"no survey at {without_secrets(place)}{outside}: expected a Parquet file, a folder of them, or a "
                "pattern"
            )
        files, of_files = zip(*at_once(_looked_at, found), strict=True)
        layouts = {layout: file.url for file, layout in zip(files, of_files, strict=True) if layout}
        if len(layouts) > 1:
            examples = ", ".join(f"{layout} in {url}" for layout, url in layouts.items())
            raise SurveyError(f"expected one layout in all files of a survey, got {examples}: score them apart")
        if not layouts:
            raise SurveyError(f"expected at least one spectrum, got no rows in {without_secrets(place)}")
        return cls(files, next(iter(layouts)))

    def partitions(self, rows: int) -> list[Partition]:
        """All rows in partitions of so many, each of one file, in order."""
        return [
            Partition(file.url, start, min(start + rows, file.rows), file.place)
            for file in self.files
            for start in range(0, file.rows, rows)
        ]


def batches(partition: Partition, layout: Layout) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Read a partition a few thousand rows at a time, each with the place of its first row in the file.

    Raises
    ------
    SurveyError
        If the file cannot be read, or has fewer rows by now.
    """
    try:
        with (partition.place or Place.of(partition.file)).open() as file:
            yield from _batches(file, partition, layout)
    except Exception as error:  # each storage has kinds of its own
        reason = " ".join(str(error).split()).rstrip(".")
        raise SurveyError(
            f"{partition} cannot be read: {reason}. Is the file whole, and can it be reached? The same command goes on "
            "once it can be read again; a file that was written anew needs another output"
        ) from error


def _batches(file: Any, partition: Partition, layout: Layout) -> Iterator[tuple[int, pa.RecordBatch]]:
    parquet = _opened(file)
    if parquet.metadata.num_rows < partition.stop:
        raise ValueError(f"expected {partition.stop} rows or more, got {parquet.metadata.num_rows}")
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


def _opened(file: Any) -> pq.ParquetFile:
    """A Parquet file to read; Arrow's lists of one size as plain lists, because it cannot read a null among them."""
    options = {"pre_buffer": False, "buffer_size": _READ_BUFFER}
    parquet = pq.ParquetFile(file, **options)
    if not any(pa.types.is_fixed_size_list(kind) for kind in parquet.schema_arrow.types):
        return parquet
    written = pa.BufferOutputStream()
    parquet.metadata.write_metadata_file(written)
    unnamed = written.getvalue().to_pybytes().replace(b"ARROW:schema", b"_____:schema")  # Arrow's own types
    return pq.ParquetFile(file, metadata=pq.read_metadata(pa.BufferReader(unnamed)), **options)


def designations(batch: pa.RecordBatch) -> list[str]:
    """The designations of a batch as text, empty where there is none."""
    if "designation" not in batch.schema.names:
        return [""] * batch.num_rows
    column = batch.column("designation")
    try:
        names = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError):  # bytes, in another encoding
        names = [name and name.decode(errors="replace") for name in column.cast(pa.binary()).to_pylist()]
    return [name or "" for name in names]


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


def _looked_at(place: Place) -> tuple[SurveyFile, Layout | None]:
    """A file, and its layout; a file without rows has none, because the types of its columns say nothing."""
    try:
        with place.open() as file:
            parquet = pq.ParquetFile(file)
            rows, schema = parquet.metadata.num_rows, parquet.schema_arrow
        found = SurveyFile(place.url, rows, place.fingerprint(), place)
    except (pa.ArrowException, OSError) as error:
        raise SurveyError(f"expected Parquet at {place.url}, got what cannot be read as such: {error}") from error
    return found, _layout_of(schema, place.url) if rows else None


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
        missing = [name for name in CHANNEL_COLUMNS if name not in names]
        got = f"{len(CHANNEL_COLUMNS) - len(missing)} of these, without {missing[0]},"
        if len(missing) == len(CHANNEL_COLUMNS):
            got = ", ".join(schema.names[:8]) + (", ..." if len(names) > 8 else "")
        raise SurveyError(f"expected columns {_LAYOUTS}; got {got} in {url}")
    for name in _columns(layout)[1:]:
        holds, expected = (
            (is_number, "numbers") if layout == "channel columns" else (Lists.holds_numbers, "lists of numbers")
        )
        if name in names and not holds(schema.field(name).type):
            raise SurveyError(f"expected {expected} as {name}, got {schema.field(name).type} in {url}")
    if "designation" in names and pa.types.is_nested(kind := schema.field("designation").type):
        raise SurveyError(f"expected text or numbers as designation, got {kind} in {url}")
    return layout

"""A survey's spectra into answers, partition by partition, each written whole; what is finished is not done again.

The output is a folder, in any storage that fsspec knows:

    survey.json                      the input, the model and the settings it belongs to; counts when it is finished
    model/                           the classifier that answers, from which workers load it
    classified/part-000000.parquet   answers: what the served model says, with the file and row of each spectrum
    rejected/part-000000.parquet     rows that cannot be classified, and why
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from astrd import survey
from astrd.classifier import Classifier
from astrd.spectra import channel_faults, spectra_of
from astrd.spectrum import Spectrum
from astrd.survey import Layout, Partition, Survey, SurveyError, storage
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS

FORMAT: Final = 1
"""Of an output folder; another number says that another version of this package has to go on with it."""

PARTITION_ROWS: Final = 25_000

MANIFEST: Final = "survey.json"
MODEL_FOLDER: Final = "model"
CLASSIFIED: Final = "classified"
REJECTED: Final = "rejected"

_PLACE: Final = [("file", pa.string()), ("row", pa.int64())]
_CLASSIFIED_SCHEMA: Final = pa.schema(
    [
        *_PLACE,
        ("designation", pa.string()),
        ("main_group", pa.string()),
        ("main_group_probability", pa.float64()),
        ("bus_class", pa.string()),
        ("bus_class_probability", pa.float64()),
        ("bus_prediction_set", pa.list_(pa.string())),
        ("outlier_score", pa.float64()),
        ("is_outlier", pa.bool_()),
        ("main_group_draw_share", pa.float64()),
        ("bus_class_draw_share", pa.float64()),
        ("note", pa.string()),
        *((f"probability_group_{name}", pa.float64()) for name in MAIN_GROUPS),
        *((f"probability_{name}", pa.float64()) for name in BUS_CLASSES),
    ]
)
REJECTED_SCHEMA: Final = pa.schema([*_PLACE, ("designation", pa.string()), ("reason", pa.string())])

_TABLES: Final = (CLASSIFIED, REJECTED)
_REPEATED: Final = ["file", "main_group", "bus_class", "bus_prediction_set.list.element", "note"]
_READERS: Final = 16  # threads that look at finished partitions: a storage far away answers many at once


def classified_schema(draws: int) -> pa.Schema:
    """Columns of answers; `file` and `row` (counted from 0) tell where a spectrum stands in the survey."""
    shares = [f"draw_share_group_{name}" for name in MAIN_GROUPS] + [f"draw_share_{name}" for name in BUS_CLASSES]
    return pa.schema([*_CLASSIFIED_SCHEMA, *((name, pa.float64()) for name in shares if draws)])


@dataclass(frozen=True)
class Settings:
    """How a survey is scored: `coverage` and `draws` as `Classifier.classify` takes them, rows of a partition."""

    coverage: float
    draws: int
    partition_rows: int = PARTITION_ROWS


@dataclass(frozen=True)
class Counts:
    """Spectra that were classified, and those that were rejected."""

    classified: int = 0
    rejected: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.classified + other.classified, self.rejected + other.rejected)

    @property
    def spectra(self) -> int:
        return self.classified + self.rejected


@dataclass(frozen=True)
class Scoring:
    """A survey that is being scored into a folder: all that a worker has to know."""

    output: str
    layout: Layout
    settings: Settings
    model_sha256: str

    @classmethod
    def begin(cls, output: str, found: Survey, classifier: Classifier, settings: Settings) -> Scoring:
        """Begin a folder, or go on with it.

        Raises
        ------
        SurveyError
            If the folder holds something else, or was begun with another input, model or settings; if the settings
            do not fit the survey.
        """
        _check(settings, found.layout)
        system, path = storage(output)
        with tempfile.TemporaryDirectory() as folder:
            classifier.save(folder)
            files = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        sha256 = _sha256(files)
        manifest = {
            "format": FORMAT,
            "input": [asdict(file) for file in found.files],
            "layout": found.layout,
            "model_sha256": sha256,
            **asdict(settings),
        }
        scoring = cls(system.unstrip_protocol(path), found.layout, settings, sha256)
        if system.exists(f"{path}/{MANIFEST}"):
            begun = json.loads(system.cat_file(f"{path}/{MANIFEST}"))
            if other := [name for name, value in manifest.items() if begun.get(name) != value]:
                raise SurveyError(
                    f"{output} was begun with another {', '.join(other)}: name another output, or remove this one"
                )
        elif system.exists(path) and any(not _is_unfinished(name) for name in system.ls(path, detail=False)):
            raise SurveyError(f"expected a new or empty folder, or one that this began, as output; got {output}")
        else:
            scoring._write(MANIFEST, json.dumps(manifest, indent=1).encode())
        for name, content in files.items():
            if not system.exists(f"{path}/{MODEL_FOLDER}/{name}"):
                scoring._write(f"{MODEL_FOLDER}/{name}", content)
        return scoring

    def finished(self, partitions: Sequence[Partition]) -> dict[int, Counts]:
        """The partitions, by their numbers, that have been written already."""
        system, path = storage(self.output)
        there = [{name.rsplit("/", 1)[-1] for name in system.find(f"{path}/{table}")} for table in _TABLES]
        numbers = [number for number in range(len(partitions)) if all(_part(number) in names for names in there)]
        with ThreadPoolExecutor(_READERS) as pool:
            counted = pool.map(self._counts, numbers)
            return {
                n: counts for n, counts in zip(numbers, counted, strict=True) if counts.spectra == len(partitions[n])
            }

    def score(self, number: int, partition: Partition) -> Counts:
        """Read, classify and write a partition."""
        classifier = _classifier(self.output, self.model_sha256)
        schemas = (classified_schema(self.settings.draws), REJECTED_SCHEMA)
        tables = {name: [schema.empty_table()] for name, schema in zip(_TABLES, schemas, strict=True)}
        for place, batch in survey.batches(partition, self.layout):
            scored = score_batch(batch, self.layout, classifier, self.settings, partition.file, place)
            for name, table in zip(_TABLES, scored, strict=True):
                tables[name].append(table)
        counts = Counts(*(sum(map(len, tables[name])) for name in _TABLES))
        if counts.spectra != len(partition):
            raise RuntimeError(f"expected {len(partition)} spectra in {partition}, got {counts.spectra}: it changed")
        for name, parts in tables.items():
            buffer = pa.BufferOutputStream()
            pq.write_table(pa.concat_tables(parts), buffer, use_dictionary=_REPEATED)
            self._write(f"{name}/{_part(number)}", buffer.getvalue().to_pybytes())
        return counts

    def finish(self, found: Survey) -> Counts:
        """Count what was written, and record it.

        Raises
        ------
        RuntimeError
            If it is not as many as the survey has.
        """
        system, path = storage(self.output)
        for name in system.find(path):
            if _is_unfinished(name):  # its writer was killed
                system.rm_file(name)
        counts = Counts(
            *(pads.dataset(f"{path}/{name}", filesystem=system, format="parquet").count_rows() for name in _TABLES)
        )
        if counts.spectra != found.rows:
            raise RuntimeError(
                f"expected {found.rows} spectra in {self.output}, as many as in the survey; got {counts.classified} "
                f"classified and {counts.rejected} rejected: remove it and score the survey anew"
            )
        manifest = json.loads(system.cat_file(f"{path}/{MANIFEST}"))
        self._write(MANIFEST, json.dumps({**manifest, "counts": asdict(counts)}, indent=1).encode())
        return counts

    def rejected(self, most: int) -> pd.DataFrame:
        """The first rejected rows."""
        system, path = storage(self.output)
        return pads.dataset(f"{path}/{REJECTED}", filesystem=system, format="parquet").head(most).to_pandas()

    def _counts(self, number: int) -> Counts:
        system, path = storage(self.output)
        rows = []
        for name in _TABLES:
            with system.open(f"{path}/{name}/{_part(number)}", "rb") as file:
                rows.append(pq.read_metadata(file).num_rows)
        return Counts(*rows)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all; readers of tables pass over names that begin with _."""
        system, path = storage(self.output)
        folder, _, last = f"{path}/{name}".rpartition("/")
        unfinished = f"{folder}/_{last}.{uuid.uuid4().hex}"
        system.makedirs(folder, exist_ok=True)
        system.pipe_file(unfinished, content)
        system.mv(unfinished, f"{folder}/{last}")


def score_batch(
    batch: pa.RecordBatch, layout: Layout, classifier: Classifier, settings: Settings, file: str = "", first: int = 0
) -> tuple[pa.Table, pa.Table]:
    """Classify the rows of a batch that can be, and say of the others why not.

    Parameters
    ----------
    file, first
        Where the batch comes from, and the place of its first row there.

    Returns
    -------
    classified, rejected
        As `classified_schema` and `REJECTED_SCHEMA` say.
    """
    names = survey.designations(batch)
    faults: list[str | None]
    if layout == "raw":
        wavelength, reflectance, uncertainty = (
            survey.lists(batch, name) for name in ("wavelength", "reflectance", "uncertainty")
        )
        found = spectra_of(wavelength, reflectance, uncertainty, names)
        faults = [None if isinstance(spectrum, Spectrum) else str(spectrum) for spectrum in found]

        def classify(rows: list[int]) -> pd.DataFrame:
            spectra = [spectrum for row in rows if isinstance(spectrum := found[row], Spectrum)]
            return classifier.classify(spectra, settings.coverage, settings.draws)
    else:
        on_channels, faults = survey.channels(batch)
        faults = [fault or other for fault, other in zip(faults, channel_faults(on_channels), strict=True)]

        def classify(rows: list[int]) -> pd.DataFrame:
            return classifier.classify_channels(on_channels[rows], [names[row] for row in rows], settings.coverage)

    schema = classified_schema(settings.draws)
    sound = [row for row, fault in enumerate(faults) if fault is None]
    answers = [
        pa.Table.from_pandas(frame.assign(file=file, row=np.add(rows, first)), schema, preserve_index=False)
        for rows, frame in _answers(classify, sound, faults)
    ]
    broken = [row for row, fault in enumerate(faults) if fault is not None]
    rejected = {
        "file": [file] * len(broken),
        "row": [first + row for row in broken],
        "designation": [names[row] for row in broken],
        "reason": [faults[row] for row in broken],
    }
    classified = pa.concat_tables([schema.empty_table(), *answers])
    return classified, pa.Table.from_pydict(rejected, REJECTED_SCHEMA)


def _answers(
    classify: Callable[[list[int]], pd.DataFrame], rows: list[int], faults: list[str | None]
) -> Iterator[tuple[list[int], pd.DataFrame]]:
    """Answers for rows; one that turns out to be broken in spite of the checks is found by halving."""
    if not rows:
        return
    try:
        yield rows, classify(rows)
    except ValueError as error:
        if len(rows) == 1:
            faults[rows[0]] = re.sub(r"^row \d+: ", "", str(error))
            return
        middle = len(rows) // 2
        yield from _answers(classify, rows[:middle], faults)
        yield from _answers(classify, rows[middle:], faults)


@functools.lru_cache(maxsize=1)
def _classifier(output: str, sha256: str) -> Classifier:
    """The classifier of an output folder; a worker loads it once."""
    system, path = storage(f"{output}/{MODEL_FOLDER}")
    names = [name for name in system.ls(path, detail=False) if not _is_unfinished(name)]
    files = {name.rsplit("/", 1)[-1]: system.cat_file(name) for name in names}
    if _sha256(files) != sha256:
        raise RuntimeError(f"the model in {output} changed: remove the folder and score the survey anew")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return Classifier.load(folder)


def _sha256(files: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()


def _check(settings: Settings, layout: Layout) -> None:
    if not 0 < settings.coverage < 1:
        raise SurveyError(f"expected a coverage between 0 and 1, such as 0.9; got {settings.coverage}")
    if settings.draws < 0 or settings.partition_rows < 1:
        raise SurveyError(f"expected draws of 0 or more and partitions of at least 1 row, got {settings}")
    if settings.draws and layout != "raw":
        raise SurveyError(
            f"expected raw spectra with their uncertainty for noise draws, got {layout}: leave draws at 0"
        )


def _is_unfinished(name: str) -> bool:
    return name.rsplit("/", 1)[-1].startswith("_")


def _part(number: int) -> str:
    return f"part-{number:06d}.parquet"

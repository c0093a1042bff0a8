"""A survey's spectra into answers, partition by partition, each written whole; what is finished is not done again.

The output is a folder, in any storage that fsspec knows:

    survey.json                      the input, the model and the settings it belongs to; counts when it is finished
    model/                           the classifier that answers, from which workers load it
    classified/part-000000.parquet   answers: what the served model says, with the file and row of each spectrum
    rejected/part-000000.parquet     rows that cannot be classified, and why

No lock keeps two runs out of one folder, because object stores have none. They do no harm: with the same survey, model
and settings they write the same files, each whole; and a file says to which of these it belongs, so that one of another
run is not taken for finished.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from astrd import survey
from astrd.classifier import Classifier
from astrd.survey import Layout, Partition, Survey, SurveyError, storage
from astrd.survey_batch import REJECTED_SCHEMA, classified_schema, score_batch

FORMAT: Final = 2
"""Of an output folder; another number says that another version of this package has to go on with it."""

PARTITION_ROWS: Final = 25_000

MANIFEST: Final = "survey.json"
MODEL_FOLDER: Final = "model"
CLASSIFIED: Final = "classified"
REJECTED: Final = "rejected"

_TABLES: Final = (CLASSIFIED, REJECTED)
_REPEATED: Final = ["file", "main_group", "bus_class", "bus_prediction_set.list.element", "note"]
_BELONGS_TO: Final = b"astrd.belongs_to"
_READERS: Final = 16  # threads that look at finished partitions: a storage far away answers many at once


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
    belongs_to: str
    """Hash of input, model and settings, which every part carries."""

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
        text = json.dumps(manifest, indent=1).encode()
        belongs_to = hashlib.sha256(text).hexdigest()
        scoring = cls(system.unstrip_protocol(path), found.layout, settings, sha256, belongs_to)
        if not system.exists(f"{path}/{MANIFEST}"):
            if system.exists(path) and any(not _is_unfinished(name) for name in system.ls(path, detail=False)):
                raise SurveyError(f"expected a new or empty folder, or one that this began, as output; got {output}")
            scoring._write(MANIFEST, text)
        begun = json.loads(system.cat_file(f"{path}/{MANIFEST}"))  # of another run, if it wrote at the same time
        if other := [name for name, value in manifest.items() if begun.get(name) != value]:
            raise SurveyError(
                f"{output} was begun with another {', '.join(other)}: name another output, or remove this one"
            )
        for name, content in files.items():
            if not system.exists(f"{path}/{MODEL_FOLDER}/{name}"):
                scoring._write(f"{MODEL_FOLDER}/{name}", content)
        return scoring

    def finished(self, partitions: Sequence[Partition]) -> dict[int, Counts]:
        """The partitions, by their numbers, that have been written already, with this input, model and settings."""
        system, path = storage(self.output)
        there = [{name.rsplit("/", 1)[-1] for name in system.find(f"{path}/{table}")} for table in _TABLES]
        numbers = [number for number in range(len(partitions)) if all(_part(number) in names for names in there)]
        with ThreadPoolExecutor(_READERS) as pool:
            counted = zip(numbers, pool.map(self._counts, numbers), strict=True)
            return {number: counts for number, counts in counted if counts.spectra == len(partitions[number])}

    def score(self, number: int, partition: Partition) -> Counts:
        """Read, classify and write a partition."""
        classifier = _classifier(self.output, self.model_sha256)
        schemas = (classified_schema(with_draws=self.settings.draws > 0), REJECTED_SCHEMA)
        tables = {name: [schema.empty_table()] for name, schema in zip(_TABLES, schemas, strict=True)}
        for place, batch in survey.batches(partition, self.layout):
            coverage, draws = self.settings.coverage, self.settings.draws
            scored = score_batch(batch, self.layout, classifier, coverage, draws, partition.file, place)
            for name, table in zip(_TABLES, scored, strict=True):
                tables[name].append(table)
        counts = Counts(*(sum(map(len, tables[name])) for name in _TABLES))
        if counts.spectra != len(partition):
            raise RuntimeError(f"expected {len(partition)} spectra in {partition}, got {counts.spectra}: it changed")
        for name, parts in tables.items():
            table = pa.concat_tables(parts).replace_schema_metadata({_BELONGS_TO: self.belongs_to})
            self._write(f"{name}/{_part(number)}", as_parquet(table))
        return counts

    def finish(self, found: Survey) -> Counts:
        """Count what was written, and record it.

        Raises
        ------
        RuntimeError
            If it is not as many as the survey has, or more lies there.
        """
        system, path = storage(self.output)
        for name in system.find(path):
            if _is_unfinished(name):  # its writer was killed
                system.rm_file(name)
        counts = sum(self.finished(found.partitions(self.settings.partition_rows)).values(), Counts())
        there = sum(
            pads.dataset(f"{path}/{name}", filesystem=system, format="parquet").count_rows() for name in _TABLES
        )
        if not counts.spectra == there == found.rows:
            raise RuntimeError(
                f"expected {found.rows} spectra in {self.output}, as many as in the survey; got {counts.classified} "
                f"classified and {counts.rejected} rejected, {there} with those of other runs: score it again, which "
                "does what is missing, or remove it and begin anew"
            )
        manifest = json.loads(system.cat_file(f"{path}/{MANIFEST}"))
        self._write(MANIFEST, json.dumps({**manifest, "counts": asdict(counts)}, indent=1).encode())
        return counts

    def rejected(self, most: int) -> pd.DataFrame:
        """The first rejected rows."""
        system, path = storage(self.output)
        return pads.dataset(f"{path}/{REJECTED}", filesystem=system, format="parquet").head(most).to_pandas()

    def _counts(self, number: int) -> Counts:
        """What a partition's files hold; nothing if they belong to another run."""
        system, path = storage(self.output)
        rows = []
        for name in _TABLES:
            with system.open(f"{path}/{name}/{_part(number)}", "rb") as file:
                metadata = pq.read_metadata(file)
            if (metadata.metadata or {}).get(_BELONGS_TO) != self.belongs_to.encode():
                return Counts()
            rows.append(metadata.num_rows)
        return Counts(*rows)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all; readers of tables pass over names that begin with _."""
        system, path = storage(self.output)
        folder, _, last = f"{path}/{name}".rpartition("/")
        unfinished = f"{folder}/_{last}.{uuid.uuid4().hex}"
        system.makedirs(folder, exist_ok=True)
        system.pipe_file(unfinished, content)
        try:
            system.mv(unfinished, f"{folder}/{last}")
        except FileNotFoundError:  # a run beside this one finished, and took it for what a killed one left
            if not system.exists(f"{folder}/{last}"):
                raise


def as_parquet(table: pa.Table) -> bytes:
    """A table of answers as it is written; numbers go as they are, because hardly any occurs twice."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, use_dictionary=_REPEATED)
    return bytes(buffer.getvalue().to_pybytes())


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

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

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from astrd import model_folder, survey
from astrd.classifier import Classifier
from astrd.model_folder import UNNAMED, ModelChangedError, ModelName
from astrd.storage import Place, at_once
from astrd.survey import Layout, Partition, Survey, SurveyError
from astrd.survey_batch import REJECTED_SCHEMA, classified_schema, score_batch

FORMAT: Final = 3
"""Of an output folder; another number says that another version of this package has to go on with it."""

PARTITION_ROWS: Final = 25_000

MANIFEST: Final = "survey.json"
MODEL_FOLDER: Final = "model"
CLASSIFIED: Final = "classified"
REJECTED: Final = "rejected"

_TABLES: Final = (CLASSIFIED, REJECTED)
_REPEATED: Final = ["file", "main_group", "bus_class", "bus_prediction_set.list.element", "note"]
_BELONGS_TO: Final = b"astrd.belongs_to"


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

    output: Place
    layout: Layout
    settings: Settings
    model_sha256: str
    belongs_to: str
    """Hash of input, model and settings, which every part carries."""

    @classmethod
    def begin(
        cls,
        output: str,
        found: Survey,
        classifier: Classifier,
        settings: Settings,
        model: ModelName = UNNAMED,
    ) -> Scoring:
        """Begin a folder, or go on with it.

        Parameters
        ----------
        model
            What names the classifier. The folder keeps it, and does not depend on it.

        Raises
        ------
        ValueError
            If the folder holds something else, or was begun with another input, model or settings; if the settings
            do not fit the survey; if the folder cannot be reached.
        """
        _check(settings, found.layout)
        folder = Place.of(output)
        files = model_folder.files_of(classifier)
        sha256 = model_folder.sha256_of(files)
        manifest = {
            "format": FORMAT,
            "input": [{"url": file.url, "rows": file.rows, "fingerprint": file.fingerprint} for file in found.files],
            "layout": found.layout,
            "model_sha256": sha256,
            **asdict(settings),
        }
        if folder.system.isfile(folder.path):
            raise SurveyError(f"expected a new folder as output, got a file: {folder.url}")
        if _manifest(folder) is None:
            system = folder.system
            names = system.ls(folder.path, detail=False) if folder.exists() else []
            if any(not _is_unfinished(name) for name in names) and not (folder / MANIFEST).exists():
                raise SurveyError(
                    f"expected a new or empty folder, or one that this began, as output; got {folder.url}"
                )
            (folder / MANIFEST).write(_as_json({**manifest, "model": asdict(model)}))
        begun = _manifest(folder) or {}  # of another run, if it wrote at the same time
        if other := [name for name, value in manifest.items() if begun.get(name) != value]:
            hint = "name another output, or remove this one"
            if all(name in asdict(settings) for name in other):
                hint = f"give the former, {hint}"
                other = [f"{name.replace('_', '-')} ({begun.get(name)}, now {manifest[name]})" for name in other]
            if other == ["model_sha256"]:
                other, hint = [f"model ({_model_name(begun)})"], f"leave --model out to go on with that one; or {hint}"
            raise SurveyError(f"{folder.url} was begun with another {', '.join(other)}: {hint}")
        model_folder.write(folder / MODEL_FOLDER, files)
        return cls(folder, found.layout, settings, sha256, hashlib.sha256(json.dumps(manifest).encode()).hexdigest())

    def finished(self, partitions: Sequence[Partition]) -> dict[int, Counts]:
        """The partitions, by their numbers, that have been written already, with this input, model and settings."""
        system = self.output.system
        system.invalidate_cache()  # of what lay there before the workers wrote
        there = [{name.rsplit("/", 1)[-1] for name in system.find((self.output / table).path)} for table in _TABLES]
        numbers = [number for number in range(len(partitions)) if all(_part(number) in names for names in there)]
        counted = zip(numbers, at_once(self._counts, numbers), strict=True)
        return {number: counts for number, counts in counted if counts.spectra == len(partitions[number])}

    def score(self, number: int, partition: Partition) -> Counts:
        """Read, classify and write a partition."""
        classifier = model_folder.load(self.output / MODEL_FOLDER, self.model_sha256)
        schemas = (classified_schema(with_draws=self.settings.draws > 0), REJECTED_SCHEMA)
        tables = {name: [schema.empty_table()] for name, schema in zip(_TABLES, schemas, strict=True)}
        for place, batch in survey.batches(partition, self.layout):
            coverage, draws = self.settings.coverage, self.settings.draws
            scored = score_batch(batch, self.layout, classifier, coverage, draws, partition.file, place)
            for name, table in zip(_TABLES, scored, strict=True):
                tables[name].append(table)
        counts = Counts(*(sum(map(len, tables[name])) for name in _TABLES))
        if counts.spectra != len(partition):
            raise RuntimeError(f"expected {len(partition)} spectra in {partition} got {counts.spectra}: it changed")
        for name, parts in tables.items():
            table = pa.concat_tables(parts).replace_schema_metadata({_BELONGS_TO: self.belongs_to})
            (self.output / name / _part(number)).write(as_parquet(table))
        return counts

    def finish(self, found: Survey) -> Counts:
        """Count what was written, and record it.

        Raises
        ------
        RuntimeError
            If it is not as many as the survey has, or more lies there.
        """
        counts = sum(self.finished(found.partitions(self.settings.partition_rows)).values(), Counts())
        for name in self.output.system.find(self.output.path):
            if _is_unfinished(name):  # its writer was killed
                self.output.system.rm_file(name)
        there = sum(self._table(name).count_rows() for name in _TABLES)
        if not counts.spectra == there == found.rows:
            raise RuntimeError(
                f"expected {found.rows} spectra in {self.output.url}, as many as in the survey; got "
                f"{counts.classified} classified and {counts.rejected} rejected, {there} with those of other runs: "
                "score it again, which does what is missing, or remove it and begin anew"
            )
        (self.output / MANIFEST).write(_as_json({**(_manifest(self.output) or {}), "counts": asdict(counts)}))
        return counts

    def rejected(self, most: int) -> pd.DataFrame:
        """The first rejected rows."""
        return self._table(REJECTED).head(most).to_pandas()

    def _table(self, name: str) -> pads.Dataset:
        place = self.output / name
        return pads.dataset(place.path, filesystem=place.system, format="parquet")

    def _counts(self, number: int) -> Counts:
        """What a partition's files hold; nothing if they belong to another run, or cannot be read."""
        rows = []
        for name in _TABLES:
            try:
                with (self.output / name / _part(number)).open() as file:
                    metadata = pq.read_metadata(file)
            except (pa.ArrowException, OSError):  # as a machine leaves it that lost its power
                return Counts()
            if (metadata.metadata or {}).get(_BELONGS_TO) != self.belongs_to.encode():
                return Counts()
            rows.append(metadata.num_rows)
        return Counts(*rows)


def begun_with(output: str) -> tuple[ModelName, Classifier | None] | None:
    """The model with which a folder was begun, None if none was; no classifier where it does not lie there whole."""
    folder = Place.of(output)
    manifest = _manifest(folder)
    if manifest is None or manifest.get("format") != FORMAT:
        return None
    try:
        classifier = model_folder.load(folder / MODEL_FOLDER, manifest["model_sha256"])
    except ModelChangedError:
        classifier = None
    return _model_name(manifest), classifier


def as_parquet(table: pa.Table) -> bytes:
    """A table of answers as it is written; numbers go as they are, because hardly any occurs twice."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, use_dictionary=_REPEATED)
    return bytes(buffer.getvalue().to_pybytes())


def _manifest(folder: Place) -> dict[str, Any] | None:
    """What a folder belongs to; None where it was not begun, or the machine lost its power as it was."""
    try:
        content = (folder / MANIFEST).read()
    except FileNotFoundError:
        return None
    if not content.strip(b"\0"):
        return None
    try:
        manifest = json.loads(content)
    except ValueError:
        manifest = None
    return manifest if isinstance(manifest, dict) else {}


def _model_name(manifest: Mapping[str, Any]) -> ModelName:
    return ModelName(**manifest.get("model", {}))


def _as_json(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, indent=1).encode()


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

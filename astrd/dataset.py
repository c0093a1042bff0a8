"""The table of spectra as Parquet: its columns, the fixed split, and the reference by which it is passed on.

Two layers: *raw* (what an archive or a survey holds, one row an asteroid) and *features* (49 channels, labels and
the part of the split). What travels between tasks is a `DatasetRef`, a path with its content's SHA-256, never a frame.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from astrd.smoothing import WAVELENGTH, bus_smoothing
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF, Target, bus_codes, main_groups_of_bus, x_of_main_groups

DataSource = Literal["smass2", "simulated"]

INTERIM_FOLDER: Final = "data/interim"
FEATURES_PATH: Final = "data/processed/features.parquet"

_SPECTRUM = pa.list_(pa.float64())
RAW_SCHEMA: Final = pa.schema(
    [
        ("designation", pa.string()),  # number, or provisional designation
        ("name", pa.string()),  # null where there is none
        ("tholen_class", pa.string()),  # null where there is none
        ("bus_class", pa.string()),
        ("main_group", pa.string()),
        ("wavelength", _SPECTRUM),  # µm, increasing
        ("reflectance", _SPECTRUM),  # relative, 1 near 0.55 µm
        ("uncertainty", _SPECTRUM),  # 1 sigma
        ("rejected_rows", pa.int64()),  # rows that the observers marked as bad (wavelength 0), dropped here
        ("reference_reflectance", _SPECTRUM),  # 49 channels: Bus's own smoothing, or the simulated truth
    ]
)
FEATURES_SCHEMA: Final = pa.schema(
    [
        ("designation", pa.string()),
        ("name", pa.string()),
        ("bus_class", pa.string()),
        ("main_group", pa.string()),
        ("split", pa.string()),  # "train" or "test"
        ("fold", pa.int64()),  # 0 to 4 in the training part, -1 in the test part
        ("reflectance", _SPECTRUM),  # 49 channels, 1 at 0.55 µm
    ]
)

TEST_SHARE: Final = 0.2
FOLDS: Final = 5
SMALLEST_CLASS: Final = 5
"""Classes with fewer members are too small to split: all train. Scores of the Bus classes leave them out."""


@dataclass(frozen=True)
class DatasetRef:
    """A Parquet file and the SHA-256 that it must have."""

    path: str
    sha256: str
    rows: int
    data_source: DataSource

    @classmethod
    def of(cls, path: str | Path) -> DatasetRef:
        """The reference of a file that `write` wrote.

        Raises
        ------
        FileNotFoundError
            If it is not there; the message names the step that makes it.
        ValueError
            If it does not say where its data come from.
        """
        path = Path(path)
        if not path.is_file():
            step = "features" if path.name == Path(FEATURES_PATH).name else "ingest"
            raise FileNotFoundError(f"no data set at {path}: make it with `python -m flows {step}`")
        metadata = pq.read_metadata(path)
        source = (metadata.metadata or {}).get(b"astrd.data_source", b"").decode()
        if source not in ("smass2", "simulated"):
            raise ValueError(f"{path} does not say its data source: make it again with `python -m flows ingest`")
        return cls(str(path), sha256_of(path), metadata.num_rows, source)

    def read(self) -> pd.DataFrame:
        """The table, after its SHA-256 was checked.

        Raises
        ------
        ValueError
            If the file changed since the reference was made.
        """
        if (found := sha256_of(Path(self.path))) != self.sha256:
            raise ValueError(f"{self.path} changed: expected SHA-256 {self.sha256}, found {found}; ingest again")
        return pq.read_table(self.path).to_pandas()


def raw_path(data_source: DataSource) -> Path:
    """Where the table of raw spectra from that source lies."""
    return Path(INTERIM_FOLDER) / f"{data_source}.parquet"


def raw_of(features: DatasetRef) -> DatasetRef:
    """The raw spectra that features were made of."""
    return DatasetRef.of(raw_path(features.data_source))


def write(table: pd.DataFrame, path: str | Path, schema: pa.Schema, data_source: DataSource) -> DatasetRef:
    """Write a table as Parquet, whole or not at all, and return its reference."""
    path = Path(path)
    arrow = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
    arrow = arrow.replace_schema_metadata({"astrd.data_source": data_source})
    with written_whole(path) as partial:
        pq.write_table(arrow, partial)
    return DatasetRef(str(path), sha256_of(path), len(table), data_source)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well; of a block that fails, nothing stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def features(raw: pd.DataFrame) -> pd.DataFrame:
    """The features table of a raw one: smoothed spectra on 49 channels, labels, split and folds."""
    reflectance = bus_smoothing(*(raw[c].tolist() for c in ("wavelength", "reflectance", "uncertainty")))
    split, fold = fixed_split(raw["designation"].tolist(), raw["bus_class"].tolist())
    return pd.DataFrame(
        {
            "designation": raw["designation"],
            "name": raw["name"],
            "bus_class": raw["bus_class"],
            "main_group": [MAIN_GROUP_OF[bus_class] for bus_class in raw["bus_class"]],
            "split": split,
            "fold": fold,
            "reflectance": list(reflectance),
        }
    )


def fixed_split(designations: Sequence[str], classes: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Part ("train" or "test") and fold of each asteroid, stratified by Bus class.

    Within a class the asteroids are ordered by a hash of their designation, so that neither the order of the
    rows nor a library's random numbers can change the split. Folds are dealt one by one, on through the classes,
    so that they differ by at most one asteroid in size and in each class.
    """
    members: dict[str, list[int]] = {}
    for i in sorted(range(len(designations)), key=lambda i: hashlib.sha256(designations[i].encode()).digest()):
        members.setdefault(classes[i], []).append(i)
    fold = np.full(len(designations), -1)
    dealt = 0
    for bus_class in sorted(members):
        rows = members[bus_class]
        held_out = round(TEST_SHARE * len(rows)) if len(rows) >= SMALLEST_CLASS else 0
        for i in rows[held_out:]:
            fold[i] = dealt % FOLDS
            dealt += 1
    return ["test" if f < 0 else "train" for f in fold], fold


@dataclass(frozen=True)
class LabelledSpectra:
    """Spectra on the 49 channels with the codes of their classes: what a model is fitted to or scored on.

    `reflectance` has shape (n, 49); the others have shape (n,). `scored` is false where a Bus class has too few
    members in the whole table for a score to mean anything.
    """

    designation: tuple[str, ...]
    reflectance: NDArray[np.float64]
    bus: NDArray[np.int64]
    fold: NDArray[np.int64]
    scored: NDArray[np.bool_]

    def codes(self, target: Target) -> NDArray[np.int64]:
        """The codes of the labels that a classifier of this target should give, shape (n,)."""
        if target == "bus_class":
            return self.bus
        main = main_groups_of_bus(self.bus)
        return main if target == "main_group" else x_of_main_groups(main)

    def __len__(self) -> int:
        return len(self.bus)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> LabelledSpectra:
        rows = np.arange(len(self))[rows]
        return LabelledSpectra(
            tuple(self.designation[i] for i in rows),
            self.reflectance[rows],
            self.bus[rows],
            self.fold[rows],
            self.scored[rows],
        )


def concatenated(first: LabelledSpectra, second: LabelledSpectra) -> LabelledSpectra:
    """The spectra of both, those of the first before those of the second."""
    return LabelledSpectra(
        first.designation + second.designation,
        np.concatenate([first.reflectance, second.reflectance]),
        np.concatenate([first.bus, second.bus]),
        np.concatenate([first.fold, second.fold]),
        np.concatenate([first.scored, second.scored]),
    )


def labelled(table: pd.DataFrame) -> tuple[LabelledSpectra, LabelledSpectra]:
    """The training and the test part of a features table."""
    bus = bus_codes(table["bus_class"].tolist())
    spectra = LabelledSpectra(
        tuple(table["designation"].tolist()),
        np.array(table["reflectance"].tolist()).reshape(len(table), len(WAVELENGTH)),
        bus,
        table["fold"].to_numpy(dtype=np.int64),
        np.bincount(bus, minlength=len(BUS_CLASSES))[bus] >= SMALLEST_CLASS,
    )
    return spectra[spectra.fold >= 0], spectra[spectra.fold < 0]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

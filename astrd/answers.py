"""Answers as a file: CSV, JSON or Parquet by its suffix, with the same columns in all three."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from astrd.dataset import written_whole
from astrd.reading import printable

LISTED: Final = ";"
"""Between the entries of a list in a cell of CSV: names and designations hold blanks themselves."""


@dataclass(frozen=True)
class Provenance:
    """Where answers come from: the model's address, version and run, and what it learned from; "" is unknown."""

    model: str
    model_version: str = ""
    run_id: str = ""
    data_source: str = ""
    data_sha256: str = ""


def check_path(path: Path, suffixes: Collection[str]) -> None:
    """Check, before any work is done, that a file of a known kind can be written there.

    Raises
    ------
    ValueError
        If its suffix is none of these, or its folder is not there.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: expected a name that ends in {' or '.join(suffixes)}, got {path.suffix or 'none'}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: expected a folder that is there, got {path.parent}; make it first")
    if path.is_dir():
        raise ValueError(f"{path}: expected the name of a file, got that of a folder")


def with_origin(answers: pd.DataFrame, paths: Sequence[Path], source: Provenance) -> pd.DataFrame:
    """Answers between the files that were asked about and the model that answered, which stand in every row."""
    table = answers.assign(**asdict(source))
    table.insert(0, "file", [printable(path) for path in paths])
    return table


def write(answers: pd.DataFrame, path: Path) -> None:
    """Write a table of answers, whole or not at all."""
    with written_whole(path) as partial:
        FORMATS[path.suffix.lower()](answers, partial)


def _write_csv(answers: pd.DataFrame, path: Path) -> None:
    answers.map(lambda value: LISTED.join(map(str, value)) if isinstance(value, list) else value).to_csv(
        path, index=False
    )


def _write_json(answers: pd.DataFrame, path: Path) -> None:
    rows = [
        json.dumps({name: _or_null(value) for name, value in row.items()}, ensure_ascii=False, allow_nan=False)
        for row in answers.to_dict(orient="records")
    ]
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _write_parquet(answers: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(answers, preserve_index=False)
    for place, column in enumerate(table.schema):
        if pa.types.is_null(column.type):  # a number that no row has
            table = table.set_column(place, column.name, table[place].cast(pa.float64()))
    pq.write_table(table, path)


FORMATS: Final[Mapping[str, Callable[[pd.DataFrame, Path], None]]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}

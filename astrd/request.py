"""A request to classify spectra: its rows and params, from JSON or Parquet, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import pyarrow as pa

from astrd import spectra
from astrd.classifier import DEFAULT_DRAWS
from astrd.conformal import DEFAULT_COVERAGE
from astrd.lists import Lists
from astrd.spectra import Spectra
from astrd.spectrum import Spectrum, SpectrumError

COLUMNS: Final = ("wavelength", "reflectance", "uncertainty", "designation")
REQUIRED: Final = COLUMNS[:2]

JSON: Final = "application/json"
PARQUET: Final = "application/vnd.apache.parquet"

_ANY: Final = ("*/*", "application/*")

Columns = Mapping[str, Sequence[Any]]


class RequestError(ValueError):
    """A request that cannot be read; the message says what was expected and what came."""


@dataclass(frozen=True)
class Params:
    """What a request may ask for; see `Classifier.classify`."""

    coverage: float = DEFAULT_COVERAGE
    draws: int = DEFAULT_DRAWS
    explain: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Params:
        """Params of a request's; others than these are passed over.

        Raises
        ------
        RequestError
            If one is of another kind.
        """
        kinds = {"coverage": (int, float), "draws": (int,), "explain": (bool,)}
        chosen = {field.name: given[field.name] for field in fields(cls) if field.name in given}
        for name, value in chosen.items():
            if not isinstance(value, kinds[name]) or (isinstance(value, bool) and name != "explain"):
                raise RequestError(f"expected {name} like {getattr(cls, name)!r} among the params, got {value!r}")
        return cls(**chosen)


def read(body: bytes, kind: str) -> tuple[Columns, Params]:
    """The columns and params of a body.

    Parameters
    ----------
    kind
        Its content type: `JSON`, in any form that MLflow's server takes (`dataframe_records`, `dataframe_split`,
        `inputs` or `instances`), or `PARQUET`, which has no params.

    Raises
    ------
    RequestError
        If it is of another kind, cannot be read, or has no column `wavelength` or `reflectance`.
    """
    mime = kind.partition(";")[0].strip()
    if mime == PARQUET:
        columns, rows = _parquet(body)
        params = Params()
    elif mime == JSON:
        columns, rows, params = _json(body)
    else:
        raise RequestError(f"expected a body of type {JSON} or {PARQUET}, got {kind or 'none'}")
    if rows and (missing := [name for name in REQUIRED if name not in columns]):
        raise RequestError(f"expected columns {' and '.join(REQUIRED)}, got no {' and no '.join(missing)}")
    return columns, params


def wanted(accept: str) -> str:
    """The content type, `JSON` or `PARQUET`, of the answers that a client takes.

    Parameters
    ----------
    accept
        Its header `Accept`: JSON without one, Parquet wherever that is named.

    Raises
    ------
    RequestError
        If it takes neither.
    """
    named = [one.partition(";")[0].strip() for one in accept.lower().split(",")]
    if PARQUET in named:
        return PARQUET
    if accept.strip() and not {JSON, *_ANY} & set(named):
        raise RequestError(f"expected Accept to name {JSON} or {PARQUET}, got {accept}")
    return JSON


def spectra_of(columns: Columns) -> Sequence[Spectrum]:
    """The spectra of a request's rows.

    Parameters
    ----------
    columns
        By name, one value a row; uncertainty and designation may be missing.

    Raises
    ------
    SpectrumError
        If there is no row, or one cannot be classified; the message names the row, counted from 0, and the reason.
    """
    rows = max((len(values) for values in columns.values()), default=0)
    if rows == 0:
        raise SpectrumError("expected at least one spectrum, got an empty list")
    wavelength, reflectance, uncertainty, designation = (_arrays(columns.get(name), rows) for name in COLUMNS)
    names = [str(name or "") for name in designation]
    checked = spectra.spectra_of(wavelength, reflectance, uncertainty, names)
    if isinstance(checked, Spectra):
        return checked
    found = []
    for number, (spectrum, name) in enumerate(zip(checked, names, strict=True)):
        if isinstance(spectrum, SpectrumError):
            raise SpectrumError(f"row {number}{f' ({name})' if name else ''}: {spectrum}")
        found.append(spectrum)
    return found


def _arrays(column: Sequence[Any] | None, rows: int) -> Sequence[Any]:
    if column is None:
        return [None] * rows
    return column if isinstance(column, Lists) else [_as_array(value) for value in column]


def _as_array(values: Any) -> Any:
    """A list of numbers, as JSON brings it, as an array; all else as it came, so that its error can show it.

    None for the NaN by which pandas fills a field that a record leaves out.
    """
    if not isinstance(values, list):
        return None if isinstance(values, float) and math.isnan(values) else values
    try:
        array = np.asarray(values)
    except ValueError:  # lists in it, of several lengths
        return values
    return array if array.dtype.kind == "f" else values


def _parquet(body: bytes) -> tuple[Columns, int]:
    """The columns that are asked for, and how many rows the file has."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(body), pre_buffer=False)
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        table = file.read(names, use_threads=False).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"expected a Parquet file, got something else: {error}") from error
    return {name: _values(table[name]) for name in names}, file.metadata.num_rows


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    if column.num_chunks == 1 and Lists.holds_numbers(column.type):
        return Lists.of(column.chunk(0))
    values: list[Any] = column.to_pandas().tolist()
    return values


def _json(body: bytes) -> tuple[Columns, int, Params]:
    """The columns that are asked for, how many rows there are, and the params."""
    content = _parsed(body)
    forms = {"dataframe_records", "dataframe_split", "inputs", "instances"}
    given = sorted(forms & set(content)) if isinstance(content, dict) else []
    if len(given) != 1:
        raise RequestError(f"expected a JSON object with one of {', '.join(sorted(forms))}, got {given or 'none'}")
    data, params = content[given[0]], content.get("params") or {}
    if given[0] == "dataframe_split" and isinstance(data, dict) and {"columns", "data"} <= set(data):
        data = [dict(zip(data["columns"], row, strict=False)) for row in data["data"]]
    if isinstance(data, dict) and all(isinstance(values, list) for values in data.values()):
        if len({len(values) for values in data.values()}) > 1:
            raise RequestError("expected columns of one length")
        columns, rows = data, max(map(len, data.values()), default=0)
    elif isinstance(data, list) and all(isinstance(row, dict) for row in data):
        there = set().union(*data)
        columns, rows = {name: [row.get(name) for row in data] for name in COLUMNS if name in there}, len(data)
    else:
        raise RequestError(f"expected a list of rows, each an object, as {given[0]}")
    if not isinstance(params, dict):
        raise RequestError(f"expected an object as params, got {params!r}")
    return columns, rows, Params.of(params)


def _parsed(body: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)  # takes NaN and Infinity, whose rows are refused by their number
    except ValueError as error:
        raise RequestError(f"expected JSON, got something else: {error}") from error

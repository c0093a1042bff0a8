"""What is answered of many spectra: arrays, and columns of them, in pandas for the library and in Arrow for surveys.

These, and the records that a server answers, are made of one list of columns, and hold the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from astrd.explanation import MEASURES, NAME_LISTS, NUMBER_LISTS
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS, ROLL_UP

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

ANSWER_LABELS: Final = (*(f"group_{name}" for name in MAIN_GROUPS), *BUS_CLASSES)
"""What probabilities and shares are given for: main groups, then Bus classes."""


_KINDS: Final = {
    **dict.fromkeys(NAME_LISTS, pa.list_(pa.string())),
    **dict.fromkeys(NUMBER_LISTS, pa.list_(pa.float64())),
    **{f"{name}{end}": pa.float64() for name in MEASURES for end in ("", "_uncertainty")},
}  # of columns that are no arrays, in Arrow; any other is of texts


@dataclass(frozen=True)
class Answers:
    """Answers for n spectra.

    `bus` (n, 26) are probabilities, `sets` (n, 26) the classes of the prediction sets; `outlier_score` and `is_outlier`
    have shape (n,). `shares` (n, 4 + 26) say how many of the noise draws gave each of `ANSWER_LABELS`; None without.
    `why` are the columns of `explanation`; None without.
    """

    designation: Sequence[str]
    bus: Array
    sets: Mask
    outlier_score: Array
    is_outlier: Mask
    note: Sequence[str]
    shares: Array | None = None
    why: Mapping[str, Sequence[Any]] | None = None

    @classmethod
    def none(cls, with_draws: bool) -> Answers:
        """Answers for no spectra."""
        bus, nothing = np.empty((0, len(BUS_CLASSES))), np.empty(0)
        shares = np.empty((0, len(ANSWER_LABELS))) if with_draws else None
        return cls([], bus, bus.astype(bool), nothing, nothing.astype(bool), [], shares)

    def frame(self) -> pd.DataFrame:
        """One row a spectrum, in the columns that `served_model.SIGNATURE` lists."""
        columns = {name: _in_pandas(values) for name, values in self._columns().items()}
        return pd.DataFrame(columns, index=range(len(self.bus)))

    def records(self) -> list[dict[str, Any]]:
        """The same as a dictionary a spectrum, of Python's own values."""
        columns = {name: _in_python(values, len(self.bus)) for name, values in self._columns().items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def table(self) -> pa.Table:
        """The same in Arrow, where no value has to be an object of its own."""
        return pa.table({name: _in_arrow(name, values, len(self.bus)) for name, values in self._columns().items()})

    def _columns(self) -> dict[str, Any]:
        rows, main = np.arange(len(self.bus)), self.bus @ ROLL_UP
        best_main, best_bus = main.argmax(axis=1), self.bus.argmax(axis=1)
        columns = {
            "designation": self.designation,
            "main_group": _Named(MAIN_GROUPS, best_main),
            "main_group_probability": main[rows, best_main],
            "bus_class": _Named(BUS_CLASSES, best_bus),
            "bus_class_probability": self.bus[rows, best_bus],
            "bus_prediction_set": _by_probability(self.bus, self.sets),
            "outlier_score": self.outlier_score,
            "is_outlier": self.is_outlier,
            "main_group_draw_share": None if self.shares is None else self.shares[rows, best_main],
            "bus_class_draw_share": None if self.shares is None else self.shares[rows, len(MAIN_GROUPS) + best_bus],
            "note": self.note,
            **_by_label("probability", main, self.bus),
        }
        return columns | ({} if self.shares is None else _by_label("draw_share", self.shares)) | dict(self.why or {})


@dataclass(frozen=True)
class _Named:
    """A column of labels by their `codes` (n,)."""

    labels: Sequence[str]
    codes: Codes

    def in_pandas(self) -> Any:
        return np.array(self.labels, dtype=object)[self.codes]

    def in_arrow(self) -> pa.Array:
        return pa.array(self.labels).take(pa.array(self.codes))


@dataclass(frozen=True)
class _Listed:
    """A column of lists: those of all n rows one after the other, each up to its one of `ends` (n,)."""

    entries: _Named
    ends: Codes

    def in_pandas(self) -> Any:
        names, ends = self.entries.in_pandas().tolist(), self.ends.tolist()
        return [names[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def in_arrow(self) -> pa.Array:
        offsets = np.append(0, self.ends).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), self.entries.in_arrow())


def _by_label(what: str, *values: Array) -> dict[str, Array]:
    columns = [column for part in values for column in np.ascontiguousarray(part.T)]  # Arrow takes each as it lies
    return {f"{what}_{label}": column for label, column in zip(ANSWER_LABELS, columns, strict=True)}


def _by_probability(probabilities: Array, inside: Mask) -> _Listed:
    """The classes inside each set, the likeliest first."""
    rows, codes = np.divmod(np.flatnonzero(inside), len(BUS_CLASSES))
    order = np.lexsort((-probabilities[rows, codes], rows))  # a set holds few classes: not all 26 need be sorted
    return _Listed(_Named(BUS_CLASSES, codes[order]), inside.sum(axis=1).cumsum())


def _in_pandas(values: Any) -> Any:
    return values.in_pandas() if isinstance(values, _Named | _Listed) else values


def _in_python(values: Any, rows: int) -> list[Any]:
    if values is None:
        return [None] * rows
    plain = _in_pandas(values)
    return list(plain.tolist() if isinstance(plain, np.ndarray) else plain)


def _in_arrow(name: str, values: Any, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, pa.float64())
    if isinstance(values, _Named | _Listed):
        return values.in_arrow()
    if isinstance(values, np.ndarray):
        return pa.array(values)
    return pa.array(values, _KINDS.get(name, pa.string()), from_pandas=True)  # NaN is none

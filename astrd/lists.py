"""A column of lists of numbers: all values one after the other, as Arrow holds them, and each list a view of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lists(Sequence[Any]):
    """Lists of numbers; row i has `values[offsets[i] : offsets[i + 1]]`, or None where it is not `there` (n,)."""

    values: Array
    offsets: NDArray[np.int64]
    there: NDArray[np.bool_]

    @classmethod
    def of(cls, column: pa.Array) -> Lists:
        """A column of Arrow for which `holds_numbers` is true of the type; nulls within lists are NaN.

        Lists of which no list of the column holds a number are none: whoever wrote them had none to write.
        """
        if pa.types.is_null(column.type) or pa.types.is_null(column.type.value_type):
            column = pa.nulls(len(column), pa.list_(pa.float64()))
        lists = column.cast(pa.list_(pa.float64()), safe=False)
        offsets = lists.offsets.to_numpy().astype(np.int64)
        values = lists.values.to_numpy(zero_copy_only=False)
        return cls(values, offsets, lists.is_valid().to_numpy(zero_copy_only=False))

    @staticmethod
    def holds_numbers(kind: pa.DataType) -> bool:
        """Whether a type of Arrow is one of lists of numbers."""
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return pa.types.is_null(kind) or (is_list and is_number(kind.value_type))

    @property
    def points(self) -> NDArray[np.int64]:
        """How many values each row has, shape (n,)."""
        return np.diff(self.offsets)

    @property
    def flat(self) -> Array:
        """The values of all rows."""
        return self.values[self.offsets[0] : self.offsets[-1]]

    def __len__(self) -> int:
        return len(self.there)

    def __getitem__(self, row: Any) -> Any:
        return self.values[self.offsets[row] : self.offsets[row + 1]] if self.there[row] else None

    def __iter__(self) -> Iterator[Array | None]:
        ends = self.offsets.tolist()
        for start, end, there in zip(ends[:-1], ends[1:], self.there.tolist(), strict=True):
            yield self.values[start:end] if there else None


def is_number(kind: pa.DataType) -> bool:
    """Whether a type of Arrow is one of numbers, or of nulls alone."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))

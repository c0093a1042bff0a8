"""Lists of numbers as they lie in Arrow's memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from astrd.lists import Lists

ROWS = [[1.0, 2.0], [], None, [3.0, None, 5.0]]
NUMBERS = pa.float64()


@pytest.mark.parametrize(
    "kind", [pa.list_(NUMBERS), pa.large_list(NUMBERS), pa.list_(pa.float32()), pa.list_(pa.int8())]
)
@pytest.mark.parametrize("first", [0, 1, 3])
def test_each_row_is_its_list(kind: pa.DataType, first: int) -> None:
    assert Lists.holds_numbers(kind)
    lists = Lists.of(pa.array(ROWS, kind).slice(first))
    assert len(lists) == len(ROWS) - first
    for found in (list(lists), [lists[row] for row in range(len(lists))]):
        for values, expected in zip(found, ROWS[first:], strict=True):
            if expected is None:
                assert values is None
            else:
                np.testing.assert_array_equal(values, np.array(expected, dtype=float))
    assert lists.flat.tolist()[-3::2] == [3.0, 5.0]
    assert lists.points.tolist() == [2, 0, 0, 3][first:]


def test_empty_lists_without_a_number_in_the_whole_column_are_none() -> None:
    assert list(Lists.of(pa.array([[], [None]]))) == [None, None]


def test_lists_of_one_size_are_lists() -> None:
    kind = pa.list_(NUMBERS, 2)
    assert Lists.holds_numbers(kind)
    assert [values.tolist() for values in Lists.of(pa.array([[1.0, 2.0], [3.0, 4.0]], kind))] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.null()), pa.list_(pa.null(), 1)])
def test_lists_without_a_number_in_the_whole_column_are_none(kind: pa.DataType) -> None:
    """As pandas writes a column of None, or of empty lists."""
    assert Lists.holds_numbers(kind)
    lists = Lists.of(pa.nulls(3, kind))
    assert [list(lists), lists.points.tolist(), lists.flat.tolist()] == [[None] * 3, [0] * 3, []]


@pytest.mark.parametrize("kind", [NUMBERS, pa.list_(pa.string()), pa.list_(pa.bool_()), pa.list_(pa.list_(NUMBERS))])
def test_other_columns_are_none(kind: pa.DataType) -> None:
    assert not Lists.holds_numbers(kind)

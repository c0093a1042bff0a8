"""The library's table and the survey's hold the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from astrd.answer_table import ANSWER_LABELS, Answers
from astrd.taxonomy import BUS_CLASSES


def drawn(rows: int, with_draws: bool) -> Answers:
    random = np.random.default_rng(rows)
    bus = random.dirichlet(np.full(len(BUS_CLASSES), 0.1), rows)
    sets = bus >= np.minimum(0.2, bus.max(axis=1, keepdims=True))
    score = random.uniform(0, 2, rows)
    shares = random.random((rows, len(ANSWER_LABELS))) if with_draws else None
    return Answers([f"a{row}" for row in range(rows)], bus, sets, score, score > 1, [""] * rows, shares)


@pytest.mark.parametrize("with_draws", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 300])
def test_pandas_arrow_and_records_hold_the_same(rows: int, with_draws: bool) -> None:
    answers = drawn(rows, with_draws)
    frame, table = answers.frame(), answers.table()
    assert list(frame.columns) == table.column_names
    assert len(frame) == len(table) == rows
    for name in table.column_names:
        found, expected = table[name].to_pylist(), frame[name].tolist()
        assert found == expected or (pa.types.is_floating(table[name].type) and found == [None] * rows)
    assert answers.records() == table.to_pylist()
    assert table.schema == Answers.none(with_draws).table().schema


def test_a_set_lists_its_classes_the_likeliest_first() -> None:
    answers = drawn(2, with_draws=False)
    bus, sets = np.zeros((2, 26)), np.zeros((2, 26), dtype=bool)
    bus[0, [3, 7, 9]], bus[1, 5] = (0.2, 0.5, 0.3), 1.0
    sets[0, [3, 7]], sets[1, 5] = True, True
    table = replace(answers, bus=bus, sets=sets).table()
    assert table["bus_prediction_set"].to_pylist() == [[BUS_CLASSES[7], BUS_CLASSES[3]], [BUS_CLASSES[5]]]
    assert table["bus_class"].to_pylist() == [BUS_CLASSES[7], BUS_CLASSES[5]]


def test_shares_are_those_of_the_class_that_is_answered() -> None:
    answers = drawn(40, with_draws=True)
    for row in answers.frame().to_dict("records"):
        assert row["bus_class_draw_share"] == row[f"draw_share_{row['bus_class']}"]
        assert row["main_group_draw_share"] == row[f"draw_share_group_{row['main_group']}"]
    assert drawn(40, with_draws=False).frame()["bus_class_draw_share"].isna().all()

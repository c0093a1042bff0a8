"""Answers as files: the same table in every format, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astrd import answers
from astrd.answers import Provenance

TABLE = pd.DataFrame(
    {
        "designation": ["1998 WS", 'a "b", c'],
        "main_group_probability": [1 / 3, 0.5],
        "is_outlier": [True, False],
        "bus_class_draw_share": [None, None],
        "band_09_depth": [None, 12.5],
        "analogue_name": [["Vesta", "", "van Gogh"], ["Ceres"]],
        "class_mean": [[0.1, 1 / 3], None],
    }
)


def read(path: Path) -> pd.DataFrame:
    readers = {
        ".csv": pd.read_csv,
        ".json": lambda p: pd.DataFrame(json.loads(p.read_text())),
        ".parquet": pd.read_parquet,
    }
    return readers[path.suffix](path)


@pytest.mark.parametrize("suffix", answers.FORMATS)
def test_all_that_was_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"answers{suffix}"
    answers.write(TABLE, path)
    found = read(path)
    assert list(found) == list(TABLE)
    assert found["designation"].tolist() == TABLE["designation"].tolist()
    assert found["main_group_probability"].tolist() == [1 / 3, 0.5]
    assert found["is_outlier"].tolist() == [True, False]
    assert found["bus_class_draw_share"].isna().all()
    assert np.isnan(float(found["band_09_depth"].astype(float)[0]))
    assert found["band_09_depth"][1] == 12.5
    if suffix == ".csv":
        assert found["analogue_name"].tolist() == ["Vesta;;van Gogh", "Ceres"]
        assert [float(cell) for cell in found["class_mean"][0].split(";")] == [0.1, 1 / 3]
    else:
        assert [list(names) for names in found["analogue_name"]] == TABLE["analogue_name"].tolist()
        assert list(found["class_mean"][0]) == [0.1, 1 / 3]
        assert found["class_mean"][1] is None


def test_json_has_no_nan_that_others_cannot_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"depth": [np.nan, 1.0]})
    answers.write(table, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == [
        {"depth": None},
        {"depth": 1.0},
    ]


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz"])
def test_another_suffix_is_refused_with_those_that_are_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name that ends in \.csv or \.json or \.parquet"):
        answers.check_path(tmp_path / name, answers.FORMATS)
    answers.check_path(tmp_path / "a.CSV", answers.FORMATS)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder that is there, got .*nowhere; make it first"):
        answers.check_path(tmp_path / "nowhere" / "a.csv", answers.FORMATS)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="got that of a folder"):
        answers.check_path(tmp_path / "folder.csv", answers.FORMATS)


def test_what_fails_leaves_the_old_file_and_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    answers.write(TABLE, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        answers.write(TABLE.assign(note=object()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_row_tells_its_file_and_its_model() -> None:
    source = Provenance("models:/a@champion", "3", "run", "smass2", "abc")
    table = answers.with_origin(TABLE, [Path("x/1.txt"), Path("y/1.txt")], source)
    assert table["file"].tolist() == ["x/1.txt", "y/1.txt"]
    assert table.iloc[1, -5:].tolist() == ["models:/a@champion", "3", "run", "smass2", "abc"]
    assert list(table)[1:-5] == list(TABLE)

"""The class is that of the spectrum, however its file is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astrd import Spectrum
from astrd.classifier import Classifier
from astrd.taxonomy import BUS_CLASSES

UNITS = {"µm": 1.0, "nm": 1e3, "Å": 1e4}
SEPARATORS = (" ", "\t", ",", ";", "   ")
COLUMNS = [f"probability_{name}" for name in BUS_CLASSES]


def written(
    path: Path, row: pd.Series, unit: str, separator: str, scale: float, order: np.ndarray, twice: int, header: bool
) -> Path:
    """A spectrum as a file: points in any order, in any unit, at any level, some of them twice."""
    places = np.concatenate([order, order[:twice]])
    columns = (row["wavelength"] * UNITS[unit], row["reflectance"] * scale, row["uncertainty"] * scale)
    lines = [separator.join(f"{values[place]:.10g}" for values in columns) for place in places]
    names = separator.join([f"wavelength({unit})", "reflectance", "uncertainty"])
    path.write_text("\n".join([*([names] if header else []), *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=["simulated", pytest.param("archive", marks=pytest.mark.archive)])
def raw(request: pytest.FixtureRequest) -> pd.DataFrame:
    name = "raw_table" if request.param == "archive" else "simulated_raw"
    table: pd.DataFrame = request.getfixturevalue(name)
    return table.iloc[:: len(table) // 60]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, 59),
    unit=st.sampled_from(list(UNITS)),
    separator=st.sampled_from(SEPARATORS),
    scale=st.floats(0.02, 5000),
    seed=st.integers(0, 2**32 - 1),
    twice=st.integers(0, 10),
    header=st.booleans(),
)
def test_order_unit_separator_scale_and_repeated_rows_do_not_change_the_class(
    raw: pd.DataFrame, template_classifier: Classifier, tmp_path: Path,
    place: int, unit: str, separator: str, scale: float, seed: int, twice: int, header: bool,
) -> None:  # fmt: skip
    row = raw.iloc[place]
    points = len(row["wavelength"])
    plain = written(tmp_path / "plain.txt", row, "µm", " ", 1.0, np.arange(points), 0, header=False)
    order = np.random.default_rng(seed).permutation(points)
    other = written(tmp_path / "other.txt", row, unit, separator, scale, order, twice, header)
    answers = template_classifier.classify([Spectrum.read(plain), Spectrum.read(other)])
    first, second = answers[COLUMNS].to_numpy()
    # Points that stand twice weigh more, and a level off 1 is set to it: both move probabilities a little.
    close = abs(np.sort(first)[-1] - np.sort(first)[-2]) < 0.1
    assert close or answers["bus_class"][0] == answers["bus_class"][1]
    assert np.abs(first - second).max() < (0.25 if twice else 0.15)


def test_another_shape_is_another_class(raw: pd.DataFrame, template_classifier: Classifier, tmp_path: Path) -> None:
    """The comparison above could fail."""
    row = raw.iloc[0].copy()
    plain = written(tmp_path / "plain.txt", row, "µm", " ", 1.0, np.arange(len(row["wavelength"])), 0, header=False)
    row["reflectance"] = row["reflectance"] * (1 + 2 * (row["wavelength"] - 0.55))
    other = written(tmp_path / "other.txt", row, "µm", " ", 1.0, np.arange(len(row["wavelength"])), 0, header=False)
    answers = template_classifier.classify([Spectrum.read(plain), Spectrum.read(other)])
    assert answers["bus_class"][0] != answers["bus_class"][1]

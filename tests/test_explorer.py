"""The explorer's file: what is in it, and that it needs nothing else."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astrd import dataset, explorer
from exploration import findings


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def unpacked(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["base64"]), "<i2") * packed["scale"]


@pytest.fixture(scope="module")
def features(simulated_raw: pd.DataFrame) -> pd.DataFrame:
    return dataset.features(simulated_raw)


@pytest.fixture(scope="module")
def page(simulated_raw: pd.DataFrame, features: pd.DataFrame) -> str:
    return explorer.page(simulated_raw, features, "simulated", findings(features))


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page[: page.index("plotly.js v")] + page[-1000:])
    assert len(tags) >= 3
    assert [tag for tag in tags if re.search(r'(?:src|href)\s*=\s*"(?!data:)', tag)] == []
    assert page.count("plotly.js v") == 1


@pytest.mark.archive
def test_the_whole_archive_with_all_raw_spectra_stays_below_8_mb(raw_table: pd.DataFrame) -> None:
    features = dataset.features(raw_table)
    page = explorer.page(raw_table, features, "smass2", findings(features))
    assert len(page.encode()) < 8e6
    raw = data_of(page)["raw"]
    assert sum(raw["points"]) == 252836
    for column in ("wavelength", "reflectance", "uncertainty"):
        np.testing.assert_allclose(unpacked(raw[column]), np.concatenate(raw_table[column].tolist()), atol=1e-9, rtol=0)


def test_values_too_large_for_four_decimals_keep_their_digits() -> None:
    values = np.array([-9.0, 0.0, 0.1234, 9.0])
    np.testing.assert_allclose(unpacked(explorer._packed(values)), values, atol=9 / 32767)
    np.testing.assert_allclose(unpacked(explorer._packed(values / 9)), values / 9, atol=0.5e-4)


def test_spectra_keep_to_their_asteroids_whatever_the_order_of_rows(
    simulated_raw: pd.DataFrame, features: pd.DataFrame
) -> None:
    shuffled = features.sample(frac=1, random_state=0)
    data = data_of(explorer.page(simulated_raw, shuffled, "simulated"))
    assert data["designation"] == simulated_raw["designation"].tolist()
    expected = np.concatenate(features["reflectance"].tolist())
    np.testing.assert_allclose(unpacked(data["smoothed"]), expected, atol=1e-4)


def test_features_of_other_asteroids_are_refused(simulated_raw: pd.DataFrame, features: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="python -m flows features"):
        explorer.page(simulated_raw, features[1:], "simulated")


def test_without_findings_there_are_none_on_the_page(simulated_raw: pd.DataFrame, features: pd.DataFrame) -> None:
    data = data_of(explorer.page(simulated_raw, features, "simulated"))
    assert [data[part] for part in ("run", "judgement", "latent", "audit")] == [None] * 4


def test_asteroids_that_a_table_lacks_have_no_place_in_its_view(
    simulated_raw: pd.DataFrame, features: pd.DataFrame
) -> None:
    found = findings(features)
    assert found.latent_space is not None
    latent = found.latent_space.iloc[5:]
    data = data_of(explorer.page(simulated_raw, features, "simulated", replace(found, latent_space=latent)))
    assert data["latent"]["x"][:5] == [None] * 5
    assert None not in data["latent"]["x"][5:]
    judged = [label is not None for label in data["judgement"]["bus_class"]]
    assert judged == (features["split"] == "train").tolist()


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "page.html"
    assert explorer.write("<p>1</p>", target).read_text() == "<p>1</p>"
    with pytest.raises(UnicodeEncodeError):
        explorer.write("\ud800", target)
    assert target.read_text() == "<p>1</p>"
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]

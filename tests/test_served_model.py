"""The rows of a request, as JSON brings them, are the spectra that they would be one by one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from astrd.served_model import spectra_of
from astrd.smoothing import WAVELENGTH
from astrd.spectrum import Spectrum, SpectrumError

ROW = {
    "designation": "4",
    "wavelength": WAVELENGTH.tolist(),
    "reflectance": np.round(1 + 0.2 * (WAVELENGTH - 0.55), 4).tolist(),
    "uncertainty": [0.01] * 49,
}


def changed(**columns: Any) -> dict[str, Any]:
    return {**ROW, **columns}


TAKEN = {
    "as it is": ROW,
    "at another level": changed(reflectance=[37 * value for value in ROW["reflectance"]]),
    "whole numbers": changed(reflectance=[1] * 49),
    "no uncertainty": {name: value for name, value in ROW.items() if name != "uncertainty"},
    "an empty uncertainty": changed(uncertainty=[]),
    "points twice": {name: 2 * value if isinstance(value, list) else value for name, value in ROW.items()},
    "no designation": {name: value for name, value in ROW.items() if name != "designation"},
}
REFUSED = {
    "words": changed(reflectance=["one"] * 49),
    "numbers as words": changed(reflectance=[str(value) for value in ROW["reflectance"]]),
    "a word among numbers": changed(reflectance=[*ROW["reflectance"][:48], "one"]),
    "truth": changed(reflectance=[True] * 49),
    "null": changed(reflectance=[*ROW["reflectance"][:48], None]),
    "lists in a list": changed(reflectance=[[1.0, 2.0], [1.0]]),
    "a number": changed(reflectance=1.0),
    "nothing": changed(wavelength=None),
    "infinite": changed(reflectance=[*ROW["reflectance"][:48], float("inf")]),
    "shorter": changed(reflectance=ROW["reflectance"][:48]),
}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """As a server parses them."""
    return pd.DataFrame(json.loads(json.dumps(rows)))


def alone(row: dict[str, Any]) -> Spectrum:
    return Spectrum.of(row["wavelength"], row["reflectance"], row.get("uncertainty"), row.get("designation", ""))


@pytest.mark.parametrize("kind", TAKEN)
def test_a_row_among_others_is_the_spectrum_that_it_is_alone(kind: str) -> None:
    rows = [ROW, TAKEN[kind], TAKEN["at another level"]]
    for found, row in zip(spectra_of(frame(*rows)), rows, strict=True):
        expected = alone(row)
        for name in ("wavelength", "reflectance", "uncertainty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert (found.designation, found.notes) == (expected.designation, expected.notes)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_spectrum_is_refused_in_the_words_it_would_be_alone(kind: str) -> None:
    with pytest.raises(SpectrumError) as expected:
        alone(REFUSED[kind])
    with pytest.raises(SpectrumError) as found:
        spectra_of(frame(ROW, REFUSED[kind], ROW))
    assert str(found.value) == f"row 1 (4): {expected.value}"


def test_arrays_of_a_parquet_body_are_taken_too() -> None:
    row = {name: np.array(value) if isinstance(value, list) else value for name, value in ROW.items()}
    (found,) = spectra_of(pd.DataFrame([row]))
    np.testing.assert_array_equal(found.reflectance, row["reflectance"])


def test_no_row_is_refused() -> None:
    with pytest.raises(SpectrumError, match="at least one spectrum"):
        spectra_of(pd.DataFrame({"wavelength": [], "reflectance": []}))

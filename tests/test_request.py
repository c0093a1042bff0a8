"""A request is read in every form, and its rows are the spectra that they would be one by one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from astrd import request
from astrd.request import JSON, PARQUET, Params, RequestError, spectra_of
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


def columns(*rows: dict[str, Any]) -> request.Columns:
    """As our own server reads them."""
    return request.read(json.dumps({"dataframe_records": rows}).encode(), JSON)[0]


def as_mlflow_reads_them(*rows: dict[str, Any]) -> request.Columns:
    frame = pd.DataFrame(json.loads(json.dumps(rows)))
    return {name: frame[name].tolist() for name in frame.columns}


def alone(row: dict[str, Any]) -> Spectrum:
    return Spectrum.of(row["wavelength"], row["reflectance"], row.get("uncertainty"), row.get("designation", ""))


READERS = pytest.mark.parametrize("reader", [columns, as_mlflow_reads_them])
Reader = Callable[..., request.Columns]


@READERS
@pytest.mark.parametrize("kind", TAKEN)
def test_a_row_among_others_is_the_spectrum_that_it_is_alone(kind: str, reader: Reader) -> None:
    rows = [ROW, TAKEN[kind], TAKEN["at another level"]]
    for found, row in zip(spectra_of(reader(*rows)), rows, strict=True):
        expected = alone(row)
        for name in ("wavelength", "reflectance", "uncertainty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert (found.designation, found.notes) == (expected.designation, expected.notes)


@READERS
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_spectrum_is_refused_in_the_words_it_would_be_alone(kind: str, reader: Reader) -> None:
    with pytest.raises(SpectrumError) as expected:
        alone(REFUSED[kind])
    with pytest.raises(SpectrumError) as found:
        spectra_of(reader(ROW, REFUSED[kind], ROW))
    assert str(found.value) == f"row 1 (4): {expected.value}"


def test_a_parquet_body_holds_the_same_rows() -> None:
    body = io.BytesIO()
    pd.DataFrame([ROW, TAKEN["at another level"]]).to_parquet(body)
    found, params = request.read(body.getvalue(), PARQUET)
    for spectrum, row in zip(spectra_of(found), (ROW, TAKEN["at another level"]), strict=True):
        np.testing.assert_array_equal(spectrum.reflectance, alone(row).reflectance)
    assert params == Params()


IN_PARQUET = {
    "infinite": REFUSED["infinite"],
    "shorter": REFUSED["shorter"],
    "not a number": changed(reflectance=[*ROW["reflectance"][:48], float("nan")]),
    "nothing": changed(wavelength=None),
    "words": changed(reflectance=["one"] * 49),
    "a number": changed(reflectance=1.0),
}


def in_parquet(*rows: dict[str, Any]) -> request.Columns:
    body = io.BytesIO()
    pd.DataFrame(rows).to_parquet(body)
    return request.read(body.getvalue(), PARQUET)[0]


@pytest.mark.parametrize(
    "kind", ["as it is", "at another level", "no uncertainty", "an empty uncertainty", "points twice"]
)
def test_rows_of_a_parquet_body_are_the_spectra_that_they_are_alone(kind: str) -> None:
    rows = [ROW, TAKEN[kind], TAKEN["at another level"]]
    for found, row in zip(spectra_of(in_parquet(*rows)), rows, strict=True):
        np.testing.assert_array_equal(found.reflectance, alone(row).reflectance)
        np.testing.assert_array_equal(found.uncertainty, alone(row).uncertainty)
        assert found.notes == alone(row).notes


def test_whole_numbers_of_a_parquet_body_are_numbers() -> None:
    (found,) = spectra_of(in_parquet(TAKEN["whole numbers"]))
    np.testing.assert_array_equal(found.reflectance, np.ones(49))


@pytest.mark.parametrize("kind", IN_PARQUET)
def test_what_is_no_spectrum_in_a_parquet_body_is_refused_in_the_same_words(kind: str) -> None:
    rows = (
        [IN_PARQUET[kind]] if kind in ("words", "a number") else [ROW, IN_PARQUET[kind], ROW]
    )  # columns have one type
    with pytest.raises(SpectrumError) as expected:
        alone(IN_PARQUET[kind])
    with pytest.raises(SpectrumError) as found:
        spectra_of(in_parquet(*rows))
    assert str(found.value) == f"row {len(rows) // 2} (4): {expected.value}"


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_records": [ROW, ROW]},
        {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())] * 2}},
        {"inputs": {name: [value] * 2 for name, value in ROW.items()}},
        {"instances": [ROW, ROW]},
    ],
    ids=lambda content: next(iter(content)),
)
def test_json_may_have_any_form_that_mlflow_takes(content: dict[str, Any]) -> None:
    found, _ = request.read(json.dumps(content).encode(), f"{JSON}; charset=utf-8")
    assert [spectrum.designation for spectrum in spectra_of(found)] == ["4", "4"]


OTHER_COLUMNS = pd.DataFrame({"0.44": [1.0], "0.45": [1.0]}).to_parquet()


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{", JSON, "expected JSON"),
        (b"\xff", JSON, "expected JSON"),
        (b"[]", JSON, "one of dataframe_records"),
        (b"{}", JSON, "one of dataframe_records"),
        (b'{"inputs": [], "instances": []}', JSON, "one of dataframe_records"),
        (b'{"dataframe_records": 3}', JSON, "a list of rows"),
        (b'{"dataframe_records": [3]}', JSON, "a list of rows"),
        (b'{"inputs": {"wavelength": [1], "reflectance": []}}', JSON, "one length"),
        (b'{"dataframe_records": [{"reflectance": [1.0]}]}', JSON, "got no wavelength"),
        (b'{"dataframe_records": [{"wave": [0.5]}]}', JSON, "got no wavelength and no reflectance"),
        (b'{"inputs": {"wave": [[0.5]]}}', JSON, "got no wavelength and no reflectance"),
        (OTHER_COLUMNS, PARQUET, "got no wavelength and no reflectance"),
        (b'{"dataframe_records": [], "params": 3}', JSON, "an object as params"),
        (b"words", PARQUET, "expected a Parquet file"),
        (b"a,b", "text/csv", "expected a body of type application/json"),
        (b"", "", "got none"),
    ],
)
def test_what_is_no_request_is_told_what_was_expected(body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        request.read(body, kind)


def test_params_are_taken_and_others_passed_over() -> None:
    given = {"coverage": 0.5, "draws": 3, "explain": True, "colour": "red"}
    _, params = request.read(json.dumps({"dataframe_records": [ROW], "params": given}).encode(), JSON)
    assert params == Params(0.5, 3, True)


@pytest.mark.parametrize("given", [{"coverage": "much"}, {"coverage": True}, {"draws": 1.5}, {"explain": 1}])
def test_params_of_another_kind_are_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"expected {next(iter(given))} like"):
        Params.of(given)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*;q=0.8", JSON),
        ("application/json, text/plain", JSON),
        (PARQUET, PARQUET),
        (f"{JSON}, Application/VND.Apache.Parquet", PARQUET),
    ],
)
def test_answers_are_json_unless_parquet_is_named(accept: str, kind: str) -> None:
    assert request.wanted(accept) == kind


@pytest.mark.parametrize("accept", ["text/csv", "text/*, image/png"])
def test_no_other_form_of_answers_is_given(accept: str) -> None:
    with pytest.raises(RequestError, match="expected Accept to name application/json or"):
        request.wanted(accept)


def test_no_row_is_refused() -> None:
    with pytest.raises(SpectrumError, match="at least one spectrum"):
        spectra_of(columns())

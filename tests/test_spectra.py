"""Many spectra at once get what each gets alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from astrd import simulate
from astrd.channels import channel_faults
from astrd.lists import Lists
from astrd.smoothing import WAVELENGTH
from astrd.spectra import Spectra, channel_noise, smoothed, spectra_of
from astrd.spectrum import Spectrum, SpectrumError

Points = tuple[Any, Any, Any]
NAN, INFINITE = float("nan"), float("inf")


def points(start: float = 0.44, stop: float = 0.92, step: float = 0.01) -> Points:
    w = np.arange(start, stop + 1e-9, step)
    return w, 1 + 0.2 * (w - 0.55), np.full(len(w), 0.01)


def at(wavelength: float, column: int, value: float) -> Callable[[], Points]:
    """A spectrum with another value at one wavelength."""

    def changed() -> Points:
        columns = [values.copy() for values in points()]
        columns[column][np.abs(columns[0] - wavelength).argmin()] = value
        return tuple(columns)  # type: ignore[return-value]

    return changed


def gapped(first: float, last: float) -> Points:
    w, r, u = points()
    kept = (w < first) | (w > last)
    return w[kept], r[kept], u[kept]


KINDS: dict[str, Callable[[], Points]] = {
    "in order": points,
    "32 bit": lambda: tuple(values.astype(np.float32) for values in points()),  # type: ignore[return-value]
    "another level": lambda: (points()[0], 37 * points()[1], 37 * points()[2]),
    "nearly normalised": lambda: (points()[0], 1.05 * points()[1], points()[2]),
    "as narrow as may be": lambda: points(0.51, 0.84),
    "too narrow, red": lambda: points(0.44, 0.82),
    "too narrow, blue": lambda: points(0.53, 0.92),
    "few points": lambda: points(0.5, 0.86, 0.05),
    "far beyond": lambda: points(0.3, 1.6, 0.02),
    "a gap": lambda: gapped(0.6, 0.75),
    "a gap at the side": lambda: gapped(0.42, 0.5),
    "a gap that may be": lambda: gapped(0.605, 0.675),
    "nothing near 0.55": lambda: gapped(0.52, 0.58),
    "nanometres": lambda: (1000 * points()[0], *points()[1:]),
    "reversed": lambda: tuple(values[::-1] for values in points()),  # type: ignore[return-value]
    "repeated": at(0.60, 0, 0.61),
    "not a number": at(0.60, 1, NAN),
    "infinite": at(0.70, 1, INFINITE),
    "no wavelength": at(0.60, 0, NAN),
    "wavelength of zero": at(0.44, 0, 0.0),
    "no uncertainty there": at(0.70, 2, NAN),
    "uncertainty of zero": at(0.70, 2, 0.0),
    "a huge one": at(0.70, 1, 1e4),
    "negative": lambda: (points()[0], -points()[1], points()[2]),
    "drowned in noise": lambda: (points()[0], points()[1], 10 * points()[2] * 50),
    "uneven": lambda: (points()[0][1:], *points()[1:]),
    "empty": lambda: (np.empty(0), np.empty(0), np.empty(0)),
    "none": lambda: (None, None, None),
    "without uncertainty": lambda: (*points()[:2], None),
    "lists": lambda: tuple(values.tolist() for values in points()),  # type: ignore[return-value]
    "words": lambda: (points()[0], ["one"] * 49, points()[2]),
}


def alone(given: Points, designation: str) -> Spectrum | SpectrumError:
    try:
        return Spectrum.of(*given, designation)
    except SpectrumError as error:
        return error


def assert_same(found: Spectrum | SpectrumError, expected: Spectrum | SpectrumError) -> None:
    assert type(found) is type(expected)
    if isinstance(found, Spectrum) and isinstance(expected, Spectrum):
        for name in ("wavelength", "reflectance", "uncertainty"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert (found.designation, found.notes) == (expected.designation, expected.notes)
    else:
        assert str(found) == str(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spectrum_among_others_is_what_it_is_alone(kind: str) -> None:
    given = [points(), KINDS[kind](), points(0.435, 0.925, 0.0025)]
    names = ["first", kind, "last"]
    for found, one, name in zip(spectra_of(*zip(*given, strict=True), names), given, names, strict=True):
        assert_same(found, alone(one, name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("absent", [None, [], np.empty(0)], ids=["none", "empty list", "empty array"])
def test_without_uncertainties_it_is_so_too(kind: str, absent: Any) -> None:
    given = [(*columns[:2], absent) for columns in (points(), KINDS[kind](), points(0.435, 0.925, 0.0025))]
    names = ["first", kind, "last"]
    for found, one, name in zip(spectra_of(*zip(*given, strict=True), names), given, names, strict=True):
        assert_same(found, alone(one, name))


def as_lists(given: list[Points]) -> list[Lists]:
    return [Lists.of(pa.array(list(column), pa.list_(pa.float64()))) for column in zip(*given, strict=True)]


def test_spectra_in_order_stay_together() -> None:
    given = [points(), points(0.435, 0.925, 0.0025), KINDS["another level"]()]
    for columns in (zip(*given, strict=True), as_lists(given)):
        found = spectra_of(*columns, ["a", "b", "c"])
        assert isinstance(found, Spectra)
        for spectrum, one, name in zip(found, given, "abc", strict=True):
            assert_same(spectrum, alone(one, name))
        again = Spectra.of(list(found))
        assert list(again.points) == list(found.points)
        np.testing.assert_array_equal(smoothed(again), smoothed(found))
        np.testing.assert_array_equal(channel_noise(again), channel_noise(found))
        with pytest.raises(IndexError):
            found[3]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "words"])
def test_a_spectrum_in_a_column_of_lists_is_what_it_is_alone(kind: str) -> None:
    given = [points(), KINDS[kind](), points(0.435, 0.925, 0.0025)]
    names = ["first", kind, "last"]
    columns = as_lists(given)
    for found, one, name in zip(spectra_of(*columns, names), zip(*columns, strict=True), names, strict=True):
        assert_same(found, alone(one, name))


def test_both_ends_are_reached_by_these_kinds() -> None:
    """Some are refused and some are not, or the test above would prove little."""
    refused = {kind for kind, given in KINDS.items() if isinstance(alone(given(), ""), SpectrumError)}
    assert {"a gap", "too narrow, red", "nanometres", "negative", "empty"} <= refused
    assert not {"in order", "another level", "reversed", "a gap that may be", "as narrow as may be"} & refused


def test_a_simulated_survey_is_what_its_spectra_are_alone() -> None:
    assert_survey_is_its_spectra(simulate.survey(300, seed=5))


@pytest.mark.archive
def test_the_archive_is_what_its_spectra_are_alone(raw_table: pd.DataFrame) -> None:
    assert_survey_is_its_spectra(raw_table)


def assert_survey_is_its_spectra(raw: pd.DataFrame) -> None:
    columns = [[np.asarray(v) for v in raw[name]] for name in ("wavelength", "reflectance", "uncertainty")]
    names = raw["designation"].tolist()
    for found, *given, name in zip(spectra_of(*columns, names), *columns, names, strict=True):
        assert_same(found, alone(tuple(given), name))  # type: ignore[arg-type]


def test_a_survey_without_uncertainties_is_what_its_spectra_are_alone() -> None:
    raw = simulate.survey(300, seed=6)
    raw["uncertainty"] = [None] * len(raw)
    raw["reflectance"] = [(1 + row % 3) * values for row, values in enumerate(raw["reflectance"])]
    columns = [raw[name].tolist() for name in ("wavelength", "reflectance", "uncertainty", "designation")]
    found = spectra_of(*columns)
    assert all("no uncertainty given" in one.notes[0] for one in found if isinstance(one, Spectrum))
    for spectrum, *given, name in zip(found, *columns, strict=True):
        assert_same(spectrum, alone(tuple(given), name))  # type: ignore[arg-type]


def test_no_spectra_are_none() -> None:
    assert spectra_of([], [], [], []) == []


def channels(**changes: float) -> np.ndarray:
    values = 1 + 0.2 * (WAVELENGTH - 0.55)
    for wavelength, value in changes.items():
        values[np.abs(WAVELENGTH - float(f"0.{wavelength[1:]}")).argmin()] = value
    return values


def ends_cut(first: float, last: float) -> np.ndarray:
    return np.where((first - 1e-9 < WAVELENGTH) & (last + 1e-9 > WAVELENGTH), channels(), np.nan)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (channels(), None),
        (1e6 * channels(), None),
        (ends_cut(0.51, 0.84), None),
        (ends_cut(0.52, 0.84), "expected channels that cover 0.50 to 0.85 µm, got 0.52 to 0.84 µm"),
        (ends_cut(0.51, 0.83), "got 0.51 to 0.83 µm"),
        (channels(x63=NAN), "expected every channel from 0.44 to 0.92 µm, got none at 0.63 µm"),
        (channels(x63=INFINITE), "expected finite numbers as reflectance, got inf at 0.63 µm"),
        (channels(x63=-INFINITE), "expected finite numbers as reflectance, got -inf at 0.63 µm"),
        (channels(x55=0.0), "expected a reflectance above 0 at 0.55 µm, where it is normalised; got 0"),
        (-channels(), "above 0 at 0.55 µm"),
        (channels(x91=101.0), "expected reflectances of the size of that at 0.55 µm, 1; got 101 at 0.91 µm"),
        (channels(x91=99.0), None),
        (np.full(49, np.nan), "expected reflectances, got none"),
    ],
)  # fmt: skip
def test_a_spectrum_on_the_channels_is_told_what_is_wrong_with_it(values: np.ndarray, reason: str | None) -> None:
    fine, found, also_fine = channel_faults(np.array([channels(), values, 3 * channels()]))
    assert fine is None and also_fine is None
    assert found is None if reason is None else reason in (found or "")


def uneven(long: tuple[Any, Any, Any]) -> list[list[Any]]:
    """Columns of many short spectra with a long one among them."""
    wavelength = np.linspace(0.43, 0.93, 60)
    short = (wavelength, 1 + 0.1 * (wavelength - 0.55), np.full(60, 0.01))
    return [[one] * 1000 + [other] + [one] * 1000 for one, other in zip(short, long, strict=True)]


@pytest.mark.parametrize("kind", ["sound", "without uncertainty", "all points at one wavelength"])
def test_a_long_spectrum_costs_those_beside_it_nothing(kind: str) -> None:
    """Padded to its length, two thousand others would take 1.6 GB."""
    wavelength = np.linspace(0.43, 0.93, 100_000)
    long = (
        np.full(100_000, 0.55) if kind == "all points at one wavelength" else wavelength,
        1 + 0.1 * (wavelength - 0.55),
        None if kind == "without uncertainty" else np.full(100_000, 0.01),
    )
    columns = uneven(long)
    tracemalloc.start()
    found = spectra_of(*columns, [""] * len(columns[0]))
    sound = [spectrum for spectrum in found if isinstance(spectrum, Spectrum)]
    channels = smoothed(sound)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert len(sound) == (2000 if kind == "all points at one wavelength" else 2001)
    np.testing.assert_allclose(channels, np.tile(channels[0], (len(sound), 1)), atol=1e-6)  # they are one straight line

"""A spectrum is checked on its way in; what is wrong with it is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrd.smoothing import WAVELENGTH
from astrd.spectra import channels_outside
from astrd.spectrum import FEWEST_POINTS, Spectrum, SpectrumError

W = np.round(np.linspace(0.45, 0.90, 46), 2)
R = 1 + 0.3 * (W - 0.55)
SEEDS = st.integers(0, 2**32 - 1)


def random_points(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    between = random.choice(np.round(np.arange(0.4525, 0.8999, 0.0025), 4), 118, replace=False)
    wavelength = np.sort([0.45, *between, 0.90])
    return wavelength, 1 + random.normal(0, 0.1, 120), random.uniform(0.005, 0.05, 120)


def test_a_spectrum_is_kept_and_normalised_at_055() -> None:
    spectrum = Spectrum.of(W, 3 * R, np.full(46, 0.03), "433")
    np.testing.assert_array_equal(spectrum.wavelength, W)
    np.testing.assert_allclose(spectrum.reflectance, R, rtol=0.01)
    np.testing.assert_allclose(spectrum.reflectance / spectrum.uncertainty, 100 * R)
    assert np.interp(0.55, W, spectrum.reflectance) == pytest.approx(1, abs=0.01)
    assert (spectrum.designation, spectrum.notes) == ("433", ())


@given(seed=SEEDS)
def test_the_order_of_the_points_does_not_matter(seed: int) -> None:
    w, r, u = random_points(seed)
    order = np.random.default_rng(seed + 1).permutation(len(w))
    first, second = Spectrum.of(w, r, u), Spectrum.of(w[order], r[order], u[order])
    for name in ("wavelength", "reflectance", "uncertainty"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.notes == ()
    assert second.notes == ("points put in order of wavelength",)


@pytest.mark.parametrize("level", [0.95, 1.0, 1.05])
def test_a_spectrum_that_is_normalised_already_is_left_as_it_is(level: float) -> None:
    """Those of the archive are, and training takes them as they are: the level weighs the smoothing."""
    spectrum = Spectrum.of(W, level * R, U)
    np.testing.assert_array_equal(spectrum.reflectance, level * R)
    np.testing.assert_array_equal(spectrum.uncertainty, U)


@given(seed=SEEDS, scale=st.floats(1, 1e6) | st.floats(1e-6, 1e-2), stated=st.booleans())
def test_the_level_of_the_reflectance_does_not_matter(seed: int, scale: float, stated: bool) -> None:
    w, r, u = random_points(seed)
    r, u = 5 * r, 5 * u
    first = Spectrum.of(w, r, u if stated else None)
    second = Spectrum.of(w, scale * r, scale * u if stated else None)
    np.testing.assert_allclose(first.reflectance, second.reflectance, rtol=1e-9)
    np.testing.assert_allclose(first.uncertainty, second.uncertainty, rtol=1e-9)
    assert len(first.notes) == len(second.notes) == (not stated)


@given(seed=SEEDS, times=st.integers(2, 4))
def test_points_given_several_times_are_averaged(seed: int, times: int) -> None:
    w, r, u = random_points(seed)
    once = Spectrum.of(w, r, u)
    repeated = Spectrum.of(np.tile(w, times), np.tile(r, times), np.tile(u, times))
    np.testing.assert_array_equal(once.wavelength, repeated.wavelength)
    np.testing.assert_allclose(once.reflectance, repeated.reflectance)
    np.testing.assert_allclose(once.uncertainty / np.sqrt(times), repeated.uncertainty)
    assert f"{120 * (times - 1)} points at repeated wavelengths averaged" in repeated.notes


def test_a_repeated_point_counts_by_its_certainty() -> None:
    w, r, u = np.append(W, 0.70), np.append(R, 2.0), np.append(np.full(46, 0.01), 0.03)
    spectrum = Spectrum.of(w, r, u)
    at = spectrum.wavelength.tolist().index(0.70)
    assert spectrum.reflectance[at] == pytest.approx((9 * R[W == 0.70][0] + 2.0) / 10)


@given(seed=SEEDS)
def test_what_was_handed_over_is_left_as_it_was(seed: int) -> None:
    w, r, u = (values[::-1].copy() for values in random_points(seed))
    before = w.copy(), r.copy(), u.copy()
    Spectrum.of(w, r, u)
    for old, new in zip(before, (w, r, u), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_uncertainties_the_scatter_stands_in() -> None:
    noise = 0.02
    w = np.linspace(0.45, 0.9, 400)
    r = 1 + np.random.default_rng(0).normal(0, noise, 400)
    for absent in (None, []):
        spectrum = Spectrum.of(w, r, absent)
        assert spectrum.uncertainty[0] * np.interp(0.55, w, r) == pytest.approx(noise, rel=0.2)
        assert (spectrum.uncertainty == spectrum.uncertainty[0]).all()
        assert "no uncertainty given: 1 sigma of 0.0" in spectrum.notes[0]
    assert (Spectrum.of(W, R).uncertainty > 0).all()  # a straight line has no scatter


def changed(values: np.ndarray, at: int, value: float) -> np.ndarray:
    copy = values.copy()
    copy[at] = value
    return copy


U = np.full(46, 0.01)
WRONG = {
    "NaN in the reflectance": (W, changed(R, 3, np.nan), U, "finite numbers as reflectance, got nan at position 4"),
    "infinity in the wavelength": (changed(W, 0, np.inf), R, U, "finite numbers as wavelength, got inf at position 1"),
    "NaN in the uncertainty": (W, R, changed(U, 45, np.nan), "finite numbers as uncertainty, got nan at position 46"),
    "None among numbers": ([None, *W[1:]], R, U, "finite numbers as wavelength, got nan at position 1"),
    "no list at all": (None, R, U, "expected a list of numbers as wavelength, got None"),
    "a table": (np.array([W, W]), R, U, r"expected a list of numbers as wavelength, got \[\["),
    "ragged lists": ([[0.5], [0.6, 0.7]], R, U, "expected numbers as wavelength"),
    "text": (W, ["bright"] * 46, U, r"expected numbers as reflectance, got \['bright'"),
    "a word": (W, "bright", U, "expected numbers as reflectance, got 'bright'"),
    "fewer reflectances": (W, R[1:], U, "lists of one length, got 46 wavelengths, 45 reflectances, 46 uncertainties"),
    "fewer uncertainties": (W, R, U[1:], "lists of one length, got 46 wavelengths, 46 reflectances, 45 uncertainties"),
    "nothing": ([], [], None, "expected at least 10 points, got an empty list"),
    "too few points": (W[::5][:9], R[::5][:9], None, r"at least 10 points from 0.4 to 0.95 µm, got 9"),
    "too late a start": (W[7:], R[7:], None, r"cover 0.50 to 0.85 µm, got 0.52 to 0.9 µm"),
    "too early an end": (W[:-7], R[:-7], None, r"cover 0.50 to 0.85 µm, got 0.45 to 0.83 µm"),
    "a gap": (np.delete(W, range(20, 30)), np.delete(R, range(20, 30)), None, "no gap wider .* one from 0.64 to 0.75"),
    "nanometres": (W * 1000, R, None, "wavelengths in µm, got 450 to 900: that looks like nm"),
    "ångströms": (W * 10000, R, None, "wavelengths in µm, got 4500 to 9000: that looks like Å"),
    "a negative wavelength": (changed(W, 0, -1.0), R, None, "wavelengths above 0, got -1; leave such points out"),
    "a point far off": (W, changed(R, 9, 500.0), U, "of the size of that at 0.55 µm, 1.0045; got 500 at 0.54 µm"),
    "numbers as text": (W, [str(value) for value in R], U, r"expected numbers as reflectance, got \['0.97"),
    "nothing at 0.55": (W, R - 1.01, U, "reflectance above 0 at 0.55 µm, where it is normalised; got -0.008"),
    "noise at 0.55": (W, R - 0.995, U, "at 0.55 µm, .*, of at least 3 times its uncertainty; got 0.0065 with 0.005"),
    "a negative level": (W, -R, U, "reflectance above 0 at 0.55 µm, where it is normalised; got -1"),
    "an uncertainty of 0": (W, R, changed(U, 1, 0.0), "uncertainties above 0, got 0 at 0.46 µm"),
    "a negative uncertainty": (W, R, changed(U, 0, -0.1), "uncertainties above 0, got -0.1 at 0.45 µm"),
}


@pytest.mark.parametrize(("wavelength", "reflectance", "uncertainty", "message"), WRONG.values(), ids=WRONG)
def test_what_makes_no_spectrum_is_named(wavelength, reflectance, uncertainty, message: str) -> None:
    with pytest.raises(SpectrumError, match=message):
        Spectrum.of(wavelength, reflectance, uncertainty)


def test_the_least_that_makes_a_spectrum() -> None:
    w = np.linspace(0.50, 0.85, FEWEST_POINTS)
    assert len(Spectrum.of(w, np.ones(FEWEST_POINTS)).wavelength) == FEWEST_POINTS
    with pytest.raises(SpectrumError, match="at least 10 points"):
        Spectrum.of(w[np.arange(10) != 4], np.ones(9))
    just = np.delete(W, range(20, 29))  # 0.64 to 0.74: as wide as a gap may be
    assert np.diff(just).max() == pytest.approx(0.1)
    Spectrum.of(just, np.ones(len(just)))


def test_points_at_one_wavelength_count_once() -> None:
    with pytest.raises(SpectrumError, match="got 5"):
        Spectrum.of(np.repeat([0.5, 0.59, 0.68, 0.77, 0.86], 4), np.ones(20))


@given(seed=SEEDS, what=st.sampled_from(["wavelength", "reflectance", "uncertainty"]), data=st.data())
def test_no_number_that_is_none_comes_through(seed: int, what: str, data: st.DataObject) -> None:
    columns = dict(zip(("wavelength", "reflectance", "uncertainty"), random_points(seed), strict=True))
    at = data.draw(st.integers(0, 119))
    columns[what] = changed(columns[what], at, data.draw(st.sampled_from([np.nan, np.inf, -np.inf])))
    with pytest.raises(SpectrumError, match=rf"as {what}, got .* at position {at + 1};"):
        Spectrum.of(**columns)


def test_channels_beyond_the_data_are_those_further_out_than_the_margin() -> None:
    spectrum = Spectrum.of(np.round(np.linspace(0.46, 0.90, 45), 2), np.ones(45))
    assert WAVELENGTH[channels_outside([spectrum], 0.0)[0]].tolist() == [0.44, 0.45, 0.91, 0.92]
    assert WAVELENGTH[channels_outside([spectrum], 0.01)[0]].tolist() == [0.44, 0.92]
    assert not channels_outside([spectrum], 0.02)[0].any()


@pytest.mark.archive
def test_every_spectrum_of_the_archive_can_be_classified(raw_table: pd.DataFrame) -> None:
    refused = []
    for row in raw_table.itertuples():
        try:
            Spectrum.of(row.wavelength, row.reflectance, row.uncertainty, row.designation)
        except SpectrumError as error:
            refused.append(f"{row.designation}: {error}")
    assert refused == []

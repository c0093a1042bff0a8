"""Bus's smoothing in bulk equals the textbook's, one spectrum at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import make_smoothing_spline

from astrd.smoothing import (
    NORMALISATION_CHANNEL,
    WAVELENGTH,
    Array,
    bus_smoothing,
    propagated,
    smoothed_uncertainty,
)

Spectra = tuple[list[Array], list[Array], list[Array]]


def random_spectra(lengths: list[int], seed: int = 0) -> Spectra:
    random = np.random.default_rng(seed)
    wavelength = [np.sort(random.choice(np.arange(0.42, 0.94, 0.001), n, replace=False)) for n in lengths]
    reflectance = [
        1 + 0.3 * np.sin(8 * w + n) + random.normal(0, 0.02, n) for w, n in zip(wavelength, lengths, strict=True)
    ]
    uncertainty = [random.uniform(0.003, 0.05, n) for n in lengths]
    return wavelength, reflectance, uncertainty


def test_the_channels_run_from_044_to_092() -> None:
    assert len(WAVELENGTH) == 49
    assert (WAVELENGTH[0], WAVELENGTH[-1], WAVELENGTH[NORMALISATION_CHANNEL]) == (0.44, 0.92, 0.55)


def test_spectra_of_any_length_in_one_batch_equal_scipys_spline() -> None:
    lengths = np.random.default_rng(1).integers(5, 200, 600).tolist()  # more than are solved together
    spectra = random_spectra([5, 6, *lengths])
    smoothed = bus_smoothing(*spectra)
    for row, (w, r, u) in zip(smoothed, zip(*spectra, strict=True), strict=True):
        inside = (w[0] <= WAVELENGTH) & (w[-1] >= WAVELENGTH)
        spline = make_smoothing_spline(w, r, w=1 / u**2, lam=0.25)
        np.testing.assert_allclose(row[inside], (spline(WAVELENGTH) / spline(0.55))[inside], rtol=1e-6, atol=1e-6)


def test_uncertainties_pass_through_as_through_scipys_spline() -> None:
    spectra = random_spectra([5, 9, *np.random.default_rng(2).integers(5, 200, 528).tolist()])
    weights = np.random.default_rng(3).normal(size=(530, 49))
    smoothed = bus_smoothing(*spectra)
    deviation = propagated(*spectra, weights)
    for row in (0, 1, 2, 511, 512, 529):
        w, r, u = (values[row] for values in spectra)
        spline = make_smoothing_spline(w, np.eye(len(w)), w=1 / u**2, lam=0.25)
        inside = (w[0] <= WAVELENGTH) & (w[-1] >= WAVELENGTH)
        of_points = spline(WAVELENGTH) - np.outer(smoothed[row], spline(0.55))
        of_sum = (weights[row] * inside) @ of_points / (spline(0.55) @ r)
        (found,) = propagated([w], [r], [u], (weights[row] * inside)[None])
        assert found == pytest.approx(np.sqrt(((of_sum * u) ** 2).sum()), rel=1e-5)
        if inside.all():
            assert deviation[row] == pytest.approx(found)


def test_a_straight_line_is_kept_and_normalised_at_055() -> None:
    w = np.linspace(0.4, 1.0, 30)
    smoothed = bus_smoothing([w], [3.0 * (1 + w)], [np.full(30, 0.1)])[0]
    np.testing.assert_allclose(smoothed, (1 + WAVELENGTH) / 1.55, rtol=1e-9)


def test_a_spectrum_does_not_depend_on_its_neighbours() -> None:
    spectra = random_spectra([20, 190, 50])
    together = bus_smoothing(*spectra)
    alone = [bus_smoothing([w], [r], [u])[0] for w, r, u in zip(*spectra, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_spectra_that_share_their_wavelengths_get_what_each_gets_alone() -> None:
    (w,), _, _ = random_spectra([60])
    random = np.random.default_rng(4)
    reflectance, uncertainty = list(random.normal(1, 0.02, (600, 60))), list(random.uniform(0.003, 0.05, (600, 60)))
    smoothed = bus_smoothing([w] * 600, reflectance, uncertainty)
    sigmas = smoothed_uncertainty([w] * 3, reflectance[:3], uncertainty[:3])
    for row in (0, 1, 511, 512, 599):
        alone = ([w], [reflectance[row]], [uncertainty[row]])
        np.testing.assert_array_equal(smoothed[row], bus_smoothing(*alone)[0])
        if row < 3:
            np.testing.assert_allclose(sigmas[row], smoothed_uncertainty(*alone)[0], rtol=1e-12)
    with pytest.raises(ValueError, match=r"^row 0: expected wavelengths that increase strictly"):
        bus_smoothing([w[::-1]] * 3, reflectance[:3], uncertainty[:3])


@pytest.mark.parametrize("size", [1e0, 1e5, 1e20, 1e40])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_uncertainties_of_any_size_end_alike_alone_and_beside_another(size: float) -> None:
    uncertainty = 0.01 * np.where(np.arange(49) % 2, size, 1 / size)

    def end(spectra: int) -> bytes | str:
        try:
            return bus_smoothing([WAVELENGTH] * spectra, [1 + WAVELENGTH] * spectra, [uncertainty] * spectra)[
                0
            ].tobytes()
        except ValueError as error:
            return str(error)

    assert end(1) == end(2)
    assert isinstance(end(1), str) == (size > 1e10)


def test_no_spectra_give_no_rows() -> None:
    assert bus_smoothing([], [], []).shape == (0, 49)


@pytest.mark.parametrize("bad", [0, 2, 600])
@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        (0, lambda w: w[::-1], "increase strictly"),
        (0, lambda w: np.append(w[:-1], w[-2]), "increase strictly"),
        (1, lambda r: r[:-1], "lists of one length"),
        (1, lambda r: -r, "above 0 at 0.55"),
        (1, lambda r: r * np.nan, "above 0 at 0.55"),
        (2, lambda u: u * 0, "uncertainties above 0"),
    ],
)
def test_a_bad_spectrum_is_named_by_its_place(bad: int, column: int, change, message: str) -> None:
    spectra = random_spectra([30] * (bad + 3))
    spectra[column][bad] = change(spectra[column][bad])
    with pytest.raises(ValueError, match=f"^row {bad}: .*{message}"):
        bus_smoothing(*spectra)


def test_three_points_are_too_few_and_four_are_enough() -> None:
    w = np.array([0.45, 0.55, 0.65, 0.85])
    assert np.isfinite(bus_smoothing([w], [w], [w])).all()
    with pytest.raises(ValueError, match="row 0: expected at least 4 points to smooth, got 3"):
        bus_smoothing([w[:3]], [w[:3]], [w[:3]])


def test_the_noise_of_a_smoothed_spectrum_is_the_scatter_of_its_draws() -> None:
    wavelength, reflectance, uncertainty = random_spectra([60, 40])
    sigmas = smoothed_uncertainty(wavelength, reflectance, uncertainty)
    random, draws = np.random.default_rng(0), 4000
    for row, (w, r, u) in enumerate(zip(wavelength, reflectance, uncertainty, strict=True)):
        noisy = list(r + u * random.standard_normal((draws, len(r))))
        scatter = bus_smoothing([w] * draws, noisy, [u] * draws).std(axis=0)
        np.testing.assert_allclose(sigmas[row], scatter, rtol=0.1, atol=1e-5)


def test_noise_is_none_at_055_and_grows_with_the_uncertainty() -> None:
    wavelength, reflectance, uncertainty = random_spectra([60])
    few, many = (smoothed_uncertainty(wavelength, reflectance, [uncertainty[0] * scale])[0] for scale in (1e-4, 3e-4))
    assert few[NORMALISATION_CHANNEL] == pytest.approx(0, abs=1e-12)
    assert (np.delete(few, NORMALISATION_CHANNEL) > 0).all()
    assert np.median(many) == pytest.approx(3 * np.median(few), rel=0.2)  # a noisier spectrum is smoothed more

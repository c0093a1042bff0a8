"""The classifier that is served: the same answer for the same spectrum, however it arrives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alike import assert_same_answers
from astrd import dataset, simulate
from astrd.analogues import ANALOGUES, Archive
from astrd.calibrated import FORMAT, Calibration, OtherVersionError
from astrd.calibration import at_temperature
from astrd.classifier import Classifier
from astrd.conformal import GradedSets
from astrd.dataset import LabelledSpectra
from astrd.evaluation import cross_validate
from astrd.explanation import MEASURES, NAME_LISTS, NUMBER_LISTS
from astrd.network_models import FittedNetwork, NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork, to_onnx
from astrd.onnx_network import OnnxNetwork
from astrd.partial import COMPLETIONS, TRUSTED_EXTRAPOLATION
from astrd.spectra import channels_outside
from astrd.spectrum import Spectrum, SpectrumError
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF, MAIN_GROUPS

Parts = tuple[LabelledSpectra, LabelledSpectra]
BUS_COLUMNS = [f"probability_{name}" for name in BUS_CLASSES]
GROUP_COLUMNS = [f"probability_group_{name}" for name in MAIN_GROUPS]


@pytest.fixture(scope="module")
def trained(simulated_parts: Parts, simulated_raw: pd.DataFrame) -> tuple[FittedNetwork, Classifier]:
    train, _ = simulated_parts
    model = NetworkModel(
        "small", "bus_class", ConvolutionalNetwork((8, 12), (5, 3), units=16), Recipe(epochs=40, averaging=0.9)
    )
    out_of_fold = cross_validate(model, train).probabilities
    fitted = model.fit(train)
    archive = Archive.of(dataset.features(simulated_raw))
    return fitted, Classifier(OnnxNetwork(to_onnx(fitted.keras_model())), Calibration.fit(train, out_of_fold), archive)


@pytest.fixture(scope="module")
def classifier(trained: tuple[FittedNetwork, Classifier]) -> Classifier:
    return trained[1]


def spectra_of(raw: pd.DataFrame) -> list[Spectrum]:
    return [Spectrum.of(row.wavelength, row.reflectance, row.uncertainty, row.designation) for row in raw.itertuples()]


@pytest.fixture(scope="module")
def unseen() -> pd.DataFrame:
    """Raw spectra that are exactly 1 at 0.55 µm and reach nearly to the ends of the channels."""
    raw = simulate.survey(60, seed=77)
    level = [np.interp(0.55, row.wavelength, row.reflectance) for row in raw.itertuples()]
    for column in ("reflectance", "uncertainty"):
        raw[column] = [values / own for values, own in zip(raw[column], level, strict=True)]
    whole = [not channels_outside([spectrum], TRUSTED_EXTRAPOLATION).any() for spectrum in spectra_of(raw)]
    return raw[whole].reset_index(drop=True)


@pytest.fixture(scope="module")
def answers(classifier: Classifier, unseen: pd.DataFrame) -> pd.DataFrame:
    return classifier.classify(spectra_of(unseen))


def test_a_raw_spectrum_gets_what_the_network_says_of_its_features(
    trained: tuple[FittedNetwork, Classifier], unseen: pd.DataFrame, answers: pd.DataFrame
) -> None:
    fitted, classifier = trained
    features = np.array(dataset.features(unseen)["reflectance"].tolist())
    of_features = classifier.bus_probabilities(features)
    np.testing.assert_allclose(answers[BUS_COLUMNS], of_features, atol=1e-6)
    of_network = at_temperature(fitted.probabilities(features), classifier.calibration.temperature)
    np.testing.assert_allclose(answers[BUS_COLUMNS], of_network, atol=1e-5)
    assert np.abs(of_features - classifier.bus_probabilities(features * [1.05] * 49)).max() > 1e-3


@pytest.mark.archive
def test_raw_spectra_of_the_archive_get_what_training_saw_of_them(
    classifier: Classifier, raw_table: pd.DataFrame
) -> None:
    features = np.array(dataset.features(raw_table)["reflectance"].tolist())
    served = classifier.classify(spectra_of(raw_table))
    whole = ~served["note"].str.contains("filled").to_numpy(dtype=bool)
    assert (~whole).sum() <= 5
    np.testing.assert_allclose(served[BUS_COLUMNS][whole], classifier.bus_probabilities(features)[whole], atol=1e-6)


def test_a_raw_spectrum_may_be_at_any_level(classifier: Classifier, unseen: pd.DataFrame, answers) -> None:
    scaled = [Spectrum.of(row.wavelength, 37 * row.reflectance, 37 * row.uncertainty) for row in unseen.itertuples()]
    again = classifier.classify(scaled)
    np.testing.assert_allclose(again[BUS_COLUMNS], answers[BUS_COLUMNS], atol=0.02)
    assert (again["bus_class"] == answers["bus_class"]).all()


def test_answers_do_not_contradict_each_other(answers: pd.DataFrame) -> None:
    np.testing.assert_allclose(answers[BUS_COLUMNS].sum(axis=1), 1)
    np.testing.assert_allclose(answers[GROUP_COLUMNS].sum(axis=1), 1)
    for row in answers.to_dict("records"):
        assert row["bus_class_probability"] == max(row[name] for name in BUS_COLUMNS)
        assert row["bus_class_probability"] == row[f"probability_{row['bus_class']}"]
        assert row["main_group_probability"] == row[f"probability_group_{row['main_group']}"]
        of_group = sum(row[f"probability_{name}"] for name in BUS_CLASSES if MAIN_GROUP_OF[name] == row["main_group"])
        assert row["main_group_probability"] == pytest.approx(of_group)
        assert row["bus_prediction_set"]
        likelihoods = [row[f"probability_{name}"] for name in row["bus_prediction_set"]]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert row["is_outlier"] == (row["outlier_score"] > 1 or "class Q" in row["note"])


def test_most_answers_are_right(unseen: pd.DataFrame, answers: pd.DataFrame) -> None:
    right = (answers["main_group"].to_numpy(dtype=object) == unseen["main_group"].to_numpy(dtype=object)).mean()
    most_common = unseen["main_group"].value_counts(normalize=True).max()
    assert right > 0.8 > 0.6 > most_common


def test_a_classifier_that_was_saved_answers_the_same(
    classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "deep" / "folder")
    loaded = Classifier.load(tmp_path / "deep" / "folder")
    pd.testing.assert_frame_equal(loaded.classify(spectra_of(unseen)), answers, check_exact=True)
    other = replace(loaded, calibration=replace(loaded.calibration, temperature=5.0))
    assert not np.allclose(other.classify(spectra_of(unseen))[BUS_COLUMNS], answers[BUS_COLUMNS])


@pytest.mark.parametrize("coverage", [0.9, 0.95, 0.99])
def test_the_sets_of_a_very_sure_network_survive_saving(classifier: Classifier, coverage: float) -> None:
    random = np.random.default_rng(0)
    sure = at_temperature(random.dirichlet(np.full(26, 0.1), 400), 0.1)
    usual = np.ones(400)
    sets = GradedSets.fit([(sure, usual)], sure.argmax(axis=1))
    loaded = Calibration.from_json(replace(classifier.calibration, sets=sets).to_json())
    np.testing.assert_array_equal(loaded.sets.of(sure, coverage, usual), sets.of(sure, coverage, usual))


def test_files_of_another_version_are_refused(classifier: Classifier) -> None:
    text = classifier.calibration.to_json().replace(f'"format": {FORMAT}', '"format": 0')
    with pytest.raises(OtherVersionError, match=f"expected a classifier in format {FORMAT}, got 0"):
        Calibration.from_json(text)


def test_a_large_batch_is_its_rows(classifier: Classifier, simulated_parts: Parts, unseen: pd.DataFrame) -> None:
    rows = np.tile(simulated_parts[0].reflectance, (8, 1))[:2300]
    together = classifier.bus_probabilities(rows)
    assert together.shape == (2300, 26)
    for row in (0, 999, 1000, 1999, 2000, 2299):
        np.testing.assert_allclose(together[[row]], classifier.bus_probabilities(rows[[row]]), atol=1e-6)
    spectra = (spectra_of(unseen) * 40)[:1100]
    many = classifier.classify(spectra)
    for row in (0, 555, 1000, 1099):
        alone = classifier.classify([spectra[row]])
        np.testing.assert_allclose(many.loc[[row], BUS_COLUMNS], alone[BUS_COLUMNS], atol=1e-6)
        assert many.loc[row, "bus_prediction_set"] == alone.loc[0, "bus_prediction_set"]


def test_no_spectra_get_no_answers(classifier: Classifier) -> None:
    answers = classifier.classify([])
    assert len(answers) == 0
    assert "bus_class" in answers.columns


def test_without_draws_nothing_is_said_of_them(answers: pd.DataFrame) -> None:
    assert answers[["main_group_draw_share", "bus_class_draw_share"]].isna().all(axis=None)


def test_draws_tell_how_often_the_noise_leaves_the_class(classifier: Classifier, unseen: pd.DataFrame) -> None:
    spectra = spectra_of(unseen)
    first, again = (classifier.classify(spectra, draws=4) for _ in range(2))
    shares = first[["main_group_draw_share", "bus_class_draw_share"]].astype(float)
    assert shares.isin([0, 0.25, 0.5, 0.75, 1]).all(axis=None)
    pd.testing.assert_frame_equal(first, again)
    quiet = [replace(spectrum, uncertainty=spectrum.uncertainty * 1e-6) for spectrum in spectra]
    noisy = [replace(spectrum, uncertainty=spectrum.uncertainty * 5) for spectrum in spectra]
    share = [classifier.classify(some, draws=4)["bus_class_draw_share"].astype(float).mean() for some in (quiet, noisy)]
    assert share[0] == 1 > shares["bus_class_draw_share"].mean() > share[1]


def test_draws_do_not_change_the_answer_itself(
    classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame
) -> None:
    drawn = classifier.classify(spectra_of(unseen), draws=2)
    pd.testing.assert_frame_equal(drawn[BUS_COLUMNS], answers[BUS_COLUMNS])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coverage": 0.0}, "coverage between 0 and 1"),
        ({"coverage": 1.0}, "coverage between 0 and 1"),
        ({"coverage": -2.0}, "coverage between 0 and 1"),
        ({"coverage": float("nan")}, "coverage between 0 and 1"),
        ({"draws": -1}, "expected draws of 0 or more, got -1"),
    ],
)
def test_a_param_out_of_range_is_named(classifier: Classifier, unseen: pd.DataFrame, changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier.classify(spectra_of(unseen)[:1], **changes)


def test_more_coverage_means_larger_sets(classifier: Classifier, unseen: pd.DataFrame) -> None:
    spectra = spectra_of(unseen)
    sizes = [
        classifier.classify(spectra, coverage)["bus_prediction_set"].map(len).mean() for coverage in (0.5, 0.9, 0.99)
    ]
    assert 1 <= sizes[0] < sizes[1] < sizes[2]


def cut(spectrum: Spectrum, first: float, last: float) -> Spectrum:
    kept = (spectrum.wavelength >= first) & (spectrum.wavelength <= last)
    return Spectrum.of(spectrum.wavelength[kept], spectrum.reflectance[kept], spectrum.uncertainty[kept])


def test_the_note_tells_what_was_extrapolated(classifier: Classifier, unseen: pd.DataFrame) -> None:
    spectrum = spectra_of(unseen)[0]
    short = cut(spectrum, 0.4605, 0.876)
    note = classifier.classify([short])["note"][0]
    assert "extrapolated: 0.46 and 0.88 µm (2 of 49 channels)" in note
    assert "filled with what the archive's spectra have there: 0.44-0.45 and 0.89-0.92 µm (6 of 49 channels)" in note
    within = Spectrum.of(np.linspace(0.43, 0.93, 60), np.linspace(0.9, 1.1, 60), np.full(60, 0.01))
    assert classifier.classify([within])["note"][0] == ""


def test_what_was_not_seen_makes_the_answer_less_sure(classifier: Classifier, unseen: pd.DataFrame) -> None:
    """Less than if one knew which of the ends that it may have is the spectrum's own."""
    short = [cut(spectrum, 0.4995, 0.852) for spectrum in spectra_of(unseen)]
    seen = classifier._seen(short)
    assert seen.missing.any(axis=1).all()
    space = classifier.calibration.space
    known = [
        classifier.bus_probabilities(space.completions(row[None], missing, COMPLETIONS)[0]).max(axis=1).mean()
        for row, missing in zip(seen.reflectance, seen.missing, strict=True)
    ]
    less = known - classifier.classify(short)["bus_class_probability"]
    assert less.min() > -1e-6  # up to single precision
    assert less.max() > 1e-3


def test_what_was_missing_at_the_ends_hardly_changes_the_answer(
    classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame
) -> None:
    short = classifier.classify([cut(spectrum, 0.50, 0.85) for spectrum in spectra_of(unseen)])
    assert (short["main_group"] == answers["main_group"]).mean() > 0.85
    assert short["is_outlier"].mean() < 0.2  # a straight line at the ends would be one


def test_notes_of_the_spectrum_itself_are_passed_on(classifier: Classifier, unseen: pd.DataFrame) -> None:
    row = unseen.iloc[0]
    note = classifier.classify([Spectrum.of(row["wavelength"][::-1], row["reflectance"][::-1])])["note"][0]
    assert "points put in order of wavelength" in note
    assert "no uncertainty given" in note


def test_a_deep_band_is_an_outlier(classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame) -> None:
    banded = []
    for spectrum in spectra_of(unseen):
        band = 1 - 0.5 * np.exp(-(((spectrum.wavelength - 0.70) / 0.03) ** 2))
        banded.append(replace(spectrum, reflectance=spectrum.reflectance * band))
    assert classifier.classify(banded)["is_outlier"].all()
    assert answers["is_outlier"].mean() < 0.2


def test_classes_that_were_not_learned_are_never_answered(
    classifier: Classifier, simulated_parts: Parts, answers: pd.DataFrame
) -> None:
    absent = [name for code, name in enumerate(BUS_CLASSES) if code not in simulated_parts[0].bus]
    assert absent
    assert (answers[[f"probability_{name}" for name in absent]] == 0).all(axis=None)
    assert not any(set(absent) & set(names) for names in answers["bus_prediction_set"])
    assert (classifier.calibration.present == [name not in absent for name in BUS_CLASSES]).all()


def test_the_explanation_comes_when_asked_for_and_changes_no_answer(
    classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame
) -> None:
    explained = classifier.classify(spectra_of(unseen), explain=True)
    pd.testing.assert_frame_equal(explained[answers.columns], answers)
    assert set(explained.columns) - set(answers.columns) == {
        *NAME_LISTS, *NUMBER_LISTS, *MEASURES, *(f"{name}_uncertainty" for name in MEASURES),
    }  # fmt: skip
    for row in explained.to_dict("records"):
        assert [len(row[name]) for name in (*NAME_LISTS, "analogue_distance")] == [ANALOGUES] * 4
        assert row["analogue_distance"] == sorted(row["analogue_distance"])
        assert set(row["analogue_designation"]) <= set(classifier.archive.designation)
        np.testing.assert_array_equal(row["class_mean"], classifier.archive.class_mean(row["bus_class"]))
        assert all(row[f"{name}_uncertainty"] > 0 for name in MEASURES)


def test_most_analogues_are_of_the_group_that_was_answered(classifier: Classifier, unseen: pd.DataFrame) -> None:
    explained = classifier.classify(spectra_of(unseen), explain=True)
    agree = [
        np.mean([MAIN_GROUP_OF[name] == row.main_group for name in row.analogue_bus_class])
        for row in explained.itertuples()
    ]
    assert np.mean(agree) > 0.7


def test_a_band_beyond_the_data_has_no_depth(classifier: Classifier, unseen: pd.DataFrame) -> None:
    short = [cut(spectrum, 0.44, 0.86) for spectrum in spectra_of(unseen)[:3]]
    explained = classifier.classify(short, explain=True)
    assert explained[["band_09_depth", "band_09_depth_uncertainty"]].isna().all(axis=None)
    assert explained[["band_07_depth", "slope"]].notna().all(axis=None)


def test_no_spectra_get_no_explanation(classifier: Classifier) -> None:
    explained = classifier.classify([], draws=2, explain=True)
    assert len(explained) == 0
    assert {"slope", "analogue_name", "draw_share_S"} <= set(explained.columns)


def test_each_class_has_its_share_of_the_draws(
    classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame
) -> None:
    noisy = [replace(spectrum, uncertainty=spectrum.uncertainty * 5) for spectrum in spectra_of(unseen)]
    drawn = classifier.classify(noisy, draws=4)
    of_bus = drawn[[f"draw_share_{name}" for name in BUS_CLASSES]]
    of_main = drawn[[f"draw_share_group_{name}" for name in MAIN_GROUPS]]
    np.testing.assert_allclose(of_bus.sum(axis=1), 1)
    np.testing.assert_allclose(of_main.sum(axis=1), 1)
    assert ((of_bus > 0).sum(axis=1) > 1).any()
    for row in drawn.to_dict("records"):
        assert row["bus_class_draw_share"] == row[f"draw_share_{row['bus_class']}"]
        assert row["main_group_draw_share"] == row[f"draw_share_group_{row['main_group']}"]
    assert not [name for name in answers.columns if name.startswith("draw_share")]


def test_spectra_on_the_channels_get_what_their_raw_spectra_get(
    classifier: Classifier, unseen: pd.DataFrame, answers: pd.DataFrame
) -> None:
    features = np.array(dataset.features(unseen)["reflectance"].tolist())
    found = classifier.classify_channels(37 * features, unseen["designation"].tolist()).to_pandas()
    assert list(found.columns) == list(answers.columns)
    for name in ("designation", "main_group", "bus_class", "is_outlier"):
        assert found[name].tolist() == answers[name].tolist()
    np.testing.assert_allclose(found[BUS_COLUMNS], answers[BUS_COLUMNS], atol=1e-5)
    np.testing.assert_allclose(found["outlier_score"], answers["outlier_score"], rtol=1e-6)
    assert [list(names) for names in found["bus_prediction_set"]] == answers["bus_prediction_set"].tolist()


def test_spectra_on_the_channels_get_the_same_however_many_there_are(
    classifier: Classifier, simulated_parts: Parts
) -> None:
    one = simulated_parts[0].reflectance[:40].copy()
    one[::3, 44:] = np.nan
    many = np.tile(one, (110, 1))
    found = classifier.classify_channels(many, [""] * len(many))
    assert len(found) == len(many)
    assert found.schema == classifier.classify_channels(one[:0], []).schema
    alone = classifier.classify_channels(one, [""] * len(one)).to_pandas()
    assert_same_answers(found.to_pandas(), pd.concat([alone] * 110, ignore_index=True))
    for threads in (1, 3):
        assert found.equals(classifier.classify_channels(many, [""] * len(many), threads=threads))


def test_channels_that_were_not_seen_are_filled_as_those_of_raw_spectra(
    classifier: Classifier, unseen: pd.DataFrame
) -> None:
    features = np.array(dataset.features(unseen)["reflectance"].tolist())
    partial = features.copy()
    partial[::2, 41:] = np.nan
    whole, found = (classifier.classify_channels(some, [""] * len(some)).to_pandas() for some in (features, partial))
    assert found["note"][0] == (
        "outside the data, filled with what the archive's spectra have there: 0.85-0.92 µm (8 of 49 channels)"
    )
    np.testing.assert_allclose(found[BUS_COLUMNS][1::2], whole[BUS_COLUMNS][1::2], atol=1e-6)
    assert np.isfinite(found[BUS_COLUMNS]).all(axis=None)
    assert (found["main_group"] == whole["main_group"])[::2].mean() > 0.8
    assert np.abs(found[BUS_COLUMNS][::2] - whole[BUS_COLUMNS][::2]).max(axis=None) > 0.05


def test_a_bad_row_of_channels_is_named(classifier: Classifier, simulated_parts: Parts) -> None:
    rows = np.tile(simulated_parts[0].reflectance[:3], (1000, 1))
    for row in (1, 2500):
        broken = rows.copy()
        broken[row, 20] = np.nan
        with pytest.raises(SpectrumError, match=rf"row {row}: expected every channel .* got none at 0.64 µm"):
            classifier.classify_channels(broken, [""] * len(rows))

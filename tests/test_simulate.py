"""The simulated survey: reproducible, in the archive's proportions, and as hard to classify."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from astrd import dataset, simulate
from astrd.smoothing import NORMALISATION_CHANNEL
from astrd.survey import Survey
from astrd.taxonomy import MAIN_GROUP_OF


@pytest.fixture(scope="module")
def survey() -> pd.DataFrame:
    return simulate.survey(1341)


def flat(table: pd.DataFrame, column: str) -> np.ndarray:
    return np.concatenate(table[column].tolist())


def test_the_archives_own_size_has_the_archives_own_classes(survey: pd.DataFrame) -> None:
    known = simulate.SurveyStatistics.from_file()
    expected = dict(zip(known.bus_class, known.count.tolist(), strict=True))
    assert survey["bus_class"].value_counts().to_dict() == expected
    assert survey["main_group"].value_counts().to_dict() == {"S": 549, "C": 397, "X": 238, "Other": 157}


@pytest.mark.parametrize("size", [1, 2, 30, 999, 4000])
def test_classes_are_proportional_within_one_in_any_size(size: int) -> None:
    known = simulate.SurveyStatistics.from_file()
    _, labels = simulate.channels(size)
    found = np.array([(labels == bus_class).sum() for bus_class in known.bus_class])
    assert found.sum() == size
    assert (np.abs(found - size * known.count / known.count.sum()) < 1).all()
    assert len(simulate.survey(size)) == size


@pytest.mark.parametrize("size", [0, -5])
def test_an_empty_survey_is_refused(size: int) -> None:
    for make in (simulate.survey, simulate.channels):
        with pytest.raises(ValueError, match="at least 1 spectrum"):
            make(size)


def test_equal_seeds_give_equal_surveys_and_others_do_not() -> None:
    first, again, other = simulate.survey(50, 7), simulate.survey(50, 7), simulate.survey(50, 8)
    pd.testing.assert_frame_equal(first, again)
    assert first["bus_class"].tolist() != other["bus_class"].tolist()
    assert not np.array_equal(first["reflectance"][0], other["reflectance"][0])


def test_channels_are_the_truth_of_the_survey(survey: pd.DataFrame) -> None:
    truth, labels = simulate.channels(1341)
    np.testing.assert_array_equal(truth, np.array(survey["reference_reflectance"].tolist()))
    assert labels.tolist() == survey["bus_class"].tolist()
    np.testing.assert_allclose(truth[:, NORMALISATION_CHANNEL], 1.0, atol=1e-12)


def test_a_survey_can_be_written_and_made_into_features(survey: pd.DataFrame, tmp_path: Path) -> None:
    raw = dataset.write(survey, tmp_path / "raw.parquet", dataset.RAW_SCHEMA, "simulated").read()
    table = dataset.features(raw)
    reflectance = np.array(table["reflectance"].tolist())
    assert reflectance.shape == (1341, 49)
    assert np.isfinite(reflectance).all()
    assert raw["designation"].is_unique
    assert raw["designation"][0] == "SIM 000001"
    assert raw["name"].isna().all()
    # Smoothing takes most of the noise away: the truth is near, but not reached.
    rms = np.sqrt(((reflectance - np.array(raw["reference_reflectance"].tolist())) ** 2).mean())
    assert 0.001 < rms < 0.01


def test_raw_spectra_are_valid_and_sampled_like_the_archive(survey: pd.DataFrame) -> None:
    assert all((np.diff(wavelength) > 0).all() for wavelength in survey["wavelength"])
    points = survey["wavelength"].map(len)
    assert 180 < points.median() < 197
    assert points.nunique() > 10
    for column in ("wavelength", "reflectance", "uncertainty"):
        values = flat(survey, column)
        assert np.isfinite(values).all()
        assert (values > 0).all()
    near = np.abs(flat(survey, "wavelength") - 0.55) < 0.02
    assert flat(survey, "reflectance")[near].min() > 0.5


def test_the_survey_is_as_hard_to_classify_as_the_archive(survey: pd.DataFrame) -> None:
    table = dataset.features(survey)
    spectra = np.array(table["reflectance"].tolist())
    group = np.array([MAIN_GROUP_OF[bus_class] for bus_class in table["bus_class"]])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(KNeighborsClassifier(3), spectra, group, cv=folds)
    assert 0.93 < f1_score(group, predicted, average="weighted") < 0.975  # the archive: 0.957


def test_statistics_survive_their_file(tmp_path: Path) -> None:
    known = simulate.SurveyStatistics.from_file()
    known.write(tmp_path / "statistics.json")
    assert (tmp_path / "statistics.json").read_bytes() == simulate.STATISTICS_PATH.read_bytes()
    assert simulate.STATISTICS_PATH.stat().st_size < 100_000


def test_missing_statistics_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m astrd\.simulate derive"):
        simulate.SurveyStatistics.from_file(tmp_path / "statistics.json")


@pytest.mark.archive
def test_the_archive_gives_the_statistics_that_are_kept(archive_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "statistics.json"
    simulate.main(["derive", "--folder", str(archive_folder), "--output", str(output)])
    derived, kept = (simulate.SurveyStatistics.from_file(path) for path in (output, simulate.STATISTICS_PATH))
    assert derived.bus_class == kept.bus_class
    assert derived.count.tolist() == kept.count.tolist()
    for name in ("mean", "component", "scatter", "uncertainty", "lost_after_kept", "lost_after_lost"):
        np.testing.assert_allclose(getattr(derived, name), getattr(kept, name), atol=2e-5, err_msg=name)
    assert derived.noise_ratio == pytest.approx(kept.noise_ratio, abs=2e-5)
    assert derived.uncertainty_spread == pytest.approx(kept.uncertainty_spread, abs=2e-5)


@pytest.mark.archive
def test_simulated_noise_and_sampling_resemble_the_archives(raw_table: pd.DataFrame, survey: pd.DataFrame) -> None:
    for column in ("wavelength", "uncertainty"):
        real, simulated = raw_table[column], survey[column]
        assert simulated.map(len).mean() == pytest.approx(real.map(len).mean(), abs=2)
        assert simulated.map(np.median).median() == pytest.approx(real.map(np.median).median(), rel=0.1)
    again = simulate.reference_statistics(survey)
    assert again.noise_ratio == pytest.approx(simulate.SurveyStatistics.from_file().noise_ratio, rel=0.1)


@pytest.mark.parametrize("layout", ["channels", "raw"])
def test_a_written_survey_is_as_large_as_asked_and_can_be_scored(
    layout: Literal["channels", "raw"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "_FILE", 40)
    assert list(simulate.write(tmp_path / "survey", 90, layout, seed=3)) == [40, 80, 90]
    found = Survey.find(str(tmp_path / "survey"))
    assert (found.rows, found.layout, len(found.files)) == (90, layout, 3)
    table = pd.read_parquet(tmp_path / "survey")
    assert table["designation"].nunique() == 90
    first = np.concatenate(table["reflectance"][:40].tolist())
    again = list(simulate.write(tmp_path / "again", 40, layout, seed=3))
    assert again == [40]
    np.testing.assert_array_equal(first, np.concatenate(pd.read_parquet(tmp_path / "again")["reflectance"].tolist()))
    assert len({tuple(values) for values in table["reflectance"]}) == 90


def test_a_survey_is_written_into_no_folder_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.parquet").write_text("an older survey")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        list(simulate.write(tmp_path, 10))
    with pytest.raises(SystemExit, match="1"):
        simulate.main(["survey", str(tmp_path), "--size", "10"])
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old.parquet"]

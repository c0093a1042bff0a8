"""What is read back of a run's findings, and which run it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from astrd import dataset, findings, tracking
from astrd.audit import LABEL_AUDIT_TABLE
from astrd.clusters import LATENT_SPACE_TABLE, STABILITY_TABLE
from astrd.dataset import FEATURES_PATH, FEATURES_SCHEMA, RAW_SCHEMA, DatasetRef
from astrd.evaluation import OUT_OF_FOLD_TABLE
from astrd.promotion import SELECTION_SCORE
from astrd.taxonomy import BUS_CLASSES, LABELS, MAIN_GROUP_OF
from astrd.tracking import StepRun, Tag
from exploration import audit, judged, latent, stability

RAW_PATH = "data/interim/simulated.parquet"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, simulated_raw: pd.DataFrame) -> Path:
    """A folder in which a small survey was ingested; its tracking store is made when it is first asked for."""
    folder = tmp_path_factory.mktemp("findings")
    raw = dataset.write(simulated_raw[:90], folder / RAW_PATH, RAW_SCHEMA, "simulated")
    dataset.write(dataset.features(raw.read()), folder / FEATURES_PATH, FEATURES_SCHEMA, "simulated")
    return folder


@pytest.fixture
def features(place: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetRef:
    """The features of that folder, in which this process works."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / tracking.DEFAULT_STORE}")
    tracking.connect()
    return DatasetRef.of(FEATURES_PATH)


@pytest.fixture
def elsewhere(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetRef:
    """The raw spectra in another folder, in which this process works: no features, no tracking store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return dataset.write(pd.read_parquet(place / RAW_PATH), RAW_PATH, RAW_SCHEMA, "simulated")


@contextmanager
def step(flow: str, name: str, features: DatasetRef, **tags: str) -> Iterator[StepRun]:
    with tracking.step_run(flow, name, name, {Tag.DATA_SHA256: features.sha256, **tags}) as run:
        yield run


def log_candidate(flow: str, features: DatasetRef, name: str, score: float) -> str:
    judgement = judged(features.read())
    table = pd.DataFrame(judgement.probabilities, columns=[f"probability_{label}" for label in BUS_CLASSES])
    table.insert(0, "designation", list(judgement.designation))
    table.insert(1, "catalogued", list(judgement.catalogued))
    with step(flow, "train", features, **{Tag.CANDIDATE: "true", Tag.MODEL: name}) as run:
        run.log_metrics({SELECTION_SCORE: score, "temperature": 0.7})
        run.log_table(table, OUT_OF_FOLD_TABLE)
    return run.run_id


def test_all_that_the_steps_logged_comes_back(features: DatasetRef) -> None:
    table = features.read()
    judgement = judged(table)
    with tracking.flow_run("pipeline") as flow:
        log_candidate(flow, features, "bus-cnn", 0.9)
        with step(flow, "cluster", features) as run:
            run.log_table(latent(table), LATENT_SPACE_TABLE)
            run.log_table(stability(), STABILITY_TABLE)
        with step(flow, "audit", features) as run:
            run.log_table(audit(table, judgement), LABEL_AUDIT_TABLE)
        found = findings.of_run(flow, features)  # while the flow still runs, as its own last step does
    assert found.run_name.startswith("pipeline ")
    assert found.judgement is not None and found.latent_space is not None
    np.testing.assert_allclose(found.judgement.probabilities, judgement.probabilities)
    assert found.judgement.designation == judgement.designation
    assert found.judgement.temperature == 0.7
    assert found.latent_space["designation"].tolist() == table["designation"].tolist()
    pd.testing.assert_frame_equal(found.stability, stability())
    assert found.label_audit is not None
    assert len(found.label_audit) == len(audit(table, judgement))


def test_steps_that_are_not_there_or_failed_are_none(features: DatasetRef) -> None:
    with tracking.flow_run("pipeline") as flow:
        with pytest.raises(RuntimeError), step(flow, "audit", features) as run:
            run.log_table(pd.DataFrame({"designation": ["1"]}), LABEL_AUDIT_TABLE)
            raise RuntimeError("cut short")
        with step(flow, "cluster", features):
            pass
        found = findings.of_run(flow, features)
    assert (found.judgement, found.latent_space, found.stability, found.label_audit) == (None, None, None, None)


@pytest.mark.parametrize(("registered", "expected"), [(0, "bus-cnn"), (None, "bus-cnn-tuned")])
def test_the_candidate_that_was_registered_speaks_else_the_best(
    features: DatasetRef, registered: int | None, expected: str
) -> None:
    with tracking.flow_run("pipeline") as flow:
        runs = [log_candidate(flow, features, *each) for each in (("bus-cnn", 0.90), ("bus-cnn-tuned", 0.95))]
        if registered is not None:
            with step(flow, "promote", features) as run:
                run.log_params({"candidate_run_id": runs[registered]})
        found = findings.of_run(flow, features)
    assert found.judgement is not None
    assert found.judgement.model == expected


def test_a_judgement_answers_at_both_levels(features: DatasetRef) -> None:
    judgement = judged(features.read())
    assert judgement.truth("bus_class") == list(judgement.catalogued)
    assert judgement.truth("main_group") == [MAIN_GROUP_OF[name] for name in judgement.catalogued]
    assert set(judgement.predicted("main_group")) <= set(LABELS["main_group"])
    summed = {
        group: judgement.probabilities[0][[MAIN_GROUP_OF[name] == group for name in BUS_CLASSES]].sum()
        for group in LABELS["main_group"]
    }
    assert judgement.predicted("main_group")[0] == max(summed, key=lambda group: summed[group])


def test_the_newest_finished_main_job_is_taken(features: DatasetRef) -> None:
    with tracking.flow_run("pipeline") as old:
        log_candidate(old, features, "bus-cnn", 0.9)
    with tracking.flow_run("pipeline") as new:
        log_candidate(new, features, "bus-cnn-tuned", 0.8)
    with pytest.raises(RuntimeError), tracking.flow_run("pipeline"):
        raise RuntimeError("cut short")
    with tracking.flow_run("train"):
        pass
    material = findings.material()
    assert material.findings is not None
    assert material.findings.run_id == new
    assert material.note == ""
    named = findings.material(old).findings
    assert named is not None and named.judgement is not None
    assert named.judgement.model == "bus-cnn"


def test_a_run_of_other_data_is_refused_if_named_and_left_out_if_not(
    features: DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking.flow_run("pipeline") as flow:
        log_candidate(flow, features, "bus-cnn", 0.9)
    raw = DatasetRef.of(RAW_PATH).read()
    monkeypatch.chdir(tmp_path)
    dataset.write(raw[:50], RAW_PATH, RAW_SCHEMA, "simulated")
    dataset.write(dataset.features(raw[:50]), FEATURES_PATH, FEATURES_SCHEMA, "simulated")
    with pytest.raises(ValueError, match=rf"run {flow} used features with SHA-256 {features.sha256}"):
        findings.material(flow)
    material = findings.material()
    assert material.findings is None
    assert flow in material.note
    assert len(material.features) == 50


def test_spectra_alone_are_enough(elsewhere: DatasetRef) -> None:
    material = findings.material()
    assert material.findings is None
    assert "no features" in material.note
    assert len(material.features) == len(material.raw) == elsewhere.rows
    dataset.write(material.features, FEATURES_PATH, FEATURES_SCHEMA, "simulated")
    assert findings.material().note == "there is no tracking store here"
    assert not Path(tracking.DEFAULT_STORE).exists()


def test_without_spectra_the_error_names_the_step_that_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="python -m flows ingest"):
        findings.material()


@pytest.mark.parametrize("run", ["0" * 32, "nonsense"])
def test_a_run_that_is_not_there_is_named(features: DatasetRef, run: str) -> None:
    with pytest.raises(LookupError, match=re.escape(run)):
        findings.material(run)


def test_a_run_without_features_or_a_store_is_an_error_that_helps(elsewhere: DatasetRef) -> None:
    with pytest.raises(FileNotFoundError, match="python -m flows features"):
        findings.material("0" * 32)
    dataset.write(dataset.features(elsewhere.read()), FEATURES_PATH, FEATURES_SCHEMA, "simulated")
    with pytest.raises(LookupError, match="MLFLOW_TRACKING_URI"):
        findings.material("0" * 32)

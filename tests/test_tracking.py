"""Runs nest under explicit parents, say why they failed, and nothing is written twice."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from astrd import dataset, tracking
from astrd.tracking import Tag
from astrd.tuning import Trial

ROOT = Path(__file__).parents[1]
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tracking database with its tables and nothing in them, which takes seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        tracking.connect()
        mlflow.set_tracking_uri(before)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM experiments WHERE name = ?", (tracking.EXPERIMENT,))
    database.close()
    return path.read_bytes()


@pytest.fixture
def store(empty_store: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tracking database of the test's own, to which `connect` points MLflow."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    before = mlflow.get_tracking_uri()
    yield path
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def run_of(run_id: str) -> mlflow.entities.Run:
    return mlflow.MlflowClient().get_run(run_id)


def all_runs() -> list[mlflow.entities.Run]:
    return list(mlflow.MlflowClient().search_runs([tracking.connect()]))


CONNECTS = "from astrd import tracking; print(tracking.connect())"


def test_processes_that_meet_a_new_database_at_once_make_one_sound_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "new" / "mlflow.db"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{path}"}
    command = [sys.executable, "-c", CONNECTS]
    processes = [
        subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, answers
    assert len({experiment for experiment, _ in answers}) == 1
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    names = [name for (name,) in database.execute("SELECT name FROM experiments")]
    assert names.count(tracking.EXPERIMENT) == 1
    database.close()


def test_the_experiment_is_made_once_and_keeps_its_files_beside_the_database(store: Path) -> None:
    experiment_id = tracking.connect()
    assert tracking.connect() == experiment_id
    experiment = mlflow.MlflowClient().get_experiment(experiment_id)
    assert experiment.name == tracking.EXPERIMENT
    assert experiment.artifact_location == (store.parent / tracking.ARTIFACTS_FOLDER).as_uri()
    assert tracking.store_folder() == store.parent


def test_the_experiment_that_the_environment_names_is_used(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = tracking.connect()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    other = tracking.connect()
    assert other != usual
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", other)
    assert tracking.connect() == other


def test_steps_in_threads_nest_under_the_parent_they_name(store: Path) -> None:
    def step(parent: str, number: int) -> tuple[str, str, bool]:
        with tracking.step_run(parent, "train", f"model {number}", {Tag.MODEL: str(number)}) as run:
            run.log_metrics({"number": number})
        return parent, run.run_id, mlflow.active_run() is None

    with ThreadPoolExecutor(4) as pool, tracking.flow_run("train") as first:
        steps = list(pool.map(lambda number: step(first, number), range(8)))
        assert mlflow.active_run() is not None
        assert mlflow.active_run().info.run_id == first
    assert mlflow.active_run() is None
    assert all(alone for _, _, alone in steps)
    for number, (parent, run_id, _) in enumerate(steps):
        run = run_of(run_id)
        assert run.data.tags[Tag.PARENT] == parent
        assert run.data.tags[Tag.MODEL] == str(number)
        assert run.data.metrics == {"number": number}
    runs = all_runs()
    assert len(runs) == 9
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.run_id for run in tracking.steps_of(first, "train")} == {run_id for _, run_id, _ in steps}


def test_a_step_that_raises_is_failed_with_its_reason(store: Path) -> None:
    with tracking.flow_run("train") as parent:
        with pytest.raises(KeyError), tracking.step_run(parent, "train", "bad") as bad:
            raise KeyError("no such model")
        with tracking.step_run(parent, "train", "good") as good:
            pass
        assert mlflow.active_run().info.run_id == parent
    assert run_of(bad.run_id).info.status == "FAILED"
    assert run_of(bad.run_id).data.tags["mlflow.note.content"] == "Failed: KeyError: 'no such model'"
    assert run_of(good.run_id).info.status == "FINISHED"
    assert "mlflow.note.content" not in run_of(good.run_id).data.tags
    assert [run.info.run_id for run in tracking.steps_of(parent, "train")] == [good.run_id]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_flow_that_raises_leaves_no_run_open(store: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), tracking.flow_run("pipeline") as parent, tracking.step_run(parent, "train", "x") as step:
        raise error("stop")
    assert mlflow.active_run() is None
    assert {run_of(parent).info.status, run_of(step.run_id).info.status} == {"FAILED"}


def test_the_run_that_mlflow_made_for_the_process_is_the_parent(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    experiment_id = client.create_experiment("given")
    given = client.create_run(experiment_id, run_name="project run").info.run_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    tags = {Tag.DATA_SOURCE: "simulated"}
    with tracking.flow_run("pipeline", tags) as parent, tracking.step_run(parent, "train", "first") as step:
        pass
    assert parent == given
    assert run_of(given).info.run_name == "project run"
    assert run_of(given).info.status == "FINISHED"
    assert run_of(given).data.tags[Tag.DATA_SOURCE] == "simulated"
    assert step.run_id != given
    assert run_of(step.run_id).data.tags[Tag.PARENT] == given
    assert len(all_runs()) == 2


def test_without_it_every_flow_has_a_run_of_its_own(store: Path) -> None:
    with tracking.flow_run("train") as first:
        pass
    with tracking.flow_run("train") as second:
        pass
    assert first != second
    assert Tag.PARENT not in run_of(second).data.tags


def test_an_earlier_step_goes_on_under_its_new_parent(store: Path) -> None:
    with tracking.flow_run("tune") as first, pytest.raises(RuntimeError), tracking.step_run(first, "tune", "x") as step:
        raise RuntimeError("stop")
    with tracking.flow_run("tune") as second, tracking.step_run(second, "tune", "x", run_id=step.run_id) as again:
        assert again.run_id == step.run_id
    assert run_of(step.run_id).data.tags[Tag.PARENT] == second
    assert run_of(step.run_id).info.status == "FINISHED"
    assert tracking.steps_of(first, "tune") == []


TRIAL = Trial(3, {"C": 10.0, "kernel": "rbf"}, 0.93, 2.5, curves={"loss": [3.0, 2.0], "validation_loss": [4.0, 3.5]})


def trials_under(parent: str) -> list[mlflow.entities.Run]:
    return [run for run in all_runs() if run.data.tags.get(Tag.PARENT) == parent and Tag.TRIAL in run.data.tags]


@pytest.fixture
def search(store: Path) -> str:
    """The run of a search."""
    with tracking.flow_run("tune") as parent, tracking.step_run(parent, "tune", "tune cnn") as run:
        pass
    return run.run_id


def test_a_trial_is_logged_once_with_all_that_is_known_of_it(search: str) -> None:
    tracking.log_trial(search, TRIAL, "validation_loss_best", {Tag.MODEL: "cnn"})
    tracking.log_trial(search, TRIAL, "validation_loss_best", {Tag.MODEL: "cnn"})
    (run,) = trials_under(search)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"C": "10.0", "kernel": "rbf"}
    assert run.data.metrics == {"duration": 2.5, "validation_loss_best": 0.93, "loss": 2.0, "validation_loss": 3.5}
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]
    assert run.data.tags[Tag.TRIAL_STATE] == "complete"
    assert run.data.tags[Tag.MODEL] == "cnn"
    assert (run.info.end_time - run.info.start_time) == pytest.approx(2500, abs=5)
    assert mlflow.active_run() is None


def test_trials_of_other_numbers_and_other_searches_are_their_own(search: str) -> None:
    tracking.log_trial(search, TRIAL, "score")
    tracking.log_trial(search, Trial(13, {"C": 1.0}, 0.9, 1.0), "score")
    with tracking.flow_run("tune") as other:
        tracking.log_trial(other, TRIAL, "score")
    assert sorted(run.data.tags[Tag.TRIAL] for run in trials_under(search)) == ["13", "3"]
    assert len(trials_under(other)) == 1


def test_a_half_written_trial_is_written_anew(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(mlflow.MlflowClient, "set_terminated", killed)
        tracking.log_trial(search, TRIAL, "score")
    (half,) = trials_under(search)
    assert half.info.status == "RUNNING"
    tracking.log_trial(search, TRIAL, "score")
    (whole,) = trials_under(search)
    assert whole.info.run_id != half.info.run_id
    assert whole.info.status == "FINISHED"
    assert whole.data.metrics["score"] == 0.93


def test_a_failed_trial_is_shown_as_failed_and_stays_so(search: str) -> None:
    failed = Trial(1, {"C": 1.0}, None, 0.5, "Traceback\nFloatingPointError: the loss is nan")
    tracking.log_trial(search, failed, "score")
    tracking.log_trial(search, failed, "score")
    (run,) = trials_under(search)
    assert run.info.status == "FAILED"
    assert "the loss is nan" in run.data.tags["mlflow.note.content"]
    assert run.data.tags[Tag.TRIAL_STATE] == "failed"
    assert "score" not in run.data.metrics


def test_long_courses_are_logged_whole(search: str) -> None:
    curves = pd.DataFrame({"loss": range(1200), "accuracy": range(1200)})
    tracking.StepRun(search).log_curves(curves)
    history = mlflow.MlflowClient().get_metric_history(search, "loss")
    assert [(point.step, point.value) for point in history] == [(epoch + 1, epoch) for epoch in range(1200)]


def test_a_run_tells_which_data_it_used(store: Path, simulated_raw: pd.DataFrame) -> None:
    reference = dataset.write(simulated_raw[:10], store.parent / "raw.parquet", dataset.RAW_SCHEMA, "simulated")
    with tracking.flow_run("train") as parent, tracking.step_run(parent, "train", "x") as step:
        step.log_dataset(reference, "training", "raw")
        step.log_params({"given": 1, "absent": None})
    run = run_of(step.run_id)
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("simulated-raw", reference.sha256[:16])
    assert "raw.parquet" in used.dataset.source
    assert run.data.tags[Tag.DATA_SHA256] == reference.sha256
    assert run.data.tags[Tag.DATA_SOURCE] == "simulated"
    assert run.data.params == {"given": "1"}


def test_the_newest_flow_with_a_finished_step_is_found_by_its_tags(store: Path) -> None:
    found = {}
    for source in ("smass2", "simulated", "smass2"):
        with tracking.flow_run("tune") as parent:
            with tracking.step_run(parent, "tune", "x", {Tag.DATA_SOURCE: source}):
                pass
            if source == "smass2":
                with pytest.raises(RuntimeError), tracking.step_run(parent, "tune", "x", {Tag.DATA_SOURCE: "failed"}):
                    raise RuntimeError
        found[source] = parent
    assert tracking.latest_flow_run_with("tune", {Tag.DATA_SOURCE: "simulated"}) == found["simulated"]
    assert tracking.latest_flow_run_with("tune", {Tag.DATA_SOURCE: "smass2"}) == found["smass2"]
    for source in ("failed", "none"):
        with pytest.raises(LookupError, match="python -m flows tune"):
            tracking.latest_flow_run_with("tune", {Tag.DATA_SOURCE: source})


def test_deleted_and_unknown_runs_do_not_exist(search: str) -> None:
    assert tracking.run_exists(search)
    mlflow.MlflowClient().delete_run(search)
    assert not tracking.run_exists(search)
    assert not tracking.run_exists("0" * 32)


def test_a_logged_table_is_read_as_it_was_and_numbers_of_asteroids_stay_text(store: Path) -> None:
    table = pd.DataFrame({"designation": ["1", "1996 PW"], "score": [0.5, 1.0]})
    with tracking.flow_run("train") as parent, tracking.step_run(parent, "train", "x") as step:
        step.log_table(table, "table.csv")
        step.log_table(table, "deep/table.csv")
    for path in ("table.csv", "deep/table.csv"):
        pd.testing.assert_frame_equal(tracking.logged_table(step.run_id, path), table)
    assert tracking.logged_table(step.run_id, "deep/other.csv") is None
    alone = pd.DataFrame({"designation": ["433"]})
    with tracking.flow_run("train") as parent, tracking.step_run(parent, "train", "x") as step:
        step.log_table(alone, "table.csv")
    read = tracking.logged_table(step.run_id, "table.csv")
    assert read is not None
    assert read["designation"].tolist() == ["433"]

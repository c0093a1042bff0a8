"""`python -m flows`: what it offers, what it refuses, and a search that goes on after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from astrd import dataset, tracking, tuning, workers
from astrd.catalogue import MODELS, TUNED
from astrd.dataset import FEATURES_PATH, FEATURES_SCHEMA, RAW_SCHEMA
from astrd.tracking import Tag
from tasks.tune import TUNING_FOLDER
from workplace import ROOT, Workplace, wait_until

COMMANDS = (
    "pipeline", "ingest", "features", "train", "tune", "cluster", "audit", "promote", "score", "schedule",
)  # fmt: skip

Call = Callable[..., tuple[int, str]]


def words(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else ""


def test_help_lists_every_flow(call: Call) -> None:
    code, said = call("--help")
    assert code == 0
    assert tuple(re.findall(r"^  ([a-z]+)  ", said, flags=re.MULTILINE)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_flow_explains_every_option(call: Call, command: str) -> None:
    code, said = call(command, "--help")
    assert code == 0
    options = re.findall(r"^  --(\S+)(.*(?:\n {8,}.*)*)", said, flags=re.MULTILINE)
    assert (command, len(options)) == ("features", 1) or len(options) > 1
    for option, meaning in options:
        assert re.search(r"[A-Za-z]{2,}.*[.]", meaning), option


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("ingest", "--source", "sdss"), "smass2"),
        (("ingest", "--size", "0"), "size"),
        (("ingest", "--seed", "one"), "seed"),
        (("pipeline", "--epochs", "0"), "epochs"),
        (("pipeline", "--trials", "-1"), "trials"),
        (("tune", "--model", "forest"), "cnn"),
        (("schedule", "--source", "sdss"), "smass2"),
        (("schedule", "--every", "-1"), "every"),
        (("fly",), "fly"),
        (("train", "--depth", "3"), "depth"),
    ],
    ids=words,
)
def test_a_bad_value_is_named_and_nothing_is_begun(
    call: Call, empty_place: Workplace, arguments: tuple[str, ...], reason: str
) -> None:
    code, said = call(*arguments)
    assert code == 2
    assert reason in said.splitlines()[-1]
    assert list(empty_place.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "step"),
    [(("train",), "features"), (("tune",), "features"), (("features",), "ingest"), (("promote",), "train")],
    ids=words,
)
def test_a_flow_that_comes_too_early_names_the_one_before_it(
    call: Call, empty_place: Workplace, arguments: tuple[str, ...], step: str
) -> None:
    code, said = call(*arguments)
    assert code == 1
    assert f"python -m flows {step}" in said


@pytest.mark.parametrize("names", ["nonsense", "x-svm,nonsense", *TUNED])
def test_train_names_the_models_that_it_knows(call: Call, empty_place: Workplace, names: str) -> None:
    code, said = call("train", "--models", names)
    assert code == 1
    assert names.split(",")[-1] in said
    for name in set(MODELS) - set(TUNED):
        assert name in said


@pytest.fixture
def prepared(empty_place: Workplace, simulated_raw, prefect_api: str) -> Workplace:
    """A folder that holds the features of a small simulated survey, and the settings of the project."""
    dataset.write(simulated_raw, empty_place.folder / "data/interim/simulated.parquet", RAW_SCHEMA, "simulated")
    features = dataset.features(simulated_raw)
    dataset.write(features, empty_place.folder / FEATURES_PATH, FEATURES_SCHEMA, "simulated")
    shutil.copy(ROOT / "pyproject.toml", empty_place.folder)
    tracking.connect()  # the store is there before two processes look into it
    environment = {**empty_place.environment, "PREFECT_API_URL": prefect_api, "PYTHONPATH": str(ROOT)}
    return Workplace(empty_place.folder, environment)


def test_train_trains_just_the_models_that_were_asked_for(call: Call, prepared: Workplace) -> None:
    code, said = call("train", "--models", "x-svm, nearest-template")
    assert code == 0, said
    trained = prepared.runs(step="train")
    assert [run.data.tags.get(Tag.MODEL) for run in trained] == [None, "x-svm", "nearest-template"]
    assert {run.data.tags[Tag.DATA_SOURCE] for run in trained} == {"simulated"}


@pytest.mark.parametrize(("model", "trials"), [("svm", 6), ("cnn", 4)])
def test_a_search_that_was_killed_goes_on_in_its_run(call: Call, prepared: Workplace, model: str, trials: int) -> None:
    arguments = ("tune", "--model", model, "--trials", str(trials), "--epochs", "2")
    with prepared.started(sys.executable, "-m", "flows", *arguments) as (process, output):

        def some_trials() -> int:
            assert process.poll() is None, output()
            return len(prepared.runs(step="trial")) if (prepared.folder / "mlflow.db").exists() else 0

        done = wait_until(some_trials, 120, output)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert done < trials, "it was killed too late to prove anything"
    (search,) = prepared.runs(step="tune", model=model)
    assert search.info.status == "RUNNING"

    code, said = call(*arguments)
    assert code == 0, said
    (again,) = prepared.runs(step="tune", model=model)
    assert again.info.run_id == search.info.run_id
    assert again.info.status == "FINISHED"
    assert again.data.metrics["trials_done"] == trials
    found = prepared.runs(step="trial")
    assert {run.data.tags[Tag.PARENT] for run in found} == {search.info.run_id}
    assert {run.info.status for run in found} == {"FINISHED"}
    numbers = [int(run.data.tags[Tag.TRIAL]) for run in found]
    assert len(numbers) == len(set(numbers)) == trials
    (parent,) = (run for run in prepared.runs(step="tune") if run.info.run_id == again.data.tags[Tag.PARENT])
    assert parent.info.status == "FINISHED"
    assert list((prepared.folder / "tuning").iterdir()) == []


def test_the_same_search_asked_twice_is_two_searches(call: Call, prepared: Workplace) -> None:
    for _ in range(2):
        code, said = call("tune", "--model", "svm", "--trials", "1")
        assert code == 0, said
    searches = prepared.runs(step="tune", model="svm")
    assert len(searches) == 2
    assert [search.data.metrics["trials_done"] for search in searches] == [1, 1]


def test_two_at_once_do_not_share_a_search(call: Call, prepared: Workplace) -> None:
    sha256 = dataset.DatasetRef.of(Path(FEATURES_PATH)).sha256
    with tuning.one_search_at_a_time(prepared.folder / TUNING_FOLDER / f"svm-{sha256[:12]}-seed0"):
        code, said = call("tune", "--model", "svm", "--trials", "1")
    assert code == 1
    assert "another process is running the search" in said


def test_a_cluster_that_is_there_learns_what_one_worker_of_ours_learns(call: Call, prepared: Workplace) -> None:
    with workers.cluster(workers=2) as address, workers.connected(address) as client:
        for where in (("--scheduler", address), ("--workers", "1")):
            code, said = call("tune", "--model", "svm", "--trials", "5", *where)
            assert code == 0, said
        busy = client.run(lambda: "astrd.classical" in sys.modules)
    assert all(busy.values())
    trained = prepared.runs(step="train", model="main-svm-tuned")
    assert len(trained) == 2
    scores = [{k: v for k, v in run.data.metrics.items() if k.startswith("cv_")} for run in trained]
    assert scores[0] == scores[1] != {}


def test_a_scheduler_that_does_not_answer_is_named(call: Call, prepared: Workplace) -> None:
    code, said = call("train", "--models", "x-svm", "--scheduler", "127.0.0.1:no-port")
    assert code == 1
    assert "no Dask scheduler answers at 127.0.0.1:no-port" in said
    assert "dask scheduler" in said
    assert {run.info.status for run in prepared.runs(step="train")} == {"FAILED"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_flow_that_is_told_to_stop_stops_and_says_so_in_mlflow(prepared: Workplace, number: signal.Signals) -> None:
    """Without it, Prefect waits for the threads that train, and the run may look finished."""
    with prepared.started(sys.executable, "-m", "flows", "train", "--models", "bus-cnn") as (process, output):
        wait_until(lambda: process.poll() is not None or len(prepared.runs(model="bus-cnn")) == 1, 120, output)
        process.send_signal(number)
        assert process.wait(30) == 128 + number, output()
        assert "Stopped." in output()
    statuses = {run.info.run_name.split()[0]: run.info.status for run in prepared.runs()}
    assert statuses == {"train": "KILLED", "bus-cnn": "KILLED"}

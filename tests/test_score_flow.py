"""`python -m flows score` on workers of its own: killed at any place, it loses and doubles nothing."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import dask
import numpy as np
import pandas as pd
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName

from alike import assert_same_answers
from astrd import registry, simulate, tracking, workers
from astrd.classifier import Classifier
from astrd.scoring import Counts, Scoring, Settings
from astrd.spectrum import Spectrum
from astrd.storage import Place
from astrd.survey import Partition, Survey
from astrd.tracking import REGISTERED_CNN, Alias
from tasks.progress import Step
from tasks.score import spread
from workplace import ROOT, Workplace, free_port, wait_until

Call = Callable[..., tuple[int, str]]
SPECTRA, ROWS = 1200, 60
SETTINGS = Settings(coverage=0.9, draws=2, partition_rows=ROWS)

STALLED = """
import threading

from astrd.scoring import Scoring
from astrd.storage import Place
from flows.__main__ import app
from tasks import score


class Stalled(Scoring):
    def score(self, number, partition):
        if number >= 10:
            write = Place.write

            def half(place, content):
                if "rejected" in place.path:
                    threading.Event().wait()
                write(place, content)

            Place.write = half
        return super().score(number, partition)


score.Scoring = Stalled
app(prog_name="python -m flows")
"""
"""The command, whose workers halt in the middle of each partition from the tenth on, between its two files."""


@pytest.fixture
def place(empty_place: Workplace, prefect_api: str, template_classifier: Classifier) -> Workplace:
    """A folder with a registered champion and a survey."""
    make_champion(template_classifier)
    list(simulate.write(empty_place.folder / "survey", SPECTRA, "raw", seed=6))
    environment = {**empty_place.environment, "PREFECT_API_URL": prefect_api, "PYTHONPATH": str(ROOT)}
    return Workplace(empty_place.folder, environment)


def make_champion(classifier: Classifier) -> None:
    example = simulate.survey(2)[["wavelength", "reflectance", "uncertainty", "designation"]]
    with tracking.flow_run("train") as run_id, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow compares the example's columns with a range, which pandas dislikes
        registry.log_classifier(classifier, example)
    registry.name_version(Alias.CHAMPION, registry.register(run_id, {}, "A classifier by the nearest class mean."))


def options(*more: str) -> tuple[str, ...]:
    return (
        "score", "--input", "survey", "--output", "answers", "--workers", "2", "--partition-rows", str(ROWS),
        "--draws", str(SETTINGS.draws), *more,
    )  # fmt: skip


def rows_of(output: Path) -> list[int]:
    return sorted(row for name in ("classified", "rejected") for row in pd.read_parquet(output / name)["row"])


def parts(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (output / "rejected").glob("part-*")}


def test_a_survey_that_was_killed_goes_on_from_its_finished_partitions_with_its_model(
    call: Call, place: Workplace, template_classifier: Classifier
) -> None:
    output = place.folder / "answers"
    with place.started(sys.executable, "-c", STALLED, *options()) as (process, said):

        def some_parts() -> dict[str, int]:
            assert process.poll() is None, said()
            return done if len(done := parts(output)) >= 3 else {}

        wait_until(some_parts, 120, said)
        started = psutil.Process(process.pid).children(recursive=True)
        assert sum(map(is_worker, started)) == 2
        process.send_signal(signal.SIGKILL)  # of the flow alone: its workers have to notice
        process.wait()
        wait_until(lambda: not any(child.is_running() and is_worker(child) for child in started), 30)
    before = parts(output)
    assert 3 <= len(before) <= 10
    other = replace(template_classifier, calibration=replace(template_classifier.calibration, temperature=3.0))
    make_champion(other)

    code, said_again = call(*options())
    assert code == 0, said_again
    assert f"goes on with the model that it was begun with: models:/{REGISTERED_CNN}/1, version 1" in said_again
    assert before.items() <= parts(output).items()
    assert rows_of(output) == list(range(SPECTRA))
    assert "1200 spectra: 1200 classified, 0 rejected" in said_again
    (run,) = (run for run in place.runs(step="score") if "spectra" in run.data.metrics)
    assert run.data.metrics["resumed"] == len(before) * ROWS
    assert run.data.metrics["spectra"] == run.data.metrics["classified"] == SPECTRA
    assert run.data.params["model_version"] == "1"
    assert run.data.params["workers"] == "2"
    done_now = {f"score partition {number}" for number in range(SPECTRA // ROWS) if part_name(number) not in before}
    wait_until(lambda: done_now <= completed_in_prefect(), 60)

    code, said_again = call(*options("--model", f"models:/{REGISTERED_CNN}@champion"))
    assert code == 1
    assert f"was begun with another model (models:/{REGISTERED_CNN}/1, version 1): leave --model out" in said_again
    code, said_again = call(*options("--coverage", "0.5"))
    assert code == 1
    assert "was begun with another coverage" in said_again
    code, said_again = call("score", "--input", "survey", "--output", "mlflow.db/answers")
    assert code == 1
    assert "NotADirectoryError" in said_again and "mlflow.db/answers" in said_again


def part_name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def completed_in_prefect() -> set[str]:
    """Names of the partitions that Prefect's server knows as done; it hears of them a little later."""
    like = TaskRunFilter(name=TaskRunFilterName(like_="score partition"))
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(task_run_filter=like)
    return {run.name for run in runs if run.state is not None and run.state.is_completed()}


def is_worker(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("layout", "spectra", "settings"),
    [("raw", SPECTRA, SETTINGS), ("channels", 12_000, Settings(coverage=0.9, draws=0, partition_rows=1000))],
)
def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    tmp_path: Path,
    template_classifier: Classifier,
    layout: Literal["raw", "channels"],
    spectra: int,
    settings: Settings,
) -> None:
    marker = tmp_path / "killed"

    class KilledOnce(Scoring):  # here, or workers would import the tests with it
        """Kills the worker that has partition 5, the first time, between its two files."""

        def score(self, number: int, partition: Partition) -> Counts:
            if number == 5:
                with suppress(FileExistsError), marker.open("x") as mark:
                    mark.write(str(os.getpid()))
                    kill_before_the_second_file()
            return super().score(number, partition)

    def kill_before_the_second_file() -> None:
        write = Place.write

        def half(place: Place, content: bytes) -> None:
            if place.path.endswith("rejected/part-000005.parquet"):
                os.kill(os.getpid(), signal.SIGKILL)
            write(place, content)

        Place.write = half

    list(simulate.write(tmp_path / "survey", spectra, layout, seed=6))
    found = Survey.find(str(tmp_path / "survey"))
    scoring = KilledOnce.begin(str(tmp_path / "answers"), found, template_classifier, settings)
    partitions = found.partitions(settings.partition_rows)
    with workers.dask_client(workers=2) as client:
        before = set(client.run(os.getpid).values())
        counts = client.gather(client.map(scoring.score, range(len(partitions)), partitions, pure=False))
        wait_until(lambda: len(client.run(os.getpid)) == 2, 30)  # the lost one is replaced
        killed = int(marker.read_text())
        assert before - set(client.run(os.getpid).values()) == {killed}
    assert sum(count.spectra for count in counts) == spectra
    assert scoring.finish(found).spectra == spectra
    answers = pd.read_parquet(tmp_path / "answers" / "classified").sort_values(["file", "row"])
    assert list(zip(answers["file"], answers["row"], strict=True)) == [
        (file.url, row) for file in found.files for row in range(file.rows)
    ]
    assert_same_answers(answers, library_answers(template_classifier, found, settings))


def library_answers(classifier: Classifier, found: Survey, settings: Settings) -> pd.DataFrame:
    asked = pd.concat([pd.read_parquet(file.url) for file in found.files])
    if found.layout == "raw":
        names = ("wavelength", "reflectance", "uncertainty", "designation")
        spectra = [Spectrum.of(*values) for values in zip(*(asked[name] for name in names), strict=True)]
        return classifier.classify(spectra, settings.coverage, settings.draws)
    return classifier.classify_channels(
        np.stack(asked["reflectance"].to_numpy()), asked["designation"].tolist(), settings.coverage
    ).to_pandas()


def test_a_partition_that_kills_its_worker_again_and_again_ends_the_run_with_a_hint() -> None:
    class Deadly:  # here, or workers would import the tests with it
        def score(self, number: int, partition: Partition) -> Counts:
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return Counts(len(partition))

    partitions = {number: Partition("survey", number, number + 1) for number in range(3)}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        workers.dask_client(workers=2) as client,
        pytest.raises(
            RuntimeError,
            match=r"survey, rows (\d) to \d, which is partition \1, was given up: 2 workers died.* of 3 spectra are "
            r"finished and stay so: the same command goes on .*more memory",
        ),
    ):
        spread(client, Deadly(), partitions, 0, 3, Step("score"))


def test_workers_import_no_more_than_they_need() -> None:
    """The program that is run is not imported again by each of them; here that is pytest."""
    main = sys.modules["__main__"]
    before = (main.__spec__, main.__file__)
    with workers.dask_client(workers=1) as client:
        (loaded,) = client.run(lambda: {"prefect", "mlflow", "tensorflow", "pytest"} & set(sys.modules)).values()
    assert loaded == set()
    assert (main.__spec__, main.__file__) == before


def test_another_cluster_can_be_named(tmp_path: Path, template_classifier: Classifier) -> None:
    list(simulate.write(tmp_path / "survey", 100, "channels"))
    found = Survey.find(str(tmp_path / "survey"))
    scoring = Scoring.begin(str(tmp_path / "answers"), found, template_classifier, Settings(0.9, 0))
    with workers.dask_client(workers=1) as there, workers.dask_client(there.scheduler.address) as client:
        assert client.submit(scoring.score, 0, *found.partitions(1000)).result().spectra == 100


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    reason = f"no Dask scheduler answers at {address} .* `dask scheduler`"
    with pytest.raises(workers.NoWorkersError, match=reason), workers.dask_client(address):
        pass


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--output", "answers"), "--input SURVEY.parquet --output FOLDER"),
        (("--input", "nowhere.parquet", "--output", "answers"), "no survey at nowhere.parquet"),
    ],
)
def test_what_cannot_be_scored_is_named(
    call: Call, empty_place: Workplace, arguments: tuple[str, ...], reason: str
) -> None:
    code, said = call("score", *arguments)
    assert code == 1
    assert reason in said
    assert not (empty_place.folder / "answers").exists()


def test_without_a_champion_the_way_to_one_is_told(call: Call, empty_place: Workplace) -> None:
    list(simulate.write(empty_place.folder / "survey", 10))
    code, said = call("score", "--input", "survey", "--output", "answers")
    assert code == 1
    assert f"{REGISTERED_CNN} has no version aliased 'champion': make one with `python -m flows pipeline`" in said
    assert not (empty_place.folder / "answers").exists()

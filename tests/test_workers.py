"""Work is spread over processes, and comes to the same as in one: also when a process is killed in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster

from astrd import dataset, machine_search, network_search, simulate, workers
from astrd.classical import svm
from astrd.dataset import LabelledSpectra
from astrd.evaluation import cross_validate
from astrd.machine_search import search_svm
from astrd.network_models import Recipe
from astrd.network_search import search_cnn
from astrd.tuning import Trial
from astrd.workers import InTurn, Workers, as_done, each, in_groups, workers_at
from workplace import wait_until

QUICK = Recipe(epochs=2)


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with workers.cluster(workers=2) as address, workers_at(address) as found:
        yield found


@pytest.fixture(scope="module")
def few() -> LabelledSpectra:
    return dataset.labelled(dataset.features(simulate.survey(80, seed=4)))[0]


def square(number: int) -> int:
    if number == 13:
        raise ValueError("not thirteen")
    return number**2


def threads_and_process() -> tuple[str | None, int]:
    return os.environ.get("OPENBLAS_NUM_THREADS"), os.getpid()


def dies_once(marker: Path, value: int) -> int:
    """Kill the process that calls it, the first time: whichever of those that begin together makes the marker."""
    with (marker.parent / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    with contextlib.suppress(FileExistsError):
        marker.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def wait_then(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@pytest.fixture(params=["in turn", "on Dask"])
def either(request: pytest.FixtureRequest) -> Workers:
    return InTurn() if request.param == "in turn" else request.getfixturevalue("pool")


def test_results_come_in_the_order_of_the_pieces(either: Workers) -> None:
    told: list[int] = []
    assert each(either, square, [(number,) for number in range(9)], told.append) == [n**2 for n in range(9)]
    assert sorted(told) == list(range(9))
    assert each(either, square, []) == []


def squares(numbers: list[int]) -> list[int]:
    return [square(number) for number in numbers]


def test_groups_are_of_one_size_and_are_counted(either: Workers) -> None:
    told: list[int] = []
    assert in_groups(either, squares, list(range(7)), 3, told.append) == [n**2 for n in range(7)]
    assert len(told) == 3
    assert told == sorted(told)
    assert told[-1] == 7


def test_an_error_of_a_piece_is_that_of_all(either: Workers) -> None:
    with pytest.raises(ValueError, match="not thirteen"):
        each(either, square, [(number,) for number in (12, 13, 14)])
    done = dict(as_done(either, square, [(12,), (13,), (14,)]))
    assert [done[0].result(), done[2].result()] == [144, 196]
    assert isinstance(done[1].exception(), ValueError)


def test_workers_are_processes_of_one_thread(pool: Workers) -> None:
    assert pool.count == 2
    found = each(pool, threads_and_process, [()] * 8)
    assert {threads for threads, _ in found} == {"1"}
    assert os.getpid() not in {process for _, process in found}
    assert len(set(each(pool, wait_then, [(0.5,)] * 4))) == 2


def test_a_piece_whose_worker_is_killed_is_done_by_another(pool: Workers, tmp_path: Path) -> None:
    assert each(pool, partial(dies_once, tmp_path / "died"), [(number,) for number in range(6)]) == list(range(6))
    begun = (tmp_path / "begun").read_text().splitlines()
    assert len(begun) > 6
    assert len(set(begun)) > 1


def test_no_scheduler_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 2.0)
    with (
        pytest.raises(
            workers.NoWorkersError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 .*dask scheduler"
        ),
        workers.cluster("tcp://127.0.0.1:1"),
    ):
        pass


def tried(trials: list[Trial]) -> list[tuple[str, float | None]]:
    return [(str(sorted(trial.params.items())), trial.score) for trial in trials]


def test_a_network_search_finds_the_same_with_any_workers(pool: Workers, few: LabelledSpectra, tmp_path: Path) -> None:
    alone = search_cnn(few, "bus_class", tmp_path / "alone", 4, QUICK)
    told: list[Trial] = []
    spread = search_cnn(few, "bus_class", tmp_path / "spread", 4, QUICK, on_trial=told.append, workers=pool)
    assert tried(spread) == tried(alone)
    assert sorted(trial.number for trial in told) == [0, 1, 2, 3]


def test_a_machine_search_finds_the_same_with_any_workers(pool: Workers, few: LabelledSpectra, tmp_path: Path) -> None:
    found = [
        search_svm(few, "main_group", f"sqlite:///{tmp_path}/{name}.db", "search", 10, workers=where)
        for name, where in (("alone", InTurn()), ("spread", pool))
    ]
    assert tried(found[0]) == tried(found[1])


def done_in_vain(folder: Path, times: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do a piece, and kill the process before anybody is told of it, so many times."""
    result = function(*arguments)
    with (folder / "done").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for number in range(times):
        with contextlib.suppress(FileExistsError):
            (folder / f"killed-{number}").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return result


@pytest.mark.parametrize(("search", "trying"), [("cnn", "_try_network"), ("svm", "_try_machine")])
def test_a_search_whose_workers_are_killed_loses_no_trial_and_doubles_none(
    search: str, trying: str, few: LabelledSpectra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times a worker dies that runs a trial, at its end, when all of it was done."""
    wanted, deaths = (5 if search == "cnn" else 8), 3

    def find(name: str, where: Workers, on_trial: Callable[[Trial], None] = lambda trial: None) -> list[Trial]:
        if search == "cnn":
            return search_cnn(few, "bus_class", tmp_path / name, wanted, QUICK, on_trial=on_trial, workers=where)
        storage = f"sqlite:///{tmp_path}/{name}.db"
        return search_svm(few, "main_group", storage, "search", wanted, on_trial=on_trial, workers=where)

    alone = find("alone", InTurn())
    room = network_search if search == "cnn" else machine_search
    monkeypatch.setattr(room, trying, partial(done_in_vain, tmp_path, deaths, getattr(room, trying)))
    told: list[Trial] = []
    with workers.cluster(workers=2) as address, workers_at(address) as pool:
        found = find("killed", pool, told.append)
    assert len((tmp_path / "done").read_text().splitlines()) >= wanted + deaths
    assert sorted(trial.number for trial in told) == [trial.number for trial in found] == list(range(wanted))
    assert not any(trial.failed for trial in found)
    assert tried(found) == tried(alone)


def test_workers_that_come_later_are_taken_on() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as local,
        workers_at(local.scheduler_address) as pool,
    ):
        assert pool.count == 1
        local.scale(3)
        wait_until(lambda: pool.count == 3, 60)
        assert len(set(each(pool, wait_then, [(1.0,)] * 6))) == 3


def test_folds_are_fitted_anywhere_alike(pool: Workers, few: LabelledSpectra) -> None:
    told: list[int] = []
    here, there = (cross_validate(svm("main_group", "svm"), few, told.append, where) for where in (InTurn(), pool))
    np.testing.assert_allclose(here.probabilities, there.probabilities)
    assert here.fold_scores == there.fold_scores
    assert told == [1, 2, 3, 4, 5] * 2

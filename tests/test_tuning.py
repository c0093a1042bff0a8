"""Searches keep every finished trial, whenever they are killed, and say what failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from astrd import dataset, machine_search, network_search, simulate
from astrd.classical import ClassicalModel
from astrd.dataset import LabelledSpectra
from astrd.evaluation import CrossValidation
from astrd.machine_search import search_svm
from astrd.network_models import NetworkModel, Recipe
from astrd.network_search import search_cnn
from astrd.tuning import AllTrialsFailed, Trial, best_of, importances, one_search_at_a_time

ROOT = Path(__file__).parents[1]
QUICK = Recipe(epochs=2)


class Killed(BaseException):
    """Ends a search as a kill does: no handler of errors sees it."""


@pytest.fixture(scope="module")
def few() -> LabelledSpectra:
    return survey()


def survey() -> LabelledSpectra:
    return dataset.labelled(dataset.features(simulate.survey(80, seed=4)))[0]


def score_of(params: Any) -> float:
    """A score that belongs to the hyperparameters alone, without the time of learning anything."""
    return float(sum(map(ord, str(sorted(params.items())))) % 997) / 997


@pytest.fixture
def instant_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(model: NetworkModel, *_: object) -> SimpleNamespace:
        score = score_of(model.architecture.params())
        return SimpleNamespace(curves=pd.DataFrame({"loss": [1.0], "validation_loss": [score]}))

    monkeypatch.setattr(NetworkModel, "fit_with_validation", fit)


@pytest.fixture
def instant_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    def cross_validate(model: ClassicalModel, train: LabelledSpectra) -> CrossValidation:
        return CrossValidation(np.empty(0), {"main_weighted_f1": (score_of(model.params),) * 5}, ())

    monkeypatch.setattr(machine_search, "cross_validate", cross_validate)


def cnn(train: LabelledSpectra, folder: Path, trials: int = 3, seed: int = 0, **callbacks: Any) -> list[Trial]:
    return search_cnn(train, "bus_class", folder, trials, QUICK, seed, **callbacks)


def svm(train: LabelledSpectra, folder: Path, trials: int = 3, seed: int = 0, **callbacks: Any) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    return search_svm(train, "main_group", f"sqlite:///{folder}/optuna.db", "search", trials, seed, **callbacks)


Search = Callable[..., list[Trial]]
EITHER = pytest.mark.parametrize("search", [cnn, svm])


def tried(trials: list[Trial]) -> list[tuple[str, float | None]]:
    return [(str(sorted(trial.params.items())), trial.score) for trial in trials]


def assert_whole(trials: list[Trial], wanted: int) -> None:
    """As many trials as were wanted, each of its own number and of its own hyperparameters."""
    assert len(trials) == wanted
    numbers = [trial.number for trial in trials]
    assert numbers == sorted(set(numbers))
    assert len(dict(tried(trials))) == wanted
    assert not any(trial.failed for trial in trials)


@EITHER
def test_one_seed_proposes_one_list_of_trials(
    search: Search, few: LabelledSpectra, tmp_path: Path, instant_networks: None, instant_folds: None
) -> None:
    first, again, other = (search(few, tmp_path / str(i), 4, seed) for i, seed in enumerate((5, 5, 6)))
    assert tried(first) == tried(again)
    assert {params for params, _ in tried(first)}.isdisjoint(params for params, _ in tried(other))


@EITHER
def test_a_finished_search_is_handed_over_again_and_may_go_on(
    search: Search, few: LabelledSpectra, tmp_path: Path, instant_networks: None, instant_folds: None
) -> None:
    first = search(few, tmp_path, 2)
    told: list[Trial] = []
    assert tried(search(few, tmp_path, 2, on_trial=told.append)) == tried(first) == tried(told)
    longer = search(few, tmp_path, 12, on_trial=told.append)
    assert_whole(longer, 12)
    assert tried(longer)[:2] == tried(first)


def test_a_network_search_killed_at_any_write_goes_on_as_if_nothing_had_been(
    few: LabelledSpectra, tmp_path: Path, instant_networks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cnn(few, tmp_path / "whole")
    write = network_search.replace_text

    def killed_at(last: int) -> Callable[[Path, str], None]:
        writes = 0

        def limited(path: Path, text: str) -> None:
            nonlocal writes
            writes += 1
            if writes > last:
                raise Killed
            write(path, text)

        return limited

    moments = 0
    while True:
        folder = tmp_path / f"killed-{moments}"
        monkeypatch.setattr(network_search, "replace_text", killed_at(moments))
        try:
            cnn(few, folder)
            break
        except Killed:
            moments += 1
        monkeypatch.setattr(network_search, "replace_text", write)
        told: list[Trial] = []
        assert tried(cnn(few, folder, on_trial=told.append)) == tried(whole) == tried(told)
    assert moments > 3 * 5


def test_the_longest_trials_of_networks_are_run_first(
    few: LabelledSpectra, tmp_path: Path, instant_networks: None
) -> None:
    told: list[Trial] = []
    cnn(few, tmp_path, 12, on_trial=told.append)
    sizes = [network_search.cnn_of(trial.params, QUICK)[0].multiplications for trial in told]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


def test_a_network_search_cut_short_may_go_on_with_fewer_trials(
    few: LabelledSpectra, tmp_path: Path, instant_networks: None
) -> None:
    def killed(trial: Trial) -> None:
        raise Killed

    with pytest.raises(Killed):
        cnn(few, tmp_path, 12, on_trial=killed)
    assert_whole(cnn(few, tmp_path, 4), 4)
    whole = cnn(few, tmp_path, 12)
    assert_whole(whole, 12)
    assert tried(whole) == tried(cnn(few, tmp_path / "whole", 12))


@pytest.mark.parametrize("ends", [0, 1, 2])
def test_a_machine_search_cut_short_runs_that_trial_again_and_none_twice(
    few: LabelledSpectra, tmp_path: Path, instant_folds: None, monkeypatch: pytest.MonkeyPatch, ends: int
) -> None:
    quick = machine_search.cross_validate
    begun: list[dict[str, Any]] = []

    def interrupted(model: ClassicalModel, train: LabelledSpectra) -> CrossValidation:
        begun.append(dict(model.params))
        if len(begun) > ends:
            raise KeyboardInterrupt
        return quick(model, train)

    for _ in range(2):  # the second time cuts short what the first one did
        begun.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(machine_search, "cross_validate", interrupted)
            svm(few, tmp_path, 6)
    cut_short = begun[-1]
    told: list[Trial] = []
    found = svm(few, tmp_path, 6, on_trial=told.append)
    assert_whole(found, 6)
    assert tried(found) == tried(told)
    assert pytest.approx(score_of(cut_short)) in [trial.score for trial in found]


KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from tests.test_tuning import cnn, svm, survey

search, moment, folder = {"cnn": cnn, "svm": svm}[sys.argv[1]], sys.argv[2], Path(sys.argv[3])
done = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def on_trial(trial):
    global done
    done += 1
    print(trial.number, trial.score, flush=True)
    if moment == "between" and done == 2:
        die()

def dies_within(function, second_call):
    calls = 0
    def dying(*arguments):
        nonlocal calls
        calls += done == 1
        if moment == "within" and calls == second_call:
            die()
        return function(*arguments)
    return dying

from astrd import evaluation, training
training._learning_rates = dies_within(training._learning_rates, 2)  # in the second epoch
evaluation.scores = dies_within(evaluation.scores, 2)  # in the second fold
(cnn if sys.argv[1] == "cnn" else svm)(survey(), folder, on_trial=on_trial)
"""


@pytest.mark.parametrize("moment", ["within", "between"])
@EITHER
def test_a_killed_process_loses_no_finished_trial(
    search: Search, moment: str, few: LabelledSpectra, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLS_ITSELF, search.__name__, moment, str(tmp_path)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = [line.split() for line in killed.stdout.splitlines()]
    assert len(finished) == (1 if moment == "within" else 2)

    told: list[Trial] = []
    found = search(few, tmp_path, on_trial=told.append)
    assert_whole(found, 3)
    assert tried(found) == tried(told)
    kept = {str(trial.number): trial.score for trial in found}
    assert [float(score) for _, score in finished] == [kept[number] for number, _ in finished]


def test_the_score_of_a_network_is_its_lowest_validation_loss(few: LabelledSpectra, tmp_path: Path) -> None:
    (trial,) = cnn(few, tmp_path, 1)
    assert trial.curves is not None
    assert trial.score == min(trial.curves["validation_loss"])
    assert len(trial.curves["loss"]) == 2
    assert trial.duration > 0


def fails_every_second_time(original: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    def sometimes(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise FloatingPointError(f"lost in call {calls}")
        return original(*arguments)

    return sometimes


@EITHER
def test_a_failed_trial_is_shown_with_its_error_and_the_search_goes_on(
    search: Search, few: LabelledSpectra, tmp_path: Path, instant_networks: None, instant_folds: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(NetworkModel, "fit_with_validation", fails_every_second_time(NetworkModel.fit_with_validation))
    monkeypatch.setattr(machine_search, "cross_validate", fails_every_second_time(machine_search.cross_validate))
    told: list[Trial] = []
    found = search(few, tmp_path, 5, on_trial=told.append)
    assert [trial.failed for trial in told] == [False, True, False, True, False]
    assert found == sorted(told, key=lambda trial: trial.number)
    assert "FloatingPointError: lost in call 2" in told[1].error
    assert not any(trial.error for trial in found if not trial.failed)
    again = search(few, tmp_path, 5)
    assert [trial.error for trial in again] == [trial.error for trial in found]


@EITHER
def test_a_search_in_which_all_fail_says_why(
    search: Search, few: LabelledSpectra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for so many filters")

    monkeypatch.setattr(NetworkModel, "fit_with_validation", fail)
    monkeypatch.setattr(machine_search, "cross_validate", fail)
    found = search(few, tmp_path, 3)
    with pytest.raises(AllTrialsFailed, match=r"all 3 trials failed.*MemoryError: no room for so many filters"):
        best_of(found, minimise=True)


def trial_of(number: int, score: float | None, **params: Any) -> Trial:
    return Trial(number, params, score, 1.0, "" if score is not None else "Traceback\nValueError: bad")


def test_the_best_trial_is_the_least_or_the_greatest_of_those_that_have_a_score() -> None:
    trials = [trial_of(0, None), trial_of(1, 0.3), trial_of(2, 0.1), trial_of(3, 0.2)]
    assert best_of(trials, minimise=True).number == 2
    assert best_of(trials, minimise=False).number == 1
    with pytest.raises(AllTrialsFailed, match="ValueError: bad"):
        best_of(trials[:1], minimise=True)
    with pytest.raises(AllTrialsFailed, match="no trial was run"):
        best_of([], minimise=True)


def test_a_tuned_machine_has_the_params_of_its_trial(few: LabelledSpectra, tmp_path: Path, instant_folds: None) -> None:
    found = svm(few, tmp_path, 15)
    assert {trial.params["kernel"] for trial in found} == {"rbf", "poly", "linear"}
    for trial in found:
        rebuilt = machine_search.svm_of(trial.params, "main_group", "tuned").params
        assert score_of(rebuilt) == pytest.approx(trial.score), trial.params


def test_a_tuned_network_has_the_shape_of_its_trial() -> None:
    params = {
        "convolutions": 3, "filters": 16, "filter_growth": 1.5, "first_kernel_size": 9, "kernel_size": 3, "units": 48,
        "dropout": 0.2, "learning_rate": 0.002,
    }  # fmt: skip
    network, recipe = network_search.cnn_of(params, QUICK)
    assert network.filters == (16, 24, 36)
    assert network.kernel_sizes == (9, 3, 3)
    assert (network.units, network.dropout) == (48, 0.2)
    assert (recipe.learning_rate, recipe.epochs) == (0.002, 2)


HOLDS = """
import sys
from pathlib import Path
from astrd.tuning import one_search_at_a_time
with one_search_at_a_time(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_holds_one_search_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    command, environment = [sys.executable, "-c", HOLDS, str(folder)], {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RuntimeError, match="another process is running the search"), one_search_at_a_time(folder):
            pass
        with one_search_at_a_time(tmp_path / "another search"):
            pass
        other.kill()
    with one_search_at_a_time(folder), pytest.raises(RuntimeError), one_search_at_a_time(folder):
        pass


def random_trials(count: int) -> list[Trial]:
    random = np.random.default_rng(0)
    trials = []
    for number in range(count):
        rate, units, kernel = random.uniform(), int(random.integers(1, 9)), str(random.choice(["rbf", "poly"]))
        trials.append(trial_of(number, rate + 0.01 * units, learning_rate=rate, units=units, kernel=kernel, same=1))
    return trials


def test_importances_share_out_the_variance() -> None:
    found = importances([*random_trials(30), trial_of(30, None, learning_rate=0.5)])
    assert sum(found.values()) == pytest.approx(1)
    assert found.keys() == {"learning_rate", "units", "kernel"}  # what never changed explains nothing
    assert next(iter(found)) == "learning_rate"
    assert found["learning_rate"] > 0.8


@pytest.mark.parametrize(
    "trials",
    [
        [],
        random_trials(1),
        [trial_of(0, 0.5, units=1), trial_of(1, 0.5, units=2)],
        [trial_of(0, 0.5, units=1), trial_of(1, None, units=2)],
        [trial_of(0, 0.5, units=1), trial_of(1, 0.6, units=1)],
    ],
    ids=["none", "one", "equal scores", "one has no score", "equal params"],
)
def test_too_few_trials_tell_no_importances(trials: list[Trial]) -> None:
    assert importances(trials) == {}

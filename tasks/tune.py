"""Tune: a search for hyperparameters, each trial a run of its own, that goes on after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import dataset, machine_search, network_search, plots, tracking, tuning
from astrd.catalogue import Settings, recipe
from astrd.dataset import DatasetRef
from astrd.machine_search import SVM_SCORE
from astrd.network_search import CNN_SCORE
from astrd.taxonomy import Target
from astrd.tracking import StepRun, Tag
from astrd.tuning import Trial
from astrd.workers import workers_at
from tasks.priority import Priority
from tasks.progress import Step, step

Search = Literal["cnn", "svm"]

TUNING_FOLDER = "tuning"


@dataclass(frozen=True)
class TunedParams:
    """What a search found: the best hyperparameters, their score, and the run that holds the trials."""

    search: Search
    run_id: str
    params: Mapping[str, Any]
    score: float
    trials: int


@task(name="tune", task_run_name="tune {search}", cache_policy=NO_CACHE)
def tune(
    parent_run_id: str,
    search: Search,
    features: DatasetRef,
    trials: int,
    epochs: int,
    storage: str,
    seed: int,
    address: str = "",
) -> TunedParams:
    """Search for a model's hyperparameters on the training part.

    A search of the same data, seed and settings that was cut short goes on, in the run that it began.

    Parameters
    ----------
    search
        "cnn": the Bus network, by Keras Tuner. "svm": the main-group machine, by Optuna.
    epochs
        Most epochs of a trial of the network.
    storage
        URL of Optuna's storage; empty for a SQLite file beside the tracking store's.
    address
        Of the Dask cluster that runs the trials; empty: this process.
    """
    if trials < 1:
        raise ValueError(f"expected at least 1 trial, got {trials}")
    train, _ = dataset.labelled(features.read())
    kind = _KINDS[search]
    key = f"{search}-{features.sha256[:12]}-seed{seed}" + (f"-epochs{epochs}" if search == "cnn" else "")
    folder = tracking.store_folder() / TUNING_FOLDER / key
    with (
        step(f"tune {search}", trials) as shown,
        tuning.one_search_at_a_time(folder),
        workers_at(address, kind.priority) as workers,
    ):
        memory = _Memory(folder / "run.json")
        with tracking.step_run(parent_run_id, "tune", f"tune {search}", run_id=memory.open_run()) as run:
            memory.remember(run.run_id)
            run.set_tags({Tag.MODEL: search, Tag.TARGET: kind.target})
            run.log_dataset(features, "tuning", "features")
            run.log_params({"search": search, "trials": trials, "seed": seed, "epochs": epochs, "score": kind.score})
            tags = {
                Tag.MODEL: search,
                Tag.TARGET: kind.target,
                Tag.DATA_SOURCE: features.data_source,
                Tag.DATA_SHA256: features.sha256,
            }
            done: list[Trial] = []

            def on_trial(trial: Trial) -> None:
                tracking.log_trial(run.run_id, trial, kind.score, tags)
                done.append(trial)
                _show(shown, done, kind)

            if search == "cnn":
                settings = Settings(epochs=epochs)
                found = network_search.search_cnn(
                    train, kind.target, folder, trials, recipe(settings), seed, on_trial, workers
                )
            else:
                url = storage or f"sqlite:///{tracking.store_folder() / 'optuna.db'}"
                study = f"{key}-{run.run_id[:8]}"
                found = machine_search.search_svm(train, kind.target, url, study, trials, seed, on_trial, workers)
            try:
                best = _log_search(run, found, kind)
            except tuning.AllTrialsFailed:
                shutil.rmtree(folder)  # going on with it could only fail again
                raise
        shutil.rmtree(folder)  # all of it is in the tracking store now; the next search is a new one
        assert best.score is not None
        return TunedParams(search, run.run_id, best.params, best.score, len(found))


@dataclass(frozen=True)
class _Kind:
    target: Target
    score: str
    minimise: bool
    priority: Priority


_KINDS: Mapping[str, _Kind] = {
    "cnn": _Kind("bus_class", CNN_SCORE, minimise=True, priority=Priority.WAITED_FOR),
    "svm": _Kind("main_group", SVM_SCORE, minimise=False, priority=Priority.OTHER),  # what waits for it is short
}


@dataclass(frozen=True)
class _Memory:
    """Which run an unfinished search belongs to."""

    path: Path

    def open_run(self) -> str | None:
        if not self.path.exists():
            return None
        run_id = str(json.loads(self.path.read_text())["run_id"])
        return run_id if tracking.run_exists(run_id) else None

    def remember(self, run_id: str) -> None:
        tuning.replace_text(self.path, json.dumps({"run_id": run_id}))


def _log_search(run: StepRun, trials: list[Trial], kind: _Kind) -> Trial:
    run.log_table(_table(trials, kind.score), "trials.csv")
    run.log_figure(plots.optimisation_history(trials, kind.score, kind.minimise), "optimisation_history.png")
    run.log_figure(plots.parameter_importances(tuning.importances(trials)), "parameter_importances.png")
    run.log_metrics({"trials_done": len(trials), "trials_failed": sum(trial.failed for trial in trials)})
    best = tuning.best_of(trials, kind.minimise)
    run.log_params({f"best_{name}": value for name, value in best.params.items()})
    assert best.score is not None
    run.log_metrics({f"best_{kind.score}": best.score, "best_trial": best.number})
    return best


def _table(trials: list[Trial], score: str) -> pd.DataFrame:
    rows = [
        {
            "trial": trial.number,
            "state": "failed" if trial.failed else "complete",
            score: trial.score,
            "seconds": round(trial.duration, 2),
            **trial.params,
            "error": trial.error.strip().splitlines()[-1] if trial.error else "",
        }
        for trial in trials
    ]
    return pd.DataFrame(rows)


def _show(shown: Step, trials: list[Trial], kind: _Kind) -> None:
    scores = [trial.score for trial in trials if trial.score is not None]
    failed = len(trials) - len(scores)
    best: Callable[[list[float]], float] = min if kind.minimise else max
    note = f"best {kind.score.replace('_', ' ')} {best(scores):.4f}" if scores else "no score yet"
    shown.show(len(trials), f"{len(trials)} trials, {note}" + (f", {failed} failed" if failed else ""))

"""The search for a convolutional network's hyperparameters, by Keras Tuner."""

from __future__ import annotations

import itertools
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.backend import tensorflow
from astrd.dataset import LabelledSpectra
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork
from astrd.taxonomy import Target
from astrd.tuning import Trial, replace_text
from astrd.workers import InTurn, Workers, as_done

if TYPE_CHECKING:
    import keras_tuner

CNN_TRIALS: Final = 25
CNN_SCORE: Final = "validation_loss"

_VALIDATION_FOLD: Final = 0


def cnn_of(params: Mapping[str, Any], recipe: Recipe) -> tuple[ConvolutionalNetwork, Recipe]:
    """The network and recipe that a point of the search space names."""
    depth = int(params["convolutions"])
    filters = [int(params["filters"] * params["filter_growth"] ** i) for i in range(depth)]
    kernel_sizes = [int(params["first_kernel_size"])] + [int(params["kernel_size"])] * (depth - 1)
    network = ConvolutionalNetwork(
        filters=tuple(filters),
        kernel_sizes=tuple(kernel_sizes),
        units=int(params["units"]),
        dropout=float(params["dropout"]),
    )
    return network, replace(recipe, learning_rate=float(params["learning_rate"]))


def search_cnn(
    train: LabelledSpectra,
    target: Target,
    folder: Path,
    trials: int = CNN_TRIALS,
    recipe: Recipe | None = None,
    seed: int = 0,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    workers: Workers = InTurn(),  # noqa: B008
) -> list[Trial]:
    """Random search over convolutional networks with Keras Tuner, each trained in the compiled loop.

    A trial trains on four folds of the training part; its score is the lowest cross-entropy on the fifth. What is tried
    does not depend on the workers.

    Parameters
    ----------
    folder
        Where Keras Tuner keeps the search. If it holds an unfinished one, that one goes on.
    on_trial
        Called once for each trial that has ended, as they do; those of an earlier process first.
    workers
        That train: one trial each at a time.
    """
    oracle = _durable_oracle(folder, trials, seed)
    ended = _ended(oracle)
    for trial in ended:
        on_trial(trial)
    begun = _longest_first(_proposed(oracle, trials - len(ended)))
    pieces = (
        (train, target, dict(trial.hyperparameters.values), recipe or Recipe(), seed + int(trial.trial_id))
        for trial in begun
    )
    for place, future in as_done(workers, _try_network, pieces):
        _end(oracle, begun[place], future)
        on_trial(_record(oracle, oracle.trials[begun[place].trial_id]))
    return _ended(oracle)


def _proposed(oracle: keras_tuner.Oracle, most: int) -> list[keras_tuner.engine.trial.Trial]:
    """Trials to run, those that were cut short first. No proposal of a random search waits for how another went."""
    asked = (oracle.create_trial(f"trial-{number}") for number in range(most))
    return list(itertools.takewhile(lambda trial: trial.status != "STOPPED", asked))


def _longest_first(trials: Sequence[keras_tuner.engine.trial.Trial]) -> list[keras_tuner.engine.trial.Trial]:
    """The greatest network takes as long as ten others: begun last, it would leave the other workers idle."""
    return sorted(
        trials, key=lambda trial: cnn_of(trial.hyperparameters.values, Recipe())[0].multiplications, reverse=True
    )


@dataclass(frozen=True)
class _Course:
    """How a trial went: seconds, and the learning curves by name."""

    duration: float
    curves: Mapping[str, Sequence[float]]


def _try_network(
    train: LabelledSpectra, target: Target, params: Mapping[str, Any], recipe: Recipe, seed: int
) -> _Course:
    started = time.perf_counter()
    validation = held_out(train)
    model = NetworkModel("trial", target, *cnn_of(params, recipe), seed=seed)
    curves = model.fit_with_validation(train[~validation], train[validation]).curves
    return _Course(time.perf_counter() - started, curves.to_dict(orient="list"))


def held_out(train: LabelledSpectra) -> NDArray[np.bool_]:
    """The spectra of the training part by which trials of networks are judged: those of one fold."""
    return train.fold == _VALIDATION_FOLD


def space() -> keras_tuner.HyperParameters:
    """What is searched over."""
    import keras_tuner

    found = keras_tuner.HyperParameters()
    found.Int("convolutions", 2, 4)
    found.Choice("filters", [16, 24, 32, 48])
    found.Choice("filter_growth", [1.0, 1.5, 2.0])
    found.Choice("first_kernel_size", [3, 5, 7, 9])
    found.Choice("kernel_size", [3, 5])
    found.Choice("units", [48, 96, 144, 192])
    found.Float("dropout", 0.0, 0.5, step=0.1)
    found.Float("learning_rate", 1e-3, 1e-2, sampling="log")
    return found


def _durable_oracle(folder: Path, trials: int, seed: int) -> keras_tuner.Oracle:
    """Keras Tuner's random search, with what a folder holds of it."""
    tensorflow()
    import keras_tuner

    class DurableOracle(keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
        """Its state survives a kill at any moment."""

        def _save_trial(self, trial: keras_tuner.engine.trial.Trial) -> None:
            path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(trial.get_state()))

        def save(self, fname: str | None = None) -> None:
            replace_text(Path(fname or self._get_oracle_fname()), json.dumps(self.get_state()))

        def reload(self) -> None:
            super().reload()
            # A kill between the two files of a new trial leaves one that the oracle has not heard of: its seed is still
            # the one before, so that it will propose the same again.
            for trial_id in self.trials.keys() - set(self.start_order):
                del self.trials[trial_id]
            # A kill between a trial's end and the next one's start leaves it listed as under way: it is not to be
            # run twice. One that was really cut short is.
            self._retry_queue: list[str] = sorted(
                (trial_id for trial_id in self._retry_queue if self.trials[trial_id].status == "RUNNING"), reverse=True
            )  # the last is the first to be tried again
            for trial_id in self._retry_queue:  # what it had reported already it will report again
                self.trials[trial_id].metrics.metrics.clear()
            for trial_id in sorted(self.trials):
                if self.trials[trial_id].status in ("COMPLETED", "FAILED") and trial_id not in self.end_order:
                    self.end_order.append(trial_id)

    oracle = DurableOracle(
        objective=keras_tuner.Objective(CNN_SCORE, "min"),
        max_trials=trials,
        hyperparameters=space(),
        tune_new_entries=False,
        seed=seed + 1,  # 0 would mean a random one
        max_consecutive_failed_trials=trials + 1,  # failed trials are shown; the search goes on
    )
    oracle.verbose = 0
    oracle._set_project_dir(str(folder), "keras-tuner")
    if Path(oracle._get_oracle_fname()).exists():
        oracle.reload()
    return oracle


def _end(oracle: keras_tuner.Oracle, trial: keras_tuner.engine.trial.Trial, future: Future[_Course]) -> None:
    """Tell the oracle how a trial went."""
    if (error := future.exception()) is None:
        course = future.result()
        replace_text(_course_of(oracle, trial), json.dumps(asdict(course)))
        oracle.update_trial(trial.trial_id, {CNN_SCORE: float(min(course.curves["validation_loss"]))})
        trial.status = "COMPLETED"
    else:
        trial.status, trial.message = "FAILED", "".join(traceback.format_exception(error))
    oracle.end_trial(trial)


def _course_of(oracle: keras_tuner.Oracle, trial: keras_tuner.engine.trial.Trial) -> Path:
    return Path(oracle._get_trial_dir(trial.trial_id)) / "course.json"


def _record(oracle: keras_tuner.Oracle, trial: keras_tuner.engine.trial.Trial) -> Trial:
    path = _course_of(oracle, trial)
    course = _Course(**json.loads(path.read_text())) if path.exists() else _Course(0.0, {})
    score = trial.score if trial.status == "COMPLETED" else None
    values = trial.hyperparameters.values
    return Trial(int(trial.trial_id), values, score, course.duration, trial.message or "", course.curves)


def _ended(oracle: keras_tuner.Oracle) -> list[Trial]:
    trials = [_record(oracle, trial) for trial in oracle.trials.values() if trial.status in ("COMPLETED", "FAILED")]
    return sorted(trials, key=lambda trial: trial.number)

"""Searches for hyperparameters: Keras Tuner for networks, Optuna for support vector machines.

Both keep their state on disk after every trial. A search that was killed goes on where it stopped: its finished
trials are handed over again, the one that was cut short is run again, and none counts twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.backend import tensorflow
from astrd.classical import ClassicalModel, svm
from astrd.dataset import LabelledSpectra, written_whole
from astrd.evaluation import cross_validate
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork
from astrd.taxonomy import Target
from astrd.workers import InTurn, Workers, as_done

if TYPE_CHECKING:
    import keras_tuner
    import optuna

CNN_TRIALS: Final = 25
SVM_TRIALS: Final = 40
CNN_SCORE: Final = "validation_loss"
SVM_SCORE: Final = "cv_main_weighted_f1"

_VALIDATION_FOLD: Final = 0
_INTERRUPTED: Final = "interrupted"
_ERROR: Final = "error"
_SECONDS: Final = "seconds"

AT_ONCE: Final = 4
"""Trials of support vector machines that are proposed together."""


@dataclass(frozen=True)
class Trial:
    """What a search tried: hyperparameters, score (None if it failed), its course, and how it ended."""

    number: int
    params: Mapping[str, Any]
    score: float | None
    duration: float  # seconds
    error: str = ""
    curves: Mapping[str, Sequence[float]] | None = None

    @property
    def failed(self) -> bool:
        return self.score is None


class AllTrialsFailed(RuntimeError):
    """No trial of a search gave a score; the message carries the first one's error."""


def best_of(trials: Sequence[Trial], minimise: bool) -> Trial:
    """The trial with the best score.

    Raises
    ------
    AllTrialsFailed
        If none has one.
    """
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        reason = trials[0].error.strip().splitlines()[-1] if trials and trials[0].error else "no trial was run"
        raise AllTrialsFailed(f"all {len(trials)} trials failed; the first one with: {reason}")
    return (min if minimise else max)(scored, key=lambda trial: trial.score)  # type: ignore[arg-type, return-value]


@contextlib.contextmanager
def one_search_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a search's folder, so that a second process cannot go on with trials that this one is running.

    Raises
    ------
    RuntimeError
        If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another process is running the search in {folder}: wait for it, or choose another --seed"
            ) from None
        yield


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
    for ended in _ended(oracle):
        on_trial(ended)
    begun: list[keras_tuner.engine.trial.Trial] = []

    def proposed() -> Iterator[tuple[Any, ...]]:
        while (trial := oracle.create_trial(f"trial-{len(begun)}")).status != "STOPPED":
            begun.append(trial)
            values = dict(trial.hyperparameters.values)
            yield train, target, values, recipe or Recipe(), seed + int(trial.trial_id)

    for place, future in as_done(workers, _try_network, proposed()):
        _end(oracle, begun[place], future)
        on_trial(_record(oracle, oracle.trials[begun[place].trial_id]))
    return _ended(oracle)


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
            self._retry_queue: list[str] = [
                trial_id for trial_id in self._retry_queue if self.trials[trial_id].status == "RUNNING"
            ]
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


def search_svm(
    train: LabelledSpectra,
    target: Target,
    storage: str,
    study_name: str,
    trials: int = SVM_TRIALS,
    seed: int = 0,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    workers: Workers = InTurn(),  # noqa: B008
) -> list[Trial]:
    """Search over C, kernel, its width, scaling and class weights with Optuna, by cross-validated weighted F1.

    Trials are proposed `AT_ONCE` at a time, and the next when all of those have ended: so what is tried does not depend
    on which worker was faster, nor on how many there are, as long as they are no more than that.

    Parameters
    ----------
    storage
        Any URL that Optuna takes. If it holds this study unfinished, that one goes on.
    on_trial
        Called once for each trial that has ended, as they do; those of an earlier process first.
    workers
        That try: one trial each at a time.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage, study_name=study_name, direction="maximize", load_if_exists=True, sampler=_sampler(seed)
    )
    _restart_interrupted(study)
    for frozen in _counted(study):
        on_trial(_optuna_record(frozen))
    # A sampler that begins again from the same seed would repeat itself: count all trials, those cut short too.
    study.sampler = _sampler(seed + len(study.get_trials(deepcopy=False)))

    while left := trials - len(_counted(study)):
        asked = [study.ask() for _ in range(min(left, max(AT_ONCE, workers.count)))]
        pieces = [(train, target, _suggested(trial)) for trial in asked]
        for place, future in as_done(workers, _try_machine, pieces):
            trial = asked[place]
            if (error := future.exception()) is None:
                folds, seconds = future.result()
                trial.set_user_attr("folds", list(folds))
                trial.set_user_attr(_SECONDS, seconds)
                study.tell(trial, float(np.mean(folds)))
            else:
                trial.set_user_attr(_ERROR, "".join(traceback.format_exception(error)))
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            on_trial(_optuna_record(study.trials[trial.number]))
    return [_optuna_record(frozen) for frozen in _counted(study)]


def _try_machine(train: LabelledSpectra, target: Target, params: Mapping[str, Any]) -> tuple[tuple[float, ...], float]:
    """The score in each fold, and the seconds that it took."""
    started = time.perf_counter()
    found = cross_validate(svm_of(params, target, "trial"), train)
    return found.fold_scores[SVM_SCORE.removeprefix("cv_")], time.perf_counter() - started


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # With trials under way taken for poor ones, so that those asked for at once differ.
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10, constant_liar=True)


def _suggested(trial: optuna.Trial) -> dict[str, Any]:
    trial.suggest_categorical("kernel", ["rbf", "poly", "linear"])
    wide = trial.params["kernel"] == "rbf"
    trial.suggest_float("C", 1.0, 1000.0 if wide else 30.0, log=True)  # larger ones of the others only take longer
    if wide:
        trial.suggest_float("gamma", 1e-3, 1.0, log=True)
    trial.suggest_categorical("scaling", ["common", "channel"])
    trial.suggest_categorical("class_weight", ["balanced", None])
    return dict(trial.params)


def svm_of(params: Mapping[str, Any], target: Target, name: str) -> ClassicalModel:
    """The support vector machine that a point of the search space names; only the rbf kernel has a width to search."""
    return svm(target, name, **{"gamma": "scale", **params})


def _restart_interrupted(study: optuna.Study) -> None:
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study._storage.set_trial_user_attr(trial._trial_id, _INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _counted(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return [trial for trial in ended if _INTERRUPTED not in trial.user_attrs]


def _optuna_record(trial: optuna.trial.FrozenTrial) -> Trial:
    duration = trial.user_attrs.get(_SECONDS, 0.0)
    error = "" if trial.value is not None else str(trial.user_attrs.get(_ERROR, "the score is no number"))
    folds = {"fold_weighted_f1": trial.user_attrs.get("folds", [])}
    return Trial(trial.number, trial.params, trial.value, duration, error, folds)


def importances(trials: Sequence[Trial]) -> dict[str, float]:
    """Share of the scores' variance that each hyperparameter explains (functional ANOVA, Hutter et al. 2014).

    Returns
    -------
    dict
        Importance by name, the greatest first; empty where fewer than two trials differ in their score.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scored = [trial for trial in trials if trial.score is not None]
    if len(scored) < 2 or len({trial.score for trial in scored}) < 2:
        return {}
    names = [name for name in scored[0].params if all(name in trial.params for trial in scored)]
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for name in names:
        values = [trial.params[name] for trial in scored]
        if len(set(map(str, values))) < 2:
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            distributions[name] = optuna.distributions.FloatDistribution(float(min(values)), float(max(values)))
        else:
            choices = sorted({str(value) for value in values})
            distributions[name] = optuna.distributions.CategoricalDistribution(choices)
    if not distributions:
        return {}
    study = optuna.create_study()
    for trial in scored:
        params = {
            name: float(trial.params[name]) if isinstance(kind, optuna.distributions.FloatDistribution)
            else str(trial.params[name])
            for name, kind in distributions.items()
        }  # fmt: skip
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=trial.score))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def replace_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all, whenever the process may be killed."""
    with written_whole(path) as partial:
        partial.write_text(text)

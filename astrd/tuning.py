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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from astrd.classical import ClassicalModel, svm
from astrd.dataset import LabelledSpectra, written_whole
from astrd.evaluation import cross_validate
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork
from astrd.taxonomy import Target
from astrd.training import tensorflow

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
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[Trial]:
    """Random search over convolutional networks with Keras Tuner, each trained in the compiled loop.

    A trial trains on four folds of the training part; its score is the lowest cross-entropy on the fifth.

    Parameters
    ----------
    folder
        Where Keras Tuner keeps the search. If it holds an unfinished one, that one goes on.
    on_trial
        Called once for each trial that has ended, those of an earlier process first.
    """
    tensorflow()
    recipe = recipe or Recipe()
    held_out = train.fold == _VALIDATION_FOLD
    tuner = _compiled_tuner(train[~held_out], train[held_out], target, folder, trials, recipe, seed, on_trial, on_epoch)
    for trial in tuner.ended:
        on_trial(trial)
    tuner.search()
    return list(tuner.ended)


def _space() -> keras_tuner.HyperParameters:
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Int("convolutions", 2, 4)
    space.Choice("filters", [16, 24, 32, 48])
    space.Choice("filter_growth", [1.0, 1.5, 2.0])
    space.Choice("first_kernel_size", [3, 5, 7, 9])
    space.Choice("kernel_size", [3, 5])
    space.Choice("units", [48, 96, 144, 192])
    space.Float("dropout", 0.0, 0.5, step=0.1)
    space.Float("learning_rate", 1e-3, 1e-2, sampling="log")
    return space


def _compiled_tuner(
    train: LabelledSpectra, validation: LabelledSpectra, target: Target, folder: Path, trials: int, recipe: Recipe,
    seed: int, on_trial: Callable[[Trial], None], on_epoch: Callable[[int, float], None],
) -> Any:  # fmt: skip
    import keras_tuner

    class DurableOracle(keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
        """Keras Tuner's random search, whose state survives a kill at any moment."""

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

    class CompiledTuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[misc]
        def run_trial(self, trial: keras_tuner.engine.trial.Trial) -> dict[str, float]:
            started = time.perf_counter()
            network, own_recipe = cnn_of(trial.hyperparameters.values, recipe)
            model = NetworkModel(
                "trial", target, network, own_recipe, seed=seed + int(trial.trial_id), on_epoch=on_epoch
            )
            curves = model.fit_with_validation(train, validation).curves
            course = {"duration": time.perf_counter() - started, "curves": curves.to_dict(orient="list")}
            replace_text(self.course_of(trial.trial_id), json.dumps(course))
            return {CNN_SCORE: float(curves["validation_loss"].min())}

        def on_trial_end(self, trial: keras_tuner.engine.trial.Trial) -> None:
            super().on_trial_end(trial)
            on_trial(self.record(self.oracle.trials[trial.trial_id]))

        def save(self) -> None:
            self.oracle.save()
            replace_text(Path(self._get_tuner_fname()), json.dumps(self.get_state()))

        def course_of(self, trial_id: str) -> Path:
            return Path(self.oracle._get_trial_dir(trial_id)) / "course.json"

        def record(self, trial: keras_tuner.engine.trial.Trial) -> Trial:
            path = self.course_of(trial.trial_id)
            course: dict[str, Any] = {"duration": 0.0, "curves": {}}
            if path.exists():
                course = json.loads(path.read_text())
            score = trial.score if trial.status == "COMPLETED" else None
            return Trial(
                int(trial.trial_id), trial.hyperparameters.values, score, course["duration"], trial.message or "",
                course["curves"],
            )  # fmt: skip

        @property
        def ended(self) -> list[Trial]:
            trials = [self.record(t) for t in self.oracle.trials.values() if t.status in ("COMPLETED", "FAILED")]
            return sorted(trials, key=lambda trial: trial.number)

    oracle = DurableOracle(
        objective=keras_tuner.Objective(CNN_SCORE, "min"),
        max_trials=trials,
        hyperparameters=_space(),
        tune_new_entries=False,
        seed=seed + 1,  # 0 would mean a random one
        max_consecutive_failed_trials=trials + 1,  # failed trials are shown; the search goes on
    )
    oracle.verbose = 0
    with contextlib.redirect_stdout(None):  # it prints where it reloads from
        return CompiledTuner(oracle, directory=str(folder), project_name="keras-tuner", overwrite=False)


def search_svm(
    train: LabelledSpectra,
    target: Target,
    storage: str,
    study_name: str,
    trials: int = SVM_TRIALS,
    seed: int = 0,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Search over C, kernel, its width, scaling and class weights with Optuna, by cross-validated weighted F1.

    Parameters
    ----------
    storage
        Any URL that Optuna takes. If it holds this study unfinished, that one goes on.
    on_trial
        Called once for each trial that has ended, those of an earlier process first.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage, study_name=study_name, direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=10),
    )  # fmt: skip
    _restart_interrupted(study)
    for frozen in _counted(study):
        on_trial(_optuna_record(frozen))
    # A sampler that begins again from the same seed would repeat itself: count all trials, those cut short too.
    begun = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + begun, n_startup_trials=10)

    while len(_counted(study)) < trials:
        trial = study.ask()
        try:
            model = svm_of(_suggested(trial), target, "trial")
            folds = cross_validate(model, train).fold_scores[SVM_SCORE.removeprefix("cv_")]
        except Exception:  # the trial has failed, and says why; one that is interrupted stays under way
            trial.set_user_attr(_ERROR, traceback.format_exc())
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            trial.set_user_attr("folds", list(folds))
            study.tell(trial, float(np.mean(folds)))
        on_trial(_optuna_record(_counted(study)[-1]))
    return [_optuna_record(frozen) for frozen in _counted(study)]


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
    duration = trial.duration.total_seconds() if trial.duration else 0.0
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

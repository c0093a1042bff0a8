"""The search for a support vector machine's hyperparameters, by Optuna."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from astrd.classical import ClassicalModel, svm
from astrd.dataset import LabelledSpectra
from astrd.evaluation import cross_validate
from astrd.taxonomy import Target
from astrd.tuning import Trial
from astrd.workers import InTurn, Workers, as_done

if TYPE_CHECKING:
    import optuna

SVM_TRIALS: Final = 40
SVM_SCORE: Final = "cv_main_weighted_f1"

AT_ONCE: Final = 4
"""Trials that are proposed together."""

_INTERRUPTED: Final = "interrupted"
_ERROR: Final = "error"
_SECONDS: Final = "seconds"


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
    on which worker was faster, nor on how many there are.

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
        asked = [study.ask() for _ in range(min(left, AT_ONCE))]
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

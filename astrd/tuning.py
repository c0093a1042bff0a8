"""What searches for hyperparameters have in common: trials, the best of them, and a folder that one search holds.

Searches keep their state on disk after every trial. One that was killed goes on where it stopped: its finished trials
are handed over again, the one that was cut short is run again, and none counts twice.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrd.dataset import written_whole


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

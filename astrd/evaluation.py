"""How any model is judged: the same five stratified folds of the training part, then one look at the test part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.dataset import FOLDS, LabelledSpectra
from astrd.metrics import scores
from astrd.taxonomy import LABELS, Target
from astrd.workers import InTurn, Workers, in_groups

Array = NDArray[np.float64]

OUT_OF_FOLD_TABLE: Final = "out_of_fold.csv"
"""Name under which each training run logs its out-of-fold probabilities."""


class Fitted(Protocol):
    """A model that has learned."""

    def probabilities(self, reflectance: Array) -> Array:
        """(n, 49) spectra to (n, labels) probabilities, or scores that rank like them and sum to 1."""
        ...

    @property
    def curves(self) -> pd.DataFrame | None:
        """Learning curves, one row an epoch, or None where nothing is learned step by step."""
        ...


class Model(Protocol):
    """A way to learn: a name, a target, and a fit that leaves the model itself as it was."""

    @property
    def name(self) -> str: ...

    @property
    def target(self) -> Target: ...

    @property
    def params(self) -> Mapping[str, Any]: ...

    def fit(self, spectra: LabelledSpectra) -> Fitted: ...


@runtime_checkable
class LearnsTogether(Protocol):
    """A model that learns from several sets of spectra, from each alone, faster than from one after the other."""

    @property
    def together(self) -> int:
        """From how many at once."""
        ...

    def fit_each(self, parts: Sequence[LabelledSpectra]) -> Sequence[Fitted]: ...


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold probabilities, shape (n, labels), each score's value in each fold, and each fold's model."""

    probabilities: Array
    fold_scores: Mapping[str, tuple[float, ...]]
    fitted: tuple[Fitted, ...] = field(repr=False)

    def summary(self) -> dict[str, float]:
        """Mean of each score as `cv_<score>`, and its standard deviation over the folds as `cv_<score>_sd`."""
        summary = {}
        for name, values in self.fold_scores.items():
            summary[f"cv_{name}"] = float(np.mean(values))
            summary[f"cv_{name}_sd"] = float(np.std(values, ddof=1))
        return summary


def cross_validate(
    model: Model,
    train: LabelledSpectra,
    on_fold: Callable[[int], None] = lambda done: None,
    workers: Workers = InTurn(),  # noqa: B008
) -> CrossValidation:
    """Fit on four folds and predict the fifth, five times.

    Parameters
    ----------
    train
        The training part: every `fold` is 0 to 4.
    on_fold
        Called with the number of folds done, as they are.
    workers
        That fit the folds.
    """
    return _judged(model, train, _fit_parts(model, _four_folds_each(train), on_fold, workers))


def cross_validate_and_fit(
    model: Model, train: LabelledSpectra, on_fit: Callable[[int], None], workers: Workers
) -> tuple[CrossValidation, Fitted]:
    """The same, and the model of the whole training part, which learns beside those of the folds."""
    *fitted, whole = _fit_parts(model, [*_four_folds_each(train), train], on_fit, workers)
    return _judged(model, train, fitted), whole


def _four_folds_each(train: LabelledSpectra) -> list[LabelledSpectra]:
    return [train[train.fold != fold] for fold in range(FOLDS)]


def _judged(model: Model, train: LabelledSpectra, fitted: Sequence[Fitted]) -> CrossValidation:
    probabilities = np.zeros((len(train), len(LABELS[model.target])))
    by_fold: dict[str, list[float]] = {}
    for fold in range(FOLDS):
        held_out = train.fold == fold
        probabilities[held_out] = fitted[fold].probabilities(train.reflectance[held_out])
        for name, value in scores(model.target, train[held_out], probabilities[held_out]).items():
            by_fold.setdefault(name, []).append(value)
    return CrossValidation(probabilities, {name: tuple(values) for name, values in by_fold.items()}, tuple(fitted))


def _fit_parts(
    model: Model, parts: Sequence[LabelledSpectra], on_fit: Callable[[int], None], workers: Workers
) -> list[Fitted]:
    size = model.together if isinstance(model, LearnsTogether) else 1
    return in_groups(workers, partial(_fit_each, model), parts, size, on_fit)


def _fit_each(model: Model, parts: Sequence[LabelledSpectra]) -> Sequence[Fitted]:
    return model.fit_each(parts) if isinstance(model, LearnsTogether) else [model.fit(part) for part in parts]

"""Train: one model, judged by the same folds as every other and by one look at the test part."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import catalogue, dataset, metrics, plots, registry, tracking
from astrd.catalogue import BASELINES, CANDIDATES, Settings
from astrd.classical import FittedClassical
from astrd.dataset import FOLDS, DatasetRef, LabelledSpectra
from astrd.ensemble import FittedEnsemble
from astrd.evaluation import OUT_OF_FOLD_TABLE, CrossValidation, Fitted, Model, cross_validate_and_fit
from astrd.network_models import FittedNetwork
from astrd.taxonomy import Target
from astrd.tracking import StepRun, Tag
from astrd.workers import workers_at
from tasks.candidate import log_candidate
from tasks.priority import Priority
from tasks.progress import Step, step
from tasks.tune import TunedParams

_PRIORITIES = dict.fromkeys(CANDIDATES, Priority.MUCH_AFTERWARDS) | dict.fromkeys(BASELINES, Priority.SHORT)


@dataclass(frozen=True)
class TrainedModel:
    """What a training step hands on: which run holds the model, and its scores by name."""

    name: str
    target: Target
    run_id: str
    scores: Mapping[str, float]
    seconds: float


@task(name="train", task_run_name="train {name}", cache_policy=NO_CACHE)
def train_model(
    parent_run_id: str,
    name: str,
    features: DatasetRef,
    seed: int,
    epochs: int,
    search: TunedParams | None = None,
    address: str = "",
) -> TrainedModel:
    """Cross-validate a model of the catalogue, fit it to the whole training part, test it and log all of it.

    Parameters
    ----------
    search
        What was found by the search that a model needs.
    address
        Of the Dask cluster that learns; empty: this process.
    """
    started = time.perf_counter()
    table = features.read()
    train, test = dataset.labelled(table)
    with (
        step(name, FOLDS + 1) as shown,
        tracking.step_run(parent_run_id, "train", name) as run,
        workers_at(address, _PRIORITIES.get(name, Priority.OTHER)) as workers,
    ):
        model = catalogue.model(name, Settings(seed, epochs, search.params if search else None))
        run.set_tags({Tag.TARGET: model.target, Tag.MODEL: name, Tag.CANDIDATE: str(name in CANDIDATES).lower()})
        run.log_params(model.params)
        run.log_dataset(features, "training", "features")
        validation, fitted = cross_validate_and_fit(model, train, shown.show, workers)
        _log_learning(run, name, fitted)
        _log_out_of_fold(run, model, train, validation)
        if name in CANDIDATES:
            assert isinstance(fitted, FittedNetwork | FittedEnsemble)
            classifier = log_candidate(run, name, fitted, validation, features, table, workers)
            tested = classifier.bus_probabilities(test.reflectance)  # as it is served
        else:
            registry.log_model(fitted, model.target, test)
            tested = fitted.probabilities(test.reflectance)
        scores = {**validation.summary(), **_look_at_test(run, model, tested, test)}
        run.log_metrics(scores)
        _summarise(shown, model.target, scores)
        return TrainedModel(name, model.target, run.run_id, scores, time.perf_counter() - started)


def _look_at_test(run: StepRun, model: Model, probabilities: metrics.Array, test: LabelledSpectra) -> dict[str, float]:
    run.log_table(metrics.per_class(model.target, test, probabilities), "test_per_class.csv")
    for level, answer in metrics.levels(model.target, probabilities).items():
        title = f"{model.name}: {plots.TARGET_TITLE[level]}, test part"
        run.log_figure(plots.confusion_matrix(metrics.confusion(level, test, answer), title), f"confusion_{level}.png")
        if level == model.target:
            page = plots.confusion_page(level, test.designation, test.codes(level), answer.argmax(axis=1), title)
            run.log_text(page, f"confusion_{level}.html")
    return {f"test_{score}": value for score, value in metrics.scores(model.target, test, probabilities).items()}


def _log_learning(run: StepRun, name: str, fitted: Fitted) -> None:
    if fitted.curves is not None:
        for member, curves in fitted.curves.groupby("member"):
            renamed = curves.drop(columns="member").add_prefix("" if member == 1 else f"member_{member}_")
            run.log_curves(renamed.reset_index(drop=True))
        run.log_figure(plots.learning_curves(fitted.curves, f"{name}: learning curves"), "learning_curves.png")
    if isinstance(fitted, FittedClassical) and (grid := fitted.grid()) is not None:
        run.log_table(grid, "grid.csv")
        run.log_figure(plots.grid_scores(grid, f"{name}: grid search"), "grid.png")
        run.log_params({f"best_{key.removeprefix('svc__')}": v for key, v in fitted.estimator.best_params_.items()})


def _log_out_of_fold(run: StepRun, model: Model, train: LabelledSpectra, validation: CrossValidation) -> None:
    labels = metrics.LABELS[model.target]
    table = pd.DataFrame(validation.probabilities, columns=[f"probability_{label}" for label in labels])
    table.insert(0, "designation", list(train.designation))
    table.insert(1, "fold", train.fold)
    table.insert(2, "catalogued", [labels[code] for code in train.codes(model.target)])
    table.insert(3, "predicted", [labels[code] for code in validation.probabilities.argmax(axis=1)])
    run.log_table(table.round(6), OUT_OF_FOLD_TABLE)


def _summarise(shown: Step, target: Target, scores: Mapping[str, float]) -> None:
    if target == "x_vs_rest":
        note = f"X F1 {scores['cv_x_f1']:.3f} ± {scores['cv_x_f1_sd']:.3f}"
    else:
        note = f"main group F1 {scores['cv_main_weighted_f1']:.3f} ± {scores['cv_main_weighted_f1_sd']:.3f}"
    if target == "bus_class":
        note += f", Bus accuracy {scores['cv_bus_accuracy']:.3f}"
    shown.show(FOLDS + 1, note)

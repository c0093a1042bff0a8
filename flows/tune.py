"""Tune: search for a model's hyperparameters, then train it with the best ones."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from typer import Option

from astrd.catalogue import EPOCHS, TUNED
from astrd.dataset import FEATURES_PATH, DatasetRef
from astrd.network_search import CNN_TRIALS
from astrd.tracking import Tag, flow_run
from astrd.workers import cluster
from flows.ingest import SeedOption
from flows.stopping import take_signals_of_runner
from flows.train import EpochsOption, SchedulerOption, WorkersOption
from tasks.train import TrainedModel, train_model
from tasks.tune import Search
from tasks.tune import tune as search

TrialsOption = Annotated[int, Option(help="Trials of the search over networks.", min=1)]
SvmTrialsOption = Annotated[int, Option(help="Trials of the search over support vector machines.", min=1)]
StorageOption = Annotated[str, Option(help="Any Optuna URL; empty: a SQLite file beside the tracking store.")]


@flow(name="tune", on_running=[take_signals_of_runner])
def tune(
    model: Annotated[Search, Option(help="cnn: the Bus network, by Keras Tuner. svm: main groups, by Optuna.")] = "cnn",
    trials: Annotated[int, Option(help="Trials of the search.", min=1)] = CNN_TRIALS,
    epochs: EpochsOption = EPOCHS,
    storage: StorageOption = "",
    seed: SeedOption = 0,
    workers: WorkersOption = 0,
    scheduler: SchedulerOption = "",
) -> TrainedModel:
    """Search on data/processed, then train the model with the best hyperparameters."""
    features = DatasetRef.of(FEATURES_PATH)
    name = next(name for name, kind in TUNED.items() if kind == model)
    with flow_run("tune", {Tag.DATA_SOURCE: features.data_source}) as run_id, cluster(scheduler, workers) as address:
        found = search(run_id, model, features, trials, epochs, storage, seed, address)
        return train_model(run_id, name, features, seed, epochs, found, address)

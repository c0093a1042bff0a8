"""Train: models of the catalogue on the features that are there."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from typer import Option

from astrd.catalogue import EPOCHS, MODELS, TUNED
from astrd.dataset import FEATURES_PATH, DatasetRef
from astrd.tracking import Tag, flow_run
from astrd.workers import cluster
from flows.ingest import SeedOption
from flows.stopping import take_signals_of_runner
from tasks.train import TrainedModel, train_model

EpochsOption = Annotated[int, Option(help="Most epochs of a network.", min=1)]
WorkersOption = Annotated[int, Option(help="Processes on this machine, of one thread each; 0: the cores.", min=0)]
SchedulerOption = Annotated[str, Option(help="A Dask scheduler, tcp://host:8786; empty: workers on this machine.")]


@flow(name="train", on_running=[take_signals_of_runner])
def train(
    models: Annotated[str, Option(help="Names with commas between them, or all that need no search.")] = "all",
    epochs: EpochsOption = EPOCHS,
    seed: SeedOption = 0,
    workers: WorkersOption = 0,
    scheduler: SchedulerOption = "",
) -> list[TrainedModel]:
    """Train models on data/processed and compare them."""
    untuned = [name for name in MODELS if name not in TUNED]
    names = untuned if models == "all" else [name.strip() for name in models.split(",")]
    if wrong := [name for name in names if name not in untuned]:
        raise ValueError(f"expected all, or models of {', '.join(untuned)}; got {', '.join(wrong)}")
    features = DatasetRef.of(FEATURES_PATH)
    with flow_run("train", {Tag.DATA_SOURCE: features.data_source}) as run_id, cluster(scheduler, workers) as address:
        return [train_model(run_id, name, features, seed, epochs, address=address) for name in names]

"""Cluster: latent spaces and clusters of the features that are there."""

from __future__ import annotations

from prefect import flow

from astrd import workers as spread
from astrd.catalogue import EPOCHS
from astrd.dataset import FEATURES_PATH, DatasetRef, raw_of
from astrd.tracking import Tag, flow_run
from flows.ingest import SeedOption
from flows.stopping import take_signals_of_runner
from flows.train import EpochsOption, SchedulerOption, WorkersOption
from tasks import cluster as tasks
from tasks.cluster import Discovery


@flow(name="cluster", on_running=[take_signals_of_runner])
def cluster(
    epochs: EpochsOption = EPOCHS, seed: SeedOption = 0, workers: WorkersOption = 0, scheduler: SchedulerOption = ""
) -> Discovery:
    """Learn latent spaces of data/processed without labels, and cluster them."""
    features = DatasetRef.of(FEATURES_PATH)
    raw = raw_of(features)
    tags = {Tag.DATA_SOURCE: features.data_source}
    with flow_run("cluster", tags) as run_id, spread.cluster(scheduler, workers) as address:
        return tasks.cluster(run_id, features, raw, seed, epochs, address)

"""Cluster: latent spaces and clusters of the features that are there."""

from __future__ import annotations

from prefect import flow

from astrd.catalogue import EPOCHS
from astrd.dataset import FEATURES_PATH, DatasetRef, raw_of
from astrd.tracking import Tag, flow_run
from flows.ingest import SeedOption
from flows.train import EpochsOption
from tasks import cluster as tasks
from tasks.cluster import Discovery


@flow(name="cluster")
def cluster(epochs: EpochsOption = EPOCHS, seed: SeedOption = 0) -> Discovery:
    """Learn latent spaces of data/processed without labels, and cluster them."""
    features = DatasetRef.of(FEATURES_PATH)
    raw = raw_of(features)
    with flow_run("cluster", {Tag.DATA_SOURCE: features.data_source}) as run_id:
        return tasks.cluster(run_id, features, raw, seed, epochs)

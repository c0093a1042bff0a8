"""Features: smooth, label and split the newest raw table."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from astrd.dataset import INTERIM_FOLDER, DatasetRef, raw_path
from astrd.tracking import Tag, flow_run
from tasks.features import prepare_features


@flow(name="features")
def features() -> DatasetRef:
    """Smooth, label and split the spectra that were ingested last, into data/processed."""
    raw = _newest_raw()
    with flow_run("features", {Tag.DATA_SOURCE: raw.data_source}) as run_id:
        return prepare_features(run_id, raw)


def _newest_raw() -> DatasetRef:
    tables = sorted(Path(INTERIM_FOLDER).glob("*.parquet"), key=lambda path: path.stat().st_mtime)
    return DatasetRef.of(tables[-1] if tables else raw_path("smass2"))

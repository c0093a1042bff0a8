"""Audit: which labels every model of a run contradicts."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from typer import Option

from astrd.dataset import FEATURES_PATH, DatasetRef, raw_of
from astrd.tracking import Tag, flow_run, latest_flow_run_with
from tasks import audit as tasks
from tasks.audit import Audit


@flow(name="audit")
def audit(
    run: Annotated[str, Option(help="Run whose models are asked; empty: the newest that trained a Bus model.")] = "",
) -> Audit:
    """List the asteroids whose catalogued class every model contradicts."""
    features = DatasetRef.of(FEATURES_PATH)
    raw = raw_of(features)
    models_of = run or latest_flow_run_with("train", {Tag.TARGET: "bus_class"})
    with flow_run("audit", {Tag.DATA_SOURCE: features.data_source}) as run_id:
        return tasks.audit(run_id, models_of, features, raw)

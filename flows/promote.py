"""Promote: make the best candidate of a run champion, or go back to the one before."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from typer import Option

from astrd.dataset import FEATURES_PATH, DatasetRef
from astrd.tracking import Tag, flow_run, latest_flow_run_with
from tasks import promote as tasks
from tasks.promote import Promotion


@flow(name="promote")
def promote(
    run: Annotated[str, Option(help="Run whose candidates are looked at; empty: the newest that has one.")] = "",
    rollback: Annotated[bool, Option(help="Put the previous champion back instead.")] = False,
) -> Promotion:
    """Register the best candidate, and make it champion if it passes the gate."""
    if rollback:
        with flow_run("promote") as run_id:
            return tasks.rollback(run_id)
    candidates_of = run or latest_flow_run_with("train", {Tag.CANDIDATE: "true"})
    features = DatasetRef.of(FEATURES_PATH)
    with flow_run("promote", {Tag.DATA_SOURCE: features.data_source}) as run_id:
        return tasks.promote(run_id, candidates_of, features)

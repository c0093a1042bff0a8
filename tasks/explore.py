"""Explore: the page of all spectra and of what this flow's steps found out about them."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import explorer, findings, tracking
from astrd.dataset import DatasetRef
from tasks.progress import step


@task(name="explore", cache_policy=NO_CACHE)
def explore(parent_run_id: str, raw: DatasetRef, features: DatasetRef) -> None:
    """Log the explorer, where it shows inside the run's page."""
    with step("explore") as shown, tracking.step_run(parent_run_id, "explore", "explore") as run:
        run.log_dataset(features, "exploration", "features")
        found = findings.of_run(parent_run_id, features)
        page = explorer.page(raw.read(), features.read(), features.data_source, found)
        run.log_text(page, explorer.EXPLORER_PAGE)
        shown.show(note=f"{raw.rows} spectra on {explorer.EXPLORER_PAGE}, {len(page) / 1e6:.1f} MB")

"""Ingest: the archive, or the simulated survey that stands in for it, as one table of raw spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import plots, simulate, smass, tracking
from astrd.dataset import RAW_SCHEMA, DatasetRef, DataSource, raw_path, write
from tasks.progress import step, tell

Source = Literal["auto", "smass2", "simulated"]

RAW_FOLDER = Path("data/raw")


@task(name="ingest", cache_policy=NO_CACHE)
def ingest(parent_run_id: str, source: Source, mirror: str, size: int, seed: int) -> DatasetRef:
    """Find the spectra, write `data/interim/<data source>.parquet` and log what was found.

    Parameters
    ----------
    source
        "smass2" (the archive or an error), "simulated", or "auto": the archive, and the simulated survey where
        the archive cannot be had.
    mirror
        Folder or URL that holds the archive's two files; see `smass.fetch`.
    size, seed
        Of the simulated survey.
    """
    with step("ingest") as shown, tracking.step_run(parent_run_id, "ingest", "ingest") as run:
        run.log_params({"source": source, "mirror": mirror, "size": size, "seed": seed})
        table, found, refused = _spectra(source, mirror, size, seed)
        dataset = write(table, raw_path(found), RAW_SCHEMA, found)
        run.log_dataset(dataset, "ingest", "raw")
        counts = table["bus_class"].value_counts().rename_axis("bus_class").reset_index(name="asteroids")
        run.log_metrics(
            {
                "spectra": len(table),
                "classes": len(counts),
                "rejected_rows": int(table["rejected_rows"].sum()),
                "refused_files": len(refused),
                **{f"count_{name}": count for name, count in counts.itertuples(index=False)},
            }
        )
        run.log_table(counts, "class_counts.csv")
        run.log_table(refused, "refused.csv")
        run.log_figure(
            plots.class_counts(table["bus_class"].tolist(), f"{len(table)} spectra, data source: {found}"),
            "class_counts.png",
        )
        shown.show(note=f"{len(table)} spectra, {len(counts)} classes, data source {found}")
        return dataset


def _spectra(source: Source, mirror: str, size: int, seed: int) -> tuple[pd.DataFrame, DataSource, pd.DataFrame]:
    if source != "simulated":
        try:
            survey = smass.read(smass.fetch(RAW_FOLDER, mirror))
        except smass.ArchiveUnavailable as error:
            if source == "smass2":
                raise
            tell(f"The SMASS II archive cannot be had: {error}")
            tell("GOING ON WITH THE SIMULATED SURVEY. What is trained on it is no result about real asteroids.")
        else:
            refused = pd.DataFrame([(r.member, r.reason) for r in survey.refused], columns=["file", "reason"])
            return survey.table, "smass2", refused
    return simulate.survey(size, seed), "simulated", pd.DataFrame(columns=["file", "reason"])

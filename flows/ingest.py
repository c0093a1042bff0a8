"""Ingest: find the archive (or simulate a survey) and write the raw table."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from typer import Option

from astrd.dataset import DatasetRef
from astrd.tracking import Tag, flow_run, tag_run
from tasks import ingest as tasks
from tasks.ingest import Source

SURVEY_SIZE = 1341

SourceOption = Annotated[
    Source, Option(help="auto: the archive, or the simulated survey where it cannot be had; smass2; simulated.")
]
MirrorOption = Annotated[str, Option(help="Folder or URL with the archive's two files; empty: ASTRD_MIRROR.")]
SizeOption = Annotated[int, Option(help="Spectra of the simulated survey.", min=50)]
SeedOption = Annotated[int, Option(help="Of everything that is drawn at random.", min=0)]


@flow(name="ingest", log_prints=False)
def ingest(
    source: SourceOption = "auto", mirror: MirrorOption = "", size: SizeOption = SURVEY_SIZE, seed: SeedOption = 0
) -> DatasetRef:
    """Read the SMASS II archive, or draw the simulated survey, into data/interim."""
    with flow_run("ingest") as run_id:
        dataset = tasks.ingest(run_id, source, mirror, size, seed)
        tag_run(run_id, {Tag.DATA_SOURCE: dataset.data_source})
        return dataset

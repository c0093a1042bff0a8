"""Score: a survey in, a classified survey out."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from typer import Option

from astrd.classifier import DEFAULT_DRAWS
from astrd.conformal import DEFAULT_COVERAGE
from astrd.scoring import PARTITION_ROWS, Settings
from astrd.tracking import flow_run
from flows.stopping import take_signals_of_runner
from flows.train import SchedulerOption, WorkersOption
from tasks import score as tasks
from tasks.score import ScoredSurvey


@flow(name="score", on_running=[take_signals_of_runner])
def score(
    input: Annotated[str, Option(help="Parquet: a file, a folder or a pattern; a path or any fsspec URL.")] = "",
    output: Annotated[str, Option(help="Folder for the answers; one that was cut short goes on.")] = "",
    model: Annotated[str, Option(help="URI of the model; empty: the output's own, at first the champion.")] = "",
    coverage: Annotated[float, Option(help="Share of prediction sets that hold the right class.")] = DEFAULT_COVERAGE,
    draws: Annotated[int, Option(help="Repeat under each spectrum's own noise so many times.", min=0)] = DEFAULT_DRAWS,
    workers: WorkersOption = 0,
    scheduler: SchedulerOption = "",
    partition_rows: Annotated[int, Option(help="Spectra of a partition, which is written as one.", min=1)] = (
        PARTITION_ROWS
    ),
) -> ScoredSurvey:
    """Classify a survey of any size, partition by partition."""
    if not input or not output:
        raise ValueError("expected a survey and a folder for its answers: --input SURVEY.parquet --output FOLDER")
    settings = Settings(coverage, draws, partition_rows)
    with flow_run("score") as run_id:
        return tasks.score(run_id, input, output, model, settings, scheduler, workers)

"""What a flow says when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from astrd.audit import LABEL_AUDIT_TABLE
from astrd.dataset import DatasetRef
from astrd.plots import TARGET_TITLE
from astrd.tracking import REGISTERED_CNN, Alias
from tasks.audit import Audit
from tasks.cluster import LATENT_DIMENSIONS, Discovery
from tasks.promote import Promotion
from tasks.score import ScoredSurvey
from tasks.train import TrainedModel

if TYPE_CHECKING:
    from flows.pipeline import PipelineResult

WIDE = 104  # columns of the table with one line a model


def of_dataset(console: Console, dataset: DatasetRef) -> None:
    """Where the data are."""
    _say(console, f"{dataset.rows} spectra in {dataset.path} (data source {dataset.data_source})")


def of_models(console: Console, models: TrainedModel | Sequence[TrainedModel]) -> None:
    """A table of models with their scores; where the console is too narrow for it, with two lines a model."""
    separator = " | " if console.width >= WIDE else "\n"
    table = Table(
        title="Cross-validated in five folds (mean ± sd) | on the test part", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("model", no_wrap=True)
    for column in ("main group F1", "Bus accuracy", "X F1", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    for model in [models] if isinstance(models, TrainedModel) else models:
        cells = [_cell(model, score, separator) for score in ("main_weighted_f1", "bus_accuracy", "x_f1")]
        table.add_row(model.name, *cells, f"{model.seconds:.0f}")
    console.print(table)


def of_promotion(console: Console, promotion: Promotion) -> None:
    """Which version is champion, and why."""
    champion = f"version {promotion.champion}" if promotion.champion else "none yet"
    _say(console, f"[bold]Champion of {REGISTERED_CNN}:[/] {champion} ({promotion.reason})")


def of_survey(console: Console, scored: ScoredSurvey) -> None:
    """How many spectra were classified, and where the answers are."""
    before = f", {scored.resumed} of them before this run" if scored.resumed else ""
    _say(
        console,
        f"[bold]{scored.spectra} spectra:[/] {scored.classified} classified, {scored.rejected} rejected{before}\n"
        f"{scored.output}/classified\n{scored.output}/rejected",
    )


def of_discovery(console: Console, discovery: Discovery) -> None:
    """How many clusters there are, and how well the latent numbers hold the spectra."""
    table = Table(
        title="Reconstruction RMS of spectra held out, median (95th percentile)", title_justify="left",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for column in ("latent numbers", "autoencoder", "PCA", "noise"):
        table.add_column(column, justify="right", no_wrap=True)
    for latent in LATENT_DIMENSIONS:
        cells = [
            f"{discovery.scores[f'cv_{kind}rms_median_{latent}']:.5f} "
            f"({discovery.scores[f'cv_{kind}rms_p95_{latent}']:.5f})"
            for kind in ("", "pca_", "noise_")
        ]
        table.add_row(str(latent), *cells)
    console.print(table)
    _say(console, f"{discovery.clusters} clusters: MLflow run {discovery.run_id}")


def of_audit(console: Console, audit: Audit) -> None:
    """How many labels are in doubt, and where they are listed."""
    counts = ", ".join(f"{count} of {TARGET_TITLE[level]}" for level, count in audit.contradicted.items())
    _say(console, f"Labels that every model contradicts: {counts}")
    _say(console, f"They are listed in {LABEL_AUDIT_TABLE}: MLflow run {audit.run_id}")


def of_pipeline(console: Console, result: PipelineResult) -> None:
    """All of it, and what to do next."""
    of_models(console, result.models)
    of_discovery(console, result.discovery)
    of_audit(console, result.audit)
    of_promotion(console, result.promotion)
    if result.data_source == "simulated":
        _say(console, "[bold yellow]SIMULATED DATA: these are no results about real asteroids.[/]")
    _say(
        console,
        "\nNext:\n"
        "  make ui                       compare the runs in MLflow\n"
        f"  make serve                    serve models:/{REGISTERED_CNN}@{Alias.CHAMPION} over HTTP\n"
        "  .venv/bin/astrd classify FILE classify a spectrum",
    )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _cell(model: TrainedModel, score: str, separator: str) -> str:
    if f"cv_{score}" not in model.scores:
        return ""
    cross_validated, spread, tested = (model.scores[key.format(score)] for key in ("cv_{}", "cv_{}_sd", "test_{}"))
    return f"{cross_validated:.3f} ± {spread:.3f}{separator}{tested:.3f}"

"""The `astrd` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from astrd.findings import Material

app = typer.Typer(help="Classify asteroid spectra in the Bus taxonomy.", no_args_is_help=True, add_completion=False)
console = Console()


@app.callback()
def main() -> None:
    """Classify asteroid spectra in the Bus taxonomy."""


@app.command()
def classify(
    files: Annotated[list[str], typer.Argument(help="Files, folders or patterns: text, CSV, ECSV, VOTable, FITS.")],
    model: Annotated[str, typer.Option(help="URI of the model; empty: the champion of the registry.")] = "",
    coverage: Annotated[float, typer.Option(help="Share of prediction sets that hold the right class.")] = 0.9,
    draws: Annotated[int, typer.Option(help="Repeat under the spectrum's own noise so many times.", min=0)] = 0,
) -> None:
    """Print main group, Bus class, their probabilities and the prediction set of each spectrum."""
    from astrd import reading, registry, tracking
    from astrd.spectrum import Spectrum, SpectrumError

    spectra, broken = [], 0
    for argument in files:
        try:
            paths = reading.expand([argument])
        except SpectrumError as error:
            paths, broken = [], broken + _complain(error)
        for path in paths:
            try:
                spectra.append(Spectrum.read(path))
            except SpectrumError as error:
                broken += _complain(error)
    if spectra:
        if not model and not tracking.store_exists():
            _complain(
                "There is no tracking store here to take the champion from: go to the folder where `make run` was "
                "called, set MLFLOW_TRACKING_URI, or name a model with --model."
            )
            raise typer.Exit(1)
        tracking.connect()
        version = registry.version_named(tracking.Alias.CHAMPION)
        if not model and version is None:
            _complain("There is no champion yet: make one with `make run`, or name a model with --model.")
            raise typer.Exit(1)
        uri = model or f"models:/{tracking.REGISTERED_CNN}@{tracking.Alias.CHAMPION}"
        try:
            answers = registry.load_classifier(uri).classify(spectra, coverage, draws)
        except ValueError as error:
            _complain(error)
            raise typer.Exit(1) from error
        table = Table(box=box.SIMPLE_HEAD)
        stays = ["stays"] if draws else []
        for name in ("spectrum", "group", "p", *stays, "class", "p", *stays, f"{coverage:.0%} set", "outlier"):
            table.add_column(name, overflow="fold", no_wrap=name in ("spectrum", "outlier"))
        for row in answers.itertuples(index=False):
            table.add_row(
                row.designation, row.main_group, f"{row.main_group_probability:.3f}",
                *([f"{row.main_group_draw_share:.0%}"] if draws else []),
                row.bus_class, f"{row.bus_class_probability:.3f}",
                *([f"{row.bus_class_draw_share:.0%}"] if draws else []),
                " ".join(row.bus_prediction_set), f"{'yes' if row.is_outlier else 'no'} ({row.outlier_score:.2f})",
            )  # fmt: skip
        console.print(table)
        if draws:
            console.print(f"stays: share of {draws} noise draws with the same answer", highlight=False)
        for row in answers.itertuples(index=False):
            if row.note:
                console.print(f"note on {row.designation}: {row.note}", markup=False, highlight=False, soft_wrap=True)
        if version is not None and not model:
            source = version.tags.get(tracking.Tag.DATA_SOURCE, "unknown")
            console.print(f"Model: {uri}, version {version.version}, trained on {source}", highlight=False)
    if broken:
        raise typer.Exit(1)


RunOption = Annotated[str, typer.Option("--run", help="Run of a flow; empty: the newest finished main job's.")]


@app.command()
def explore(
    run: RunOption = "",
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("explorer.html"),
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Write one offline page to look at all spectra, latent space, clusters, label audit and confusions; open it."""
    import webbrowser

    from astrd import explorer

    material = _material(run)
    page = explorer.page(material.raw, material.features, material.data_source, material.findings)
    written = explorer.write(page, output).resolve()
    console.print(f"{len(material.raw)} spectra ({material.data_source}) on {written}", highlight=False, soft_wrap=True)
    if show and not webbrowser.open(written.as_uri()):
        console.print("No browser could be opened here: open the file in one.", highlight=False)


@app.command()
def figures(
    run: RunOption = "",
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("figures"),
) -> None:
    """Draw the figures for publication, each as PNG and PDF."""
    from astrd import figures as drawing

    material = _material(run)
    for path in drawing.write(drawing.all_of(material.features, material.findings), output):
        console.print(str(path), highlight=False, soft_wrap=True)


def _material(run: str) -> Material:
    from astrd import findings

    try:
        material = findings.material(run)
    except (LookupError, OSError, ValueError) as error:
        _complain(error)
        raise typer.Exit(1) from error
    if material.note:
        console.print(f"Only the spectra are shown: {material.note}", markup=False, highlight=False, soft_wrap=True)
    return material


def _complain(error: object) -> int:
    Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    return 1

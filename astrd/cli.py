"""The `astrd` command."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

# NumPy's BLAS reads it when it is imported: matrices here are too small to share out.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from astrd.conformal import DEFAULT_COVERAGE

if TYPE_CHECKING:
    import pandas as pd

    from astrd.answers import Provenance
    from astrd.classifier import Classifier
    from astrd.findings import Material
    from astrd.spectrum import Spectrum

app = typer.Typer(help="Classify asteroid spectra in the Bus taxonomy.", no_args_is_help=True, add_completion=False)
console = Console()
error_console = Console(stderr=True)

_Item = TypeVar("_Item")

_AT_ONCE = 100  # spectra, between two steps of the progress bar


@app.callback()
def main() -> None:
    """Classify asteroid spectra in the Bus taxonomy."""


@app.command()
def classify(
    files: Annotated[list[str], typer.Argument(help="Files, folders or patterns: text, CSV, ECSV, VOTable, FITS.")],
    model: Annotated[str, typer.Option(help="URI of the model; empty: the champion of the registry.")] = "",
    coverage: Annotated[
        float, typer.Option(help="Share of prediction sets that hold the right class.")
    ] = DEFAULT_COVERAGE,
    draws: Annotated[int, typer.Option(help="Repeat under the spectrum's own noise so many times.", min=0)] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Tell why: similar asteroids, slope, bands.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write all answers here: .csv, .json or .parquet.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page to look at here: .html.")] = None,
) -> None:
    """Print main group, Bus class, their probabilities and the prediction set of each spectrum."""
    from astrd import answers
    from astrd import report as page

    try:
        for path, suffixes in ((output, answers.FORMATS), (report, page.SUFFIXES)):
            if path is not None:
                answers.check_path(path, suffixes)
        paths, spectra, broken = _read(files)
        if spectra:
            classifier, source = _model(model)
            explain = explain or report is not None
            table = _classified(classifier, spectra, coverage, draws, explain)
            _print(table, source, coverage, draws, explain)
            if output is not None:
                answers.write(answers.with_origin(table, paths, source), output)
                _say(f"Answers: {output}")
            if report is not None:
                page.write(report, spectra, table, classifier.archive, source, coverage, draws)
                _say(f"Report: {report}")
    except (ValueError, OSError) as error:
        _complain(error)
        raise typer.Exit(1) from error
    if broken:
        raise typer.Exit(1)


@app.command()
def serve(
    model: Annotated[str, typer.Option(help="URI of the model; empty: the champion of the registry.")] = "",
    host: Annotated[str, typer.Option(help="Address to answer at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to answer at.", min=1, max=2**16 - 1)] = 5001,
    workers: Annotated[int, typer.Option(help="Processes; 0: the cores.", min=0)] = 0,
) -> None:
    """Answer over HTTP as `mlflow models serve` does, several times as fast; no environment is built."""
    from astrd import registry
    from astrd.server import no_port
    from astrd.workers import cores

    try:
        address = _address(model)
        classifier = registry.load_classifier(address)
    except (ValueError, OSError) as error:
        _complain(error)
        raise typer.Exit(1) from error
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        _complain(ValueError(no_port(host, port, error)))
        raise typer.Exit(1) from error
    _say(f"{address} answers at http://{host}:{port}/invocations. Stop with Ctrl-C.")
    folder = tempfile.mkdtemp(prefix="astrd-serve-")  # the server removes it when it has read it
    classifier.save(folder)
    count = workers or cores()
    os.execv(sys.executable, [sys.executable, "-m", "astrd.server", folder, host, str(port), str(count)])


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
    try:
        for path in drawing.write(drawing.all_of(material.features, material.findings), output):
            console.print(str(path), highlight=False, soft_wrap=True)
    except OSError as error:
        _complain(error)
        raise typer.Exit(1) from error


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


def _read(arguments: Sequence[str]) -> tuple[list[Path], list[Spectrum], int]:
    """The files that hold a spectrum, these spectra, and how many arguments or files do not."""
    from astrd import reading
    from astrd.spectrum import Spectrum, SpectrumError

    found: dict[Path, None] = {}
    broken = 0
    for argument in arguments:
        try:
            found |= dict.fromkeys(reading.expand([argument]))
        except SpectrumError as error:
            broken += _complain(error)
    paths, spectra = [], []
    for path in _tracked(list(found), "Reading"):
        try:
            spectra.append(Spectrum.read(path))
            paths.append(path)
        except SpectrumError as error:
            broken += _complain(error)
    return paths, spectra, broken


@contextlib.contextmanager
def _keeping_all() -> Iterator[None]:
    """No garbage collection: what MLflow makes when imported stays, and looking through it takes half a second."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_keeping_all()
def _model(uri: str) -> tuple[Classifier, Provenance]:
    """The model of this address, or the champion, and where it comes from."""
    from astrd import registry

    uri = _address(uri)
    return registry.load_classifier(uri), registry.provenance(uri)


def _address(uri: str) -> str:
    """The address of a model: the one given, or the champion's."""
    from astrd import registry, tracking

    if not uri and not tracking.store_exists():
        raise ValueError(
            "There is no tracking store here to take the champion from: go to the folder where `make run` was "
            "called, set MLFLOW_TRACKING_URI, or name a model with --model."
        )
    tracking.connect()
    if not uri and registry.version_named(tracking.Alias.CHAMPION) is None:
        raise ValueError("There is no champion yet: make one with `make run`, or name a model with --model.")
    return uri or f"models:/{tracking.REGISTERED_CNN}@{tracking.Alias.CHAMPION}"


def _classified(
    classifier: Classifier, spectra: Sequence[Spectrum], coverage: float, draws: int, explain: bool
) -> pd.DataFrame:
    import pandas as pd

    starts = _tracked(range(0, len(spectra), _AT_ONCE), "Classifying")
    parts = [classifier.classify(spectra[i : i + _AT_ONCE], coverage, draws, explain) for i in starts]
    return pd.concat(parts, ignore_index=True)


def _tracked(items: Sequence[_Item], what: str) -> Iterable[_Item]:
    quick = len(items) <= 1 or not error_console.is_terminal
    return items if quick else track(items, what, console=error_console, transient=True)


def _print(answers: pd.DataFrame, source: Provenance, coverage: float, draws: int, explain: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # all of it in 80 columns
    stays = ["stays"] if draws else []
    for name in ("spectrum", "group", "p", *stays, "class", "p", *stays, f"{coverage:.0%} set", "outlier"):
        is_set = name.endswith("set")
        table.add_column(name, overflow="fold", no_wrap=not is_set, min_width=7 if is_set else None)
    for row in answers.itertuples(index=False):
        table.add_row(
            escape(row.designation), row.main_group, f"{row.main_group_probability:.3f}",
            *([f"{row.main_group_draw_share:.0%}"] if draws else []),
            row.bus_class, f"{row.bus_class_probability:.3f}",
            *([f"{row.bus_class_draw_share:.0%}"] if draws else []),
            " ".join(row.bus_prediction_set), f"{'yes' if row.is_outlier else 'no'} ({row.outlier_score:.2f})",
        )  # fmt: skip
    console.print(table)
    if draws:
        _say(f"stays: share of {draws} noise draws with the same answer")
    for row in answers.itertuples(index=False):
        if explain:
            _say(f"why {row.designation}: {_why(row)}")
        if row.note:
            _say(f"note on {row.designation}: {row.note}")
    version = f", version {source.model_version}" if source.model_version else ""
    _say(f"Model: {source.model}{version}, trained on {source.data_source or 'unknown data'}")


def _why(row: Any) -> str:
    from astrd.explanation import analogues_in_words, measures_in_words

    return "; ".join([f"like {analogues_in_words(row)}", *measures_in_words(row).values()])


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _complain(error: object) -> int:
    error_console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    return 1

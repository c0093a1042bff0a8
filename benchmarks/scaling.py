"""`python -m benchmarks.scaling`: score simulated surveys of growing size here; time and memory against size.

Prints tables, and writes a figure and the numbers behind it. The model is the champion of the registry.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console

from astrd import registry, simulate, survey, tracking
from astrd.channels import channel_faults
from astrd.classifier import Classifier
from astrd.conformal import DEFAULT_COVERAGE
from astrd.scoring import CLASSIFIED, MODEL_FOLDER, PARTITION_ROWS, Scoring, Settings, as_parquet
from astrd.spectra import smoothed, spectra_of
from astrd.spectrum import Spectrum
from astrd.survey import BATCH_ROWS, Partition, Survey
from astrd.survey_batch import score_batch
from astrd.tracking import REGISTERED_CNN, Alias
from astrd.workers import dask_client
from benchmarks import scaling_report
from benchmarks.reporting import Machine
from benchmarks.scaling_report import Kind, Results, Scored

if TYPE_CHECKING:
    from distributed import Client

PARTITIONS = 4  # at least so many in a small survey: all workers have some
NETWORK_ROWS = 100_000
PASSES = 5  # through each part of a spectrum's way; the quickest counts
console = Console(highlight=False)


def run(
    classifier: Classifier,
    sizes: Mapping[Kind, Sequence[int]],
    workers: int,
    repeats: int,
    tell: Callable[[str], None] = lambda text: None,
) -> Results:
    """Score surveys of these sizes `repeats` times each, of which the least of each cost counts."""
    machine = Machine.here()
    surveys: list[Scored] = []
    parts: dict[Kind, Mapping[str, float]] = {}
    for layout, size in [(layout, size) for layout, own in sizes.items() for size in own]:
        with tempfile.TemporaryDirectory(prefix="astrd-scaling-") as folder:
            place = Path(folder) / "survey"
            for done in simulate.write(place, size, layout):
                tell(f"{layout}: {done:,} of {size:,} spectra simulated")
            found = Survey.find(str(place))
            tries = []
            for number in range(repeats):
                tries.append(_scored(classifier, found, layout, Path(folder) / f"answers-{number}", workers))
                tell(f"{layout}: {size:,} spectra in {tries[-1].seconds:.1f} s")
            surveys.append(least(tries))
            first = found.files[0]
            with dask_client(workers=1) as client:
                partition = Partition(first.url, 0, min(PARTITION_ROWS, first.rows))
                parts[layout] = client.submit(_parts, f"{folder}/answers-0/{MODEL_FOLDER}", partition, layout).result()
    with tempfile.TemporaryDirectory(prefix="astrd-scaling-") as folder, dask_client(workers=workers) as client:
        classifier.save(folder)  # for the workers; one that has answered cannot be sent to them
        rates = [_network_rates(client, folder) for _ in range(repeats)]
        used = len(client.scheduler_info(n_workers=-1)["workers"])
    by_clock, by_processor = (max(column) for column in zip(*rates, strict=True))
    return Results(machine, used, repeats, tuple(surveys), by_clock, by_processor, parts)


def least(tries: Sequence[Scored]) -> Scored:
    """The same survey, at the least of each cost: other programs only add."""
    costs = ("seconds", "processor_seconds", "peak_megabytes")
    return replace(tries[0], **{name: min(getattr(scored, name) for scored in tries) for name in costs})


def _scored(classifier: Classifier, found: Survey, layout: Kind, folder: Path, workers: int) -> Scored:
    """Score a survey on new workers that are warm: their start, and what they import, count for nothing."""
    settings = Settings(DEFAULT_COVERAGE, 0, min(PARTITION_ROWS, max(found.rows // PARTITIONS, 1)))
    scoring = Scoring.begin(str(folder), found, classifier, settings)
    partitions = found.partitions(settings.partition_rows)
    with dask_client(workers=workers) as client:
        client.run(scoring.score, 0, partitions[0])
        before = client.run(_used)
        started = time.perf_counter()
        client.gather(client.map(scoring.score, range(len(partitions)), partitions, pure=False))
        seconds = time.perf_counter() - started
        after = client.run(_used)
    scoring.finish(found)
    busy = sum(used - before[worker][0] for worker, (used, _) in after.items())
    read, written = (
        sum(path.stat().st_size for path in files.glob("*.parquet"))
        for files in (folder.parent / "survey", folder / CLASSIFIED)
    )
    return Scored(layout, found.rows, seconds, busy, max(peak for _, peak in after.values()), read, written)


def _used() -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of this process; `getrusage` would count its parent's memory too."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return time.process_time(), int(peak[1]) / 1024 if peak else float("nan")


def _network_rates(client: Client, folder: str) -> tuple[float, float]:
    """Spectra a second through the network alone, on all workers at once: by the clock, and of a core."""
    times = list(client.run(_network_seconds, folder).values())
    clock, processor = (max(column) for column in zip(*times, strict=True))
    return len(times) * NETWORK_ROWS / clock, NETWORK_ROWS / processor


def _network_seconds(folder: str) -> tuple[float, float]:
    classifier = Classifier.load(folder)
    rows, _ = simulate.channels(NETWORK_ROWS)
    classifier.bus_probabilities(rows[:1000])
    clock, processor = time.perf_counter(), time.process_time()
    for start in range(0, NETWORK_ROWS, BATCH_ROWS):
        classifier.bus_probabilities(rows[start : start + BATCH_ROWS])
    return time.perf_counter() - clock, time.process_time() - processor


def _parts(folder: str, partition: Partition, layout: Kind) -> dict[str, float]:
    """Microseconds of processor that a spectrum's way takes, and each part of it, one after the other."""
    classifier = Classifier.load(folder)
    calibration = classifier.calibration
    batches = [batch for _, batch in survey.batches(partition, layout)]

    def checked(batch: pa.RecordBatch) -> Any:
        if layout == "channels":
            on_channels, faults = survey.channels(batch)
            return on_channels, faults, channel_faults(on_channels)
        columns = (survey.lists(batch, name) for name in ("wavelength", "reflectance", "uncertainty"))
        return [one for one in spectra_of(*columns, survey.designations(batch)) if isinstance(one, Spectrum)]

    def answered() -> pa.Table:
        return pa.concat_tables(score_batch(batch, layout, classifier, DEFAULT_COVERAGE, 0)[0] for batch in batches)

    table = answered()
    spectra = [checked(batch) for batch in batches] if layout == "raw" else []
    rows = [smoothed(some) for some in spectra] or [survey.channels(batch)[0] for batch in batches]
    bus = [classifier.bus_probabilities(some) for some in rows]
    ways: dict[str, Callable[[], Any]] = {
        "reading": lambda: list(survey.batches(partition, layout)),
        "checks": lambda: [checked(batch) for batch in batches],
        **({"smoothing": lambda: [smoothed(some) for some in spectra]} if layout == "raw" else {}),
        "network": lambda: [classifier.bus_probabilities(some) for some in rows],
        "outlier scores": lambda: [calibration.space.outlier_scores(some) for some in rows],
        "prediction sets": lambda: [calibration.sets.of(some, DEFAULT_COVERAGE) for some in bus],
        "writing": lambda: as_parquet(table),
        "whole": lambda: (list(survey.batches(partition, layout)), as_parquet(answered())),
    }
    passes = [{name: _seconds(way) for name, way in ways.items()} for _ in range(PASSES)]  # in turn, as load may change
    parts = {name: min(one[name] for one in passes) / len(partition) * 1e6 for name in ways}
    whole = parts.pop("whole")
    return {**parts, "all else": max(whole - sum(parts.values()), 0.0), "whole": whole}


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main(
    channels: Annotated[str, typer.Option(help="Sizes of surveys on the channels.")] = "10000,100000,1000000",
    raw: Annotated[str, typer.Option(help="Sizes of raw surveys.")] = "10000,100000",
    workers: Annotated[int, typer.Option(help="Processes; 0: the cores.", min=0)] = 0,
    repeats: Annotated[int, typer.Option(help="Times that each is measured; the least counts.", min=1)] = 3,
    figure: Annotated[Path, typer.Option(help="Where the figure goes, and the numbers as JSON beside it.")] = Path(
        "docs/figures/scaling.png"
    ),
    markdown: Annotated[
        Path | None, typer.Option(help="Put the tables into this page, between its markers; docs/scaling.md has them.")
    ] = None,
) -> None:
    """Score surveys of growing size, and print, draw and write how long it took."""
    tracking.connect()
    try:
        sizes: dict[Kind, list[int]] = {"channels": _sizes(channels), "raw": _sizes(raw)}
        if markdown:  # a wrong page is told before anything is measured
            scaling_report.check(markdown)
        classifier = registry.load_classifier(f"models:/{REGISTERED_CNN}@{Alias.CHAMPION}")
    except ValueError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    with console.status("starting") as status:
        results = run(classifier, sizes, workers, repeats, status.update)
    for title, text in scaling_report.tables(results).items():
        console.print(f"\n## {title}\n\n{text}", markup=False, soft_wrap=True)
    figure.parent.mkdir(parents=True, exist_ok=True)
    scaling_report.draw(results, figure)
    figure.with_suffix(".json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    if markdown:
        scaling_report.write(results, markdown)


def _sizes(text: str) -> list[int]:
    sizes = [size for size in text.split(",") if size]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ValueError(f"expected sizes such as 10000,100000; got {text}")
    return [int(size) for size in sizes]


if __name__ == "__main__":
    typer.run(main)

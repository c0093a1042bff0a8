"""`python -m benchmarks.scaling`: score simulated surveys of growing size here; time and memory against size.

Writes a figure and the numbers behind it. The model is the champion of the registry.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from astrd import registry, simulate, tracking
from astrd.classifier import Classifier
from astrd.conformal import DEFAULT_COVERAGE
from astrd.scoring import PARTITION_ROWS, Scoring, Settings
from astrd.survey import Survey
from astrd.tracking import REGISTERED_CNN, Alias
from astrd.workers import dask_client

Kind = Literal["channels", "raw"]

PARTITIONS = 4  # at least so many in a small survey: all workers have some
NETWORK_ROWS = 100_000
console = Console()


@dataclass(frozen=True)
class Measured:
    """Scoring a survey: seconds on the clock and of the workers' processors, and the largest memory of a worker."""

    layout: Kind
    spectra: int
    seconds: float
    processor_seconds: float
    peak_megabytes: float


def _used() -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of this process; `getrusage` would count its parent's memory too."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return time.process_time(), int(peak[1]) / 1024 if peak else float("nan")


def measure(classifier: Classifier, survey: Survey, layout: Kind, folder: Path, workers: int) -> Measured:
    """Score a survey on new workers that are warm: their start, and what they import, count for nothing."""
    settings = Settings(DEFAULT_COVERAGE, 0, min(PARTITION_ROWS, max(survey.rows // PARTITIONS, 1)))
    scoring = Scoring.begin(str(folder), survey, classifier, settings)
    partitions = survey.partitions(settings.partition_rows)
    with dask_client(workers=workers) as client:
        client.run(scoring.score, 0, partitions[0])
        before = client.run(_used)
        started = time.perf_counter()
        futures = client.map(scoring.score, range(len(partitions)), partitions, pure=False)
        client.gather(futures)
        seconds = time.perf_counter() - started
        after = client.run(_used)
    scoring.finish(survey)
    busy = sum(used - before[worker][0] for worker, (used, _) in after.items())
    return Measured(layout, survey.rows, seconds, busy, max(peak for _, peak in after.values()))


def _network_seconds(classifier: Classifier) -> tuple[float, float]:
    rows, _ = simulate.channels(NETWORK_ROWS)
    classifier.bus_probabilities(rows[:1000])
    clock, processor = time.perf_counter(), time.process_time()
    classifier.bus_probabilities(rows)
    return time.perf_counter() - clock, time.process_time() - processor


def network_rates(classifier: Classifier, workers: int) -> tuple[float, float]:
    """Spectra a second through the network alone, on all workers at once: by the clock, and by their processors."""
    with dask_client(workers=workers) as client:
        times = list(client.run(_network_seconds, classifier).values())
    return len(times) * NETWORK_ROWS / max(t for t, _ in times), sum(NETWORK_ROWS / t for _, t in times)


def draw(measured: list[Measured], path: Path) -> None:
    """Processor seconds against spectra, both logarithmic, with lines of constant rate through the largest surveys.

    Seconds of the workers' processors, which other programs hardly change; those on the clock are in the table.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for layout, colour, label in (("channels", "tab:blue", "on the 49 channels"), ("raw", "tab:orange", "raw")):
        own = [m for m in measured if m.layout == layout]
        if own:
            last = max(own, key=lambda m: m.spectra)
            x = [m.spectra for m in own]
            axes.plot(x, [m.processor_seconds for m in own], "o", color=colour, label=label)
            rate = last.spectra / last.processor_seconds
            line = f"{rate:,.0f} a second and core"
            axes.plot(x, [size / rate for size in x], "--", color=colour, linewidth=1, label=line)
    axes.set(xscale="log", yscale="log", xlabel="spectra", ylabel="seconds of one core")
    axes.set_title("The time to score a survey grows in proportion to it")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main(
    channels: Annotated[str, typer.Option(help="Sizes of surveys on the channels.")] = "10000,100000,1000000",
    raw: Annotated[str, typer.Option(help="Sizes of raw surveys.")] = "10000,100000",
    workers: Annotated[int, typer.Option(help="Processes; 0: the cores.", min=0)] = 0,
    repeats: Annotated[int, typer.Option(help="Times that each is measured; the quickest counts.", min=1)] = 1,
    figure: Annotated[Path, typer.Option(help="Where the figure goes, and the numbers as JSON beside it.")] = Path(
        "docs/figures/scaling.png"
    ),
) -> None:
    """Score surveys of growing size, and print, draw and write how long it took."""
    tracking.connect()
    classifier = registry.load_classifier(f"models:/{REGISTERED_CNN}@{Alias.CHAMPION}")
    measured: list[Measured] = []
    surveys: tuple[tuple[Kind, str], ...] = (("channels", channels), ("raw", raw))
    for layout, sizes in surveys:
        for size in [int(size) for size in sizes.split(",") if size]:
            with tempfile.TemporaryDirectory() as folder:
                for _ in simulate.write(Path(folder) / "survey", size, layout):
                    pass
                survey = Survey.find(f"{folder}/survey")
                tries = [
                    measure(classifier, survey, layout, Path(folder) / f"answers{number}", workers)
                    for number in range(repeats)
                ]
            measured.append(min(tries, key=lambda m: m.seconds))
            console.print(f"{layout}, {size} spectra: {measured[-1].seconds:.1f} s", style="dim")
    by_clock, by_processor = network_rates(classifier, workers)

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("spectra", "seconds", "a second", "a second of a core", "MB of a worker"):
        table.add_column(column, justify="right")
    for m in measured:
        table.add_row(
            f"{m.spectra:,} {m.layout}", f"{m.seconds:.1f}", f"{m.spectra / m.seconds:,.0f}",
            f"{m.spectra / m.processor_seconds:,.0f}", f"{m.peak_megabytes:.0f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"Network alone: {by_clock:,.0f} a second; {by_processor:,.0f} if no other program took time away")
    used = workers or len(os.sched_getaffinity(0))
    console.print(f"{used} workers on {os.cpu_count()} x {platform.machine()}; the quickest of {repeats}")
    draw(measured, figure)
    numbers = {
        "workers": used,
        "repeats": repeats,
        "network_a_second": by_clock,
        "network_a_processor_second": by_processor,
        "surveys": [asdict(m) for m in measured],
    }
    figure.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)

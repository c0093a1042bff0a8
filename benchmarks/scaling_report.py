"""What scoring surveys cost, as tables of Markdown and as a figure; and what it would for a hundred million spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from astrd.scoring import PARTITION_ROWS
from benchmarks.reporting import Machine, around_part, write_between

Kind = Literal["channels", "raw"]

TARGETS: Final[Mapping[Kind, int]] = {"channels": 50_000, "raw": 8_000}
"""Spectra a second, on two workers here, of the largest survey."""

NETWORK_TARGET: Final = 100_000
MEMORY_TARGET: Final = 1500
"""MB of a worker."""

LARGE, CLUSTER = 10**8, 64
SURVEYS, PARTS, ESTIMATE = "surveys", "parts", "estimate"
_COLOURS: Final[Mapping[Kind, str]] = {"channels": "tab:blue", "raw": "tab:orange"}
_NAMES: Final[Mapping[Kind, str]] = {"channels": "on the channels", "raw": "raw"}


@dataclass(frozen=True)
class Scored:
    """A survey that was scored: seconds on the clock and of the workers' processors, and the largest worker's memory.

    `read_bytes` and `written_bytes` are those of the files.
    """

    layout: Kind
    spectra: int
    seconds: float
    processor_seconds: float
    peak_megabytes: float
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class Results:
    """All that was measured.

    `network_a_second` is the rate of the network alone on all workers at once, `network_a_core` that of a second of
    processor; `parts` are microseconds of processor a spectrum, by layout.
    """

    machine: Machine
    workers: int
    repeats: int
    surveys: tuple[Scored, ...]
    network_a_second: float
    network_a_core: float
    parts: Mapping[Kind, Mapping[str, float]]


def tables(results: Results) -> dict[str, str]:
    """The tables in Markdown, by the marked parts of the page to which they belong."""
    return {SURVEYS: _surveys(results), PARTS: _parts(results), ESTIMATE: _estimate(results)}


def check(page: Path) -> None:
    """Raise `PageError` if the page lacks a marked part."""
    for part in (SURVEYS, PARTS, ESTIMATE):
        around_part(page, part)


def write(results: Results, page: Path) -> None:
    """Put the tables into a page, between its markers."""
    for part, text in tables(results).items():
        write_between(page, text, part)


def draw(results: Results, path: Path) -> None:
    """Processor seconds against spectra, both logarithmic, with lines of constant rate through the largest surveys.

    Seconds of the workers' processors, which other programs hardly change; those on the clock are in the table.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for kind, last in _largest(results).items():
        own = [scored for scored in results.surveys if scored.layout == kind]
        x = [scored.spectra for scored in own]
        axes.plot(x, [scored.processor_seconds for scored in own], "o", color=_COLOURS[kind], label=_NAMES[kind])
        rate = last.spectra / last.processor_seconds
        line = f"{rate:,.0f} a second and core"
        axes.plot(x, [size / rate for size in x], "--", color=_COLOURS[kind], linewidth=1, label=line)
    axes.set(xscale="log", yscale="log", xlabel="spectra", ylabel="seconds of one core")
    axes.set_title("The time to score a survey grows in proportion to it")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def _largest(results: Results) -> dict[Kind, Scored]:
    by_size = sorted(results.surveys, key=lambda scored: scored.spectra)
    return {scored.layout: scored for scored in by_size}


def _surveys(results: Results) -> str:
    largest = _largest(results)
    rows = [
        (
            f"{one.spectra:,} {_NAMES[one.layout]}",
            f"{one.seconds:.1f}",
            f"{one.spectra / one.seconds:,.0f}",
            f"{one.spectra / one.processor_seconds:,.0f}",
            f"{one.processor_seconds / one.seconds / results.workers:.0%}",
            f"{one.peak_megabytes:.0f} MB",
            _target(one.spectra / one.seconds, TARGETS[one.layout]) if one is largest[one.layout] else "",
        )
        for one in results.surveys
    ]
    alone = results.network_a_second
    network = f"{results.network_a_core:,.0f}"
    share = f"{alone / results.network_a_core / results.workers:.0%}"
    rows.append(("the network alone", "", f"{alone:,.0f}", network, share, "", _target(alone, NETWORK_TARGET)))
    head = ("spectra", "seconds", "a second", "a second of a core", "of the cores", "peak memory of a worker", "target")
    times = "once" if results.repeats == 1 else f"{results.repeats} times, of which the least counts"
    return f"{_markdown(head, rows)}\n\n{results.workers} workers, each survey {times}. {results.machine}."


def _parts(results: Results) -> str:
    names = max(results.parts.values(), key=len)
    rows = [
        (name, *(f"{parts[name]:.1f}" if name in parts else "" for parts in results.parts.values())) for name in names
    ]
    return _markdown(("µs of processor a spectrum", *(_NAMES[kind] for kind in results.parts)), rows)


def _estimate(results: Results) -> str:
    columns = [_estimate_of(one, results.workers) for one in _largest(results).values()]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    return _markdown(("", *(_NAMES[kind] for kind in _largest(results))), rows)


def _estimate_of(scored: Scored, workers: int) -> dict[str, str]:
    rate = scored.spectra / scored.processor_seconds
    seconds, wide = LARGE / rate, LARGE / rate / CLUSTER
    read, written = scored.read_bytes / scored.spectra, scored.written_bytes / scored.spectra
    moved = (read + written) * LARGE / 1e9
    memory = scored.peak_megabytes / 1000
    return {
        "processor time": f"10⁸ / {rate:,.0f} = {seconds:,.0f} s = {seconds / 3600:.1f} core hours",
        f"on {workers} cores": _duration(seconds / workers),
        f"on {CLUSTER} cores": _duration(wide),
        "to read": f"{read:.0f} bytes each: {read * LARGE / 1e9:.0f} GB",
        "to write": f"{written:.0f} bytes each: {written * LARGE / 1e9:.0f} GB",
        "storage has to give and take then": f"{moved:.0f} GB in {wide:.0f} s = {moved / wide:.1f} GB/s",
        f"partitions of {PARTITION_ROWS:,}": f"{LARGE // PARTITION_ROWS:,}, {PARTITION_ROWS / rate:.1f} s each",
        "memory of all workers": f"{CLUSTER} x {memory:.2f} GB = {CLUSTER * memory:.0f} GB",
    }


def _target(rate: float, target: int) -> str:
    return f"≥ {target:,} {'met' if rate >= target else 'not met'}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)

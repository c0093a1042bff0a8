"""What was measured, in the terminal, as JSON and as Markdown: the same figures in each."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.table import Table

from astrd.workers import cores
from benchmarks.measuring import Measured

PACKAGES: Final = ("numpy", "scipy", "pandas", "tensorflow", "keras", "onnxruntime", "mlflow")
BEGIN, END = "<!-- begin: {} -->", "<!-- end: {} -->"
FIGURES: Final = "figures"
"""The marked part of a page that holds the table."""

COLUMNS: Final = (
    "benchmark", "ours", "against", "our cost", "its cost", "ratio", "least to most", "by processor", "target"
)  # fmt: skip
LEGEND: Final = "Ratio: how many times less ours costs; where the target is ≤, how many times as much as it."


@dataclass(frozen=True)
class Machine:
    """Where it was measured: processor, cores, load before the run, versions."""

    processor: str
    cores: int
    load_before: tuple[float, float, float]
    system: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> Machine:
        versions = {package: version(package) for package in PACKAGES}
        system = f"{platform.system()}, Python {sys.version.split()[0]}"
        return cls(_processor(), cores(), os.getloadavg(), system, versions)

    def __str__(self) -> str:
        load = ", ".join(f"{value:.1f}" for value in self.load_before)
        packages = ", ".join(f"{package} {number}" for package, number in self.versions.items())
        return f"{self.processor}, {self.cores} cores, load before {load}; {self.system}; {packages}"


def cells(measured: Measured) -> tuple[str, ...]:
    """A row of the table, in the order of `COLUMNS`."""
    comparison, (own, other) = measured.comparison, measured.costs
    processor = measured.processor_ratio
    target = ""
    if comparison.target is not None:
        sign = "≤" if comparison.floor else "≥"
        target = f"{sign} {comparison.target:g} {'met' if measured.met else 'not met'}"
        target = ": ".join(filter(None, (target, comparison.lacking())))
    return (
        comparison.name,
        comparison.ours,
        "; ".join(filter(None, (comparison.theirs, comparison.found()))),
        comparison.unit.written(own),
        comparison.unit.written(other),
        _written(measured.ratio),
        f"{_short(min(measured.ratios))} to {_short(max(measured.ratios))}",
        "" if processor is None else _written(processor),
        target,
    )


def terminal_table(results: Sequence[Measured]) -> Table:
    """Names and figures, in 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name in ("benchmark", "our cost", "its cost", "ratio", "range", "CPU", "target"):
        table.add_column(name, justify="left" if name in ("benchmark", "target") else "right", no_wrap=True)
    for measured in results:
        name, _, _, own, other, ratio, spread, processor, target = cells(measured)
        style = {True: "green", False: "yellow", None: "none"}[measured.met]
        target, _, lacking = target.partition(": ")
        if lacking:
            table.caption = "\n".join(filter(None, (str(table.caption or ""), f"{name}: {lacking}")))
        spread, target = spread.replace(" to ", "-"), target.replace("not met", "✗").replace("met", "✓")
        table.add_row(name, own, other, f"[bold]{ratio}[/]", spread, processor, f"[{style}]{target}[/]")
    return table


def as_json(results: Sequence[Measured], machine: Machine, pairs: int, size: str) -> dict[str, Any]:
    """All readings, with the figures that are made of them."""
    return {
        "machine": asdict(machine),
        "pairs": pairs,
        "size": size,
        "benchmarks": [
            {
                **dict(zip(("name", "ours", "against"), cells(measured)[:3], strict=True)),
                "equal": measured.comparison.equal,
                "unit": measured.comparison.unit.name,
                "costs": [measured.comparison.unit.of(cost) for cost in measured.costs],
                "ratio_of": "ours to other" if measured.comparison.floor else "other to ours",
                "ratio": measured.ratio,
                "ratios": measured.ratios,
                "processor_ratio": measured.processor_ratio,
                "target": measured.comparison.target,
                "met": measured.met,
                "lacking": measured.comparison.lacking(),
                "readings": [[asdict(reading) for reading in pair] for pair in measured.pairs],
            }
            for measured in results
        ],
    }


def as_markdown(results: Sequence[Measured], machine: Machine, pairs: int, size: str) -> str:
    """The table, with the machine under it."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(cells(measured) for measured in results)]
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    return "\n".join([*lines, "", LEGEND, f"Medians of {pairs} pairs, size {size}, on {machine}."])


class PageError(ValueError):
    """A page has no place for the table; the message names the lines that it lacks."""


def around_part(path: Path, part: str = FIGURES) -> tuple[str, str]:
    """What stands before and after the marked part of a page, with the marks.

    Raises
    ------
    PageError
        If the page has no such part.
    """
    begin, end = BEGIN.format(part), END.format(part)
    before, found, rest = (path.read_text() if path.is_file() else "").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise PageError(f"expected a page with the lines {begin} and {end}, between which the table goes; got {path}")
    return before + begin, end + after


def write_between(path: Path, text: str, part: str = FIGURES) -> None:
    """Put text in the place of a page's marked part.

    Raises
    ------
    PageError
        If the page has no such part.
    """
    path.write_text(f"\n{text}\n".join(around_part(path, part)))


def _written(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}"


def _short(ratio: float) -> str:
    return f"{ratio:.1f}" if round(ratio, 1) < 10 else f"{ratio:.0f}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", information.read_text()) if information.exists() else None
    return found[1] if found else platform.processor() or platform.machine()

"""`python -m benchmarks [NAME ...]`: print how much less our way costs than another one, pair by pair."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.measuring import FEWEST_PAIRS, Measured, measure
from benchmarks.reporting import (
    FIGURES,
    LEGEND,
    Machine,
    PageError,
    around_part,
    as_json,
    as_markdown,
    terminal_table,
    write_between,
)
from benchmarks.servers import ServerError
from benchmarks.setting import Setting, Size, setting
from benchmarks.suite import BENCHMARKS

console = Console(highlight=False)


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHMARKS)}; none: all.")] = None,
    pairs: Annotated[int, typer.Option(help="How often both ways are measured in turn.", min=FEWEST_PAIRS)] = 5,
    size: Annotated[Size, typer.Option(help="quick: smaller amounts, minutes; tiny: to see that it runs.")] = Size.FULL,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all readings here.")] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Put the table into this page, between its markers.")
    ] = None,
    part: Annotated[str, typer.Option(help="Which markers of the page: those that begin and end this.")] = FIGURES,
) -> None:
    """Measure our way and another one in turn, and print the ratios of what they cost."""
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            raise _failed(f"expected a benchmark of {', '.join(BENCHMARKS)}; got {name}")
    # What cannot be written to is told before anything is measured.
    if json_file and not json_file.parent.is_dir():
        raise _failed(f"expected a folder that exists, got {json_file.parent}: make it, or name another file")
    try:
        if markdown_file:
            around_part(markdown_file, part)  # a wrong page is told before anything is measured
        chosen = names or [name for name, one in BENCHMARKS.items() if size is Size.FULL or not one.takes_long]
        if left_out := [name for name in BENCHMARKS if not names and name not in chosen]:
            _tell(f"left out, as they take long: {', '.join(left_out)}; they run if they are named")
        page = (markdown_file, part) if markdown_file else None
        _run(chosen, pairs, size, json_file, page)
    except (PageError, ServerError) as error:
        raise _failed(str(error)) from error


def _run(names: Sequence[str], pairs: int, size: Size, json_file: Path | None, page: tuple[Path, str] | None) -> None:
    machine, started = Machine.here(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="astrd-bench-") as folder, setting(size, Path(folder), _tell) as shared:
        results = [measured for name in names for measured in _measured(name, shared, pairs)]
    table = terminal_table(results)
    console.print(table)
    console.print(LEGEND)
    if size is not Size.FULL:
        console.print("Targets are those of the full size.", style="dim")
    said = f"Medians of {pairs} pairs, size {size}, {time.monotonic() - started:.0f} s. {machine}"
    console.print(said, soft_wrap=True)
    if json_file:
        json_file.write_text(json.dumps(as_json(results, machine, pairs, size), indent=1) + "\n")
    if page:
        path, part = page
        write_between(path, as_markdown(results, machine, pairs, size), part)


def _measured(name: str, shared: Setting, pairs: int) -> Sequence[Measured]:
    results = []
    _tell(f"{name}: {BENCHMARKS[name].about}")
    started = time.monotonic()
    with console.status(f"{name}: preparing") as status:
        for comparison in BENCHMARKS[name].comparisons(shared):
            _tell(f"  {comparison.ours}; against {comparison.theirs}".replace("`", ""))
            status.update(f"{comparison.name}: both ways once, unseen")
            for done in measure(comparison, pairs):
                measured = Measured(comparison, done)
                status.update(f"{comparison.name}: pair {len(done)} of {pairs}, ratio {measured.ratio:.2f}")
            results.append(measured)
    _tell(f"{name}: done in {time.monotonic() - started:.0f} s")
    return results


def _failed(message: str) -> typer.Exit:
    console.print(message, style="red", markup=False, soft_wrap=True)
    return typer.Exit(1)


def _tell(text: str) -> None:
    console.print(text, style="dim", soft_wrap=True, markup=False)


if __name__ == "__main__":
    typer.run(main)

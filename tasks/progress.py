"""What a person sees while steps run: live bars in a terminal, lines elsewhere, Prefect's log where nobody watches."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from astrd import effort

LINE_EVERY = 60.0
"""Seconds between the lines of a step that takes long, where there is no terminal to draw bars in."""

_bars: Progress | None = None


@contextlib.contextmanager
def display(console: Console) -> Iterator[None]:
    """Show steps on the console while the block runs."""
    global _bars
    _bars = Progress(
        SpinnerColumn(finished_text="·"),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    try:
        with _bars:
            yield
    finally:
        _bars = None


@dataclass
class Step:
    """A step under way. `note` says what is best so far; its last value stands in the line that remains."""

    title: str
    note: str = ""
    done: int = 0
    bar: TaskID | None = None
    told: float = field(default_factory=time.monotonic)

    def show(self, done: int | None = None, note: str | None = None) -> None:
        """Show how many parts are done, and a note."""
        self.done = self.done if done is None else done
        self.note = self.note if note is None else note
        if _bars is not None and self.bar is not None:
            _bars.update(self.bar, completed=self.done, note=self.note)
            if _bars.disable and time.monotonic() - self.told >= LINE_EVERY:
                self.told = time.monotonic()
                total = _bars.tasks[_bars.task_ids.index(self.bar)].total
                parts = f"{self.done} of {total:.0f}, " if total else ""
                _bars.console.print(f"· {self.title:<28} {parts}{self.note}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def step(title: str, parts: int | None = None) -> Iterator[Step]:
    """A step of so many parts; what it comes to is printed, or logged, when it ends."""
    shown = Step(title)
    if _bars is not None:
        shown.bar = _bars.add_task(title, total=parts, note="")
    started = time.perf_counter()
    end = "failed"
    try:
        with effort.computing():
            yield shown
        end = "done"
    finally:
        seconds = time.perf_counter() - started
        if _bars is None:
            _logger().info("%s: %s in %.1f s%s", title, end, seconds, f": {shown.note}" if shown.note else "")
        else:
            _bars.console.print(
                f"{'[green]✓[/]' if end == 'done' else '[red]✗[/]'} {title:<28} {seconds:6.1f} s  [dim]{shown.note}[/]",
                highlight=False,
                soft_wrap=True,
            )
            if shown.bar is not None:
                _bars.remove_task(shown.bar)


def tell(message: str) -> None:
    """Say something that must not be missed."""
    if _bars is None:
        _logger().warning(message)
    else:
        _bars.console.print(f"[bold yellow]{message}[/]", highlight=False, soft_wrap=True)


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("astrd")

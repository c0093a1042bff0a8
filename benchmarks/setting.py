"""What the benchmarks work on: how much of it, the spectra, and what they share and is made when first asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Final

import pandas as pd

from astrd import simulate, smass
from astrd.catalogue import EPOCHS
from astrd.network_search import CNN_TRIALS
from benchmarks.models import TwoForms, find_or_make
from benchmarks.servers import Servers, served
from benchmarks.stock import tensorflow_as_it_comes

RAW_FOLDER: Final = Path("data/raw")
ASTEROIDS: Final = 1341
"""In the archive that has a spectrum and a class, and so in the simulated survey that stands in for it."""


class Size(StrEnum):
    """How much is measured: `full` for figures, `quick` for a look within minutes, `tiny` to see that it runs."""

    FULL = "full"
    QUICK = "quick"
    TINY = "tiny"


@dataclass(frozen=True)
class Amounts:
    """`asteroids` that are ingested and smoothed; `epochs` of a reading; spectra of a library call.

    A reading over HTTP is `requests` of one spectrum by one client, or `rounds` of `rows` spectra by each of `clients`.
    A search has `trials` of at most `trial_epochs`; the main job has the options `job`.
    """

    asteroids: int
    epochs: int
    batch: int
    requests: int
    clients: int
    rows: int
    rounds: int
    trials: int
    trial_epochs: int
    job: tuple[str, ...] = ()


_SHORT: Final = ("--trials", "1", "--svm-trials", "1", "--epochs", "2")

AMOUNTS: Final = {
    Size.FULL: Amounts(
        ASTEROIDS, epochs=20, batch=100_000, requests=100, clients=8, rows=1000, rounds=3,
        trials=CNN_TRIALS, trial_epochs=EPOCHS,
    ),
    Size.QUICK: Amounts(
        200, epochs=6, batch=10_000, requests=20, clients=8, rows=1000, rounds=1,
        trials=8, trial_epochs=EPOCHS, job=_SHORT,
    ),
    Size.TINY: Amounts(
        60, epochs=2, batch=100, requests=2, clients=2, rows=5, rounds=1,
        trials=1, trial_epochs=1, job=_SHORT,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What benchmarks share: amounts, a folder that is theirs, and servers that run until the stack closes."""

    amounts: Amounts
    folder: Path
    stack: contextlib.ExitStack = field(repr=False)
    tell: Callable[[str], None] = field(repr=False)

    @cached_property
    def archive(self) -> smass.ArchivePaths | None:
        """The archive's two files if this machine has them; the official address is not asked."""
        if all((RAW_FOLDER / file.name).is_file() for file in smass.FILES):
            return smass.fetch(RAW_FOLDER)
        if os.environ.get(smass.MIRROR_VARIABLE):
            return smass.fetch(self.folder / "archive")
        return None

    @cached_property
    def spectra(self) -> tuple[pd.DataFrame, str]:
        """The table of raw spectra, and what they are: of the archive, or simulated. All of them."""
        if self.archive is not None:
            return smass.read(self.archive).table, "SMASS II"
        return simulate.survey(ASTEROIDS), "simulated"

    @cached_property
    def stock(self) -> Executor:
        """A process in which TensorFlow is as it comes."""
        return self.stack.enter_context(tensorflow_as_it_comes())

    @cached_property
    def model(self) -> TwoForms:
        """The champion, or a small one that is made here."""
        return find_or_make(self.folder / "models", self.spectra[0], self.tell)

    @cached_property
    def servers(self) -> Servers:
        """Servers of the model, and of its network as MLflow's keras flavor."""
        model = self.model
        self.tell("starting three servers")
        return self.stack.enter_context(served(model, self.folder))


@contextlib.contextmanager
def setting(size: Size, folder: Path, tell: Callable[[str], None]) -> Iterator[Setting]:
    """A setting of that size; its servers end with the block."""
    with contextlib.ExitStack() as stack:
        yield Setting(AMOUNTS[size], folder, stack, tell)

"""The benchmarks by name. One more is a function that yields comparisons, and a line in `BENCHMARKS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks import classify, epoch, ingest, serving, smoothing
from benchmarks.measuring import Comparison
from benchmarks.setting import Setting


@dataclass(frozen=True)
class Benchmark:
    """A question about speed.

    `comparisons` makes what is measured, of a size; what it yields is measured before it goes on.
    """

    about: str
    comparisons: Callable[[Setting], Iterator[Comparison]]


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "ingest": Benchmark("the archive's files to one Parquet table", ingest.comparisons),
    "smoothing": Benchmark("raw spectra to Bus's 49 channels", smoothing.comparisons),
    "epoch": Benchmark("training a network for one epoch", epoch.comparisons),
    "classify": Benchmark("a survey on the 49 channels to answers, in this process", classify.comparisons),
    "serve-one": Benchmark("one spectrum over HTTP", serving.one),
    "serve-many": Benchmark("clients that send a thousand spectra at once", serving.many),
    "memory": Benchmark("the memory of a model's server", serving.memory),
}

"""The benchmarks by name. One more is a function that yields comparisons, and a line in `BENCHMARKS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks import classify, epoch, ingest, pipeline, search, serving, smoothing
from benchmarks.measuring import Comparison
from benchmarks.setting import Setting


@dataclass(frozen=True)
class Benchmark:
    """A question about speed.

    `comparisons` makes what is measured, of a size; what it yields is measured before it goes on. One that
    takes long is left out of a quick run, unless it is named.
    """

    about: str
    comparisons: Callable[[Setting], Iterator[Comparison]]
    takes_long: bool = False


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "ingest": Benchmark("the archive's files to one Parquet table", ingest.comparisons),
    "smoothing": Benchmark("raw spectra to Bus's 49 channels", smoothing.comparisons),
    "epoch": Benchmark("training a network for one epoch", epoch.comparisons),
    "classify": Benchmark("a survey on the 49 channels to answers, in this process", classify.comparisons),
    "serve-one": Benchmark("one spectrum over HTTP", serving.one),
    "serve-many": Benchmark("clients that send a thousand spectra at once", serving.many),
    "memory": Benchmark("the memory of a model's server", serving.memory),
    "search": Benchmark("a search over networks", search.comparisons, takes_long=True),
    "pipeline": Benchmark("the main job, and what its workers compute", pipeline.comparisons, takes_long=True),
}

"""Two ways to one end, measured in turn: what each costs, pair by pair, and the ratio of the two.

Other programs slow both ways of a pair alike, so the ratio holds where times do not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

FEWEST_PAIRS: Final = 5


@dataclass(frozen=True)
class Reading:
    """What a way cost once: `cost` in its comparison's unit, and seconds of processor, if they were measured."""

    cost: float
    processor: float | None = None


Way = Callable[[], Reading]


@dataclass(frozen=True)
class Unit:
    """How a cost is written, in the tables and in words: seconds as milliseconds, or as spectra a second, or bytes."""

    name: str
    of: Callable[[float], float]
    decimals: int

    def written(self, cost: float) -> str:
        value = self.of(cost)
        return f"{value:,.{0 if value >= 100 else self.decimals}f} {self.name}"


MILLISECONDS: Final = Unit("ms", lambda seconds: seconds * 1000, 1)
SECONDS: Final = Unit("s", lambda seconds: seconds, 1)
MEGABYTES: Final = Unit("MB", lambda size: size / 1e6, 0)


def spectra_a_second(spectra: int) -> Unit:
    """Seconds for so many spectra, as how many a second."""
    return Unit("/s", lambda seconds: spectra / seconds, 0)


@dataclass(frozen=True)
class Comparison:
    """Our way beside another one.

    `target` is what the ratio should come to: how many times less ours costs, at least; or, beside a `floor`, below
    which no way can fall, how many times as much it costs, at most. What it asks for besides, and is `lacking`, is
    named by that; "" if nothing is. `equal` says what was found equal beforehand, `found` what came out.
    Ways that are `rehearsed` are run once unseen.
    """

    name: str
    ours: str
    theirs: str
    our_way: Way = field(repr=False)
    their_way: Way = field(repr=False)
    target: float | None = None
    floor: bool = False
    unit: Unit = MILLISECONDS
    equal: str = ""
    rehearsed: bool = True
    found: Callable[[], str] = field(default=lambda: "", repr=False)
    lacking: Callable[[], str] = field(default=lambda: "", repr=False)

    def ratio(self, own: float, other: float) -> float:
        """Of two costs: other to own; beside a floor, own to other."""
        return own / other if self.floor else other / own


@dataclass(frozen=True)
class Measured:
    """A comparison with the readings of its pairs, ours first."""

    comparison: Comparison
    pairs: tuple[tuple[Reading, Reading], ...]

    @property
    def ratios(self) -> list[float]:
        return [self.comparison.ratio(own.cost, other.cost) for own, other in self.pairs]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return statistics.median(self.ratios)

    @property
    def processor_ratio(self) -> float | None:
        """The same of the seconds of processor; None if they were not measured."""
        ratios = [
            self.comparison.ratio(own.processor, other.processor)
            for own, other in self.pairs
            if own.processor and other.processor
        ]
        return statistics.median(ratios) if ratios else None

    @property
    def costs(self) -> tuple[float, float]:
        """Median costs, ours first."""
        own, other = (statistics.median(reading.cost for reading in way) for way in zip(*self.pairs, strict=True))
        return own, other

    @property
    def met(self) -> bool | None:
        """Whether the median ratio comes to the target, and nothing else is lacking; None if there is no target."""
        comparison = self.comparison
        if comparison.target is None:
            return None
        if comparison.lacking():
            return False
        return self.ratio <= comparison.target if comparison.floor else self.ratio >= comparison.target


def measure(comparison: Comparison, pairs: int) -> Iterator[tuple[tuple[Reading, Reading], ...]]:
    """Measure both ways in turn, `pairs` times; yields all pairs so far.

    Which way goes first changes from pair to pair.
    """
    if comparison.rehearsed:
        comparison.our_way(), comparison.their_way()
    done: tuple[tuple[Reading, Reading], ...] = ()
    for number in range(pairs):
        if number % 2:
            other, own = comparison.their_way(), comparison.our_way()
        else:
            own, other = comparison.our_way(), comparison.their_way()
        done = (*done, (own, other))
        yield done


def timed(work: Callable[[], object]) -> Way:
    """A way whose cost is the time that the work takes in this process."""

    def way() -> Reading:
        processor, clock = time.process_time(), time.perf_counter()
        work()
        return Reading(time.perf_counter() - clock, time.process_time() - processor)

    return way


def clocked(work: Callable[[], object]) -> Way:
    """The same for work that other processes do, whose processors are not looked at."""
    way = timed(work)
    return lambda: Reading(way().cost)

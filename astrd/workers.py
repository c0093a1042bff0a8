"""Where pieces of work are done: here in turn, or on a Dask cluster, one that is there or one made for the while."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from distributed import Client, Worker

Part = TypeVar("Part")
Result = TypeVar("Result")

MEMORY_LIMIT: Final = "1.5 GB"
"""Of a worker of ours that scores; Dask starts one anew that goes beyond."""

PATIENCE: Final = 60.0  # seconds to wait for a cluster's first worker


_SETTINGS: Final = {
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    # Dask has the C library give back what is freed at once, and each step of a network asks for its memory anew:
    # trials took a sixth longer.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,  # nobody looks at it, and it stops the work a hundred times a second
}


class NoWorkersError(RuntimeError):
    """A Dask cluster that cannot be reached, or has no worker."""


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(Protocol):
    """Where pieces of work are done, `count` of them at once."""

    @property
    def count(self) -> int: ...

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have a function called; it and what it takes and gives must pickle."""
        ...


@dataclass(frozen=True)
class InTurn:
    """This process, which does each piece as it comes."""

    count: int = 1

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Call the function before this returns."""
        future: Future[Result] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class OnDask:
    """The workers of a Dask cluster. A piece whose worker dies is done again by another one."""

    client: Client
    executor: Executor
    priority: int

    @property
    def count(self) -> int:
        """Of the moment: a cluster's workers may come one by one, and go."""
        return max(sum(self.client.nthreads().values()), 1)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have the cluster call the function."""
        return self.executor.submit(function, *arguments, priority=self.priority, pure=False)


def as_done(
    workers: Workers, function: Callable[..., Result], pieces: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[int, Future[Result]]]:
    """Have a function called with each piece's arguments, and tell of the pieces, by their place, as they are done.

    As many are under way as there are workers, so that several steps that share them get on side by side.
    """
    waiting = enumerate(pieces)
    under_way: dict[Future[Result], int] = {}
    try:
        while True:
            for place, arguments in islice(waiting, max(workers.count - len(under_way), 0)):
                under_way[workers.submit(function, *arguments)] = place
            if not under_way:
                return
            for future in sorted(wait(under_way, return_when=FIRST_COMPLETED).done, key=lambda done: under_way[done]):
                yield under_way.pop(future), future
    finally:
        for future in under_way:
            future.cancel()  # nobody waits for them any more


def each(
    workers: Workers,
    function: Callable[..., Result],
    pieces: Sequence[tuple[Any, ...]],
    on_done: Callable[[int], None] = lambda piece: None,
) -> list[Result]:
    """Results of a function for each piece's arguments, in the order of the pieces.

    Parameters
    ----------
    on_done
        Called with the place of each piece that is done, in whatever order they are.
    """
    results: dict[int, Result] = {}
    for place, future in as_done(workers, function, pieces):
        results[place] = future.result()
        on_done(place)
    return [results[place] for place in range(len(pieces))]


def in_groups(
    workers: Workers,
    function: Callable[[Sequence[Part]], Sequence[Result]],
    parts: Sequence[Part],
    size: int,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Result]:
    """What a function makes of each part, if it takes several at once; `on_done` is told how many are done.

    The size of a group does not depend on the workers, so that results do not either.
    """
    groups = [(parts[start : start + size],) for start in range(0, len(parts), size)]
    done = 0

    def count(group: int) -> None:
        nonlocal done
        done += len(groups[group][0])
        on_done(done)

    return [result for group in each(workers, function, groups, count) for result in group]


@contextlib.contextmanager
def workers_at(address: str, priority: int = 0) -> Iterator[Workers]:
    """The workers of the cluster at an address; without one, this process.

    Parameters
    ----------
    priority
        Pieces of the greatest are done first.
    """
    if not address:
        yield InTurn()
        return
    with connected(address) as client:
        yield OnDask(client, client.get_executor(), priority)


@contextlib.contextmanager
def cluster(scheduler: str = "", workers: int = 0, memory: str = "auto") -> Iterator[str]:
    """The address of a Dask cluster.

    Parameters
    ----------
    scheduler
        Address of one that runs, such as `tcp://host:8786`. Without it, one is made on this machine, and ends with
        the block, or with this process.
    workers
        Processes of one that is made, each with one thread; 0: as many as there are cores.
    memory
        Of each; Dask starts one anew that goes beyond.

    Raises
    ------
    NoWorkersError
        If the scheduler does not answer, or has no worker.
    """
    import dask
    from distributed import LocalCluster

    if scheduler:
        with connected(scheduler):
            yield scheduler
        return
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong in the work is raised
    with (
        dask.config.set(_SETTINGS),
        _unseen_main_module(),
        LocalCluster(
            n_workers=workers or cores(),
            threads_per_worker=1,
            preload=[__name__],
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any port that is free, as several jobs may run at once
        ) as local,
    ):
        yield local.scheduler_address


def dask_setup(worker: Worker) -> None:
    """Called by Dask in a worker process of ours as it starts.

    At its end the process is to leave at once, as there is nothing left to write: Python would first take all modules
    apart, for most of a second where TensorFlow is one.
    """
    atexit.register(os._exit, 0)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the Dask cluster at an address.

    Raises
    ------
    NoWorkersError
        If the scheduler does not answer, or has no worker.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise NoWorkersError(
            f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, and workers "
            f"with `dask worker {address}`"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise NoWorkersError(
                f"the Dask scheduler at {address} has no worker: start some with `dask worker {address}`"
            ) from error
        yield client


def processor_seconds(address: str) -> float:
    """What the workers of a cluster have computed since they were started."""
    with connected(address) as client:
        return float(sum(client.run(time.process_time).values()))


@contextlib.contextmanager
def dask_client(scheduler: str = "", workers: int = 0) -> Iterator[Client]:
    """A client of a cluster to score on, which is there or made; as `cluster` has it."""
    with cluster(scheduler, workers, MEMORY_LIMIT) as address, connected(address) as client:
        yield client


@contextlib.contextmanager
def _unseen_main_module() -> Iterator[None]:
    """Keep new processes from importing the program that is run, with Prefect and all else that workers do not need.

    Python starts them with a copy of the main module, wherever that says where it comes from.
    """
    main = sys.modules["__main__"]
    spec, file = main.__spec__, main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__, main.__file__ = spec, file

"""Where work that is spread over processes runs: on a Dask cluster that is there, or on one made for the while."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from distributed import Client

MEMORY_LIMIT: Final = "1.5 GB"
"""Of a worker of ours; Dask starts one anew that goes beyond."""

PATIENCE: Final = 60.0  # seconds to wait for a cluster's first worker


class NoWorkersError(RuntimeError):
    """A Dask cluster that cannot be reached, or has no worker."""


@contextlib.contextmanager
def dask_client(scheduler: str = "", workers: int = 0) -> Iterator[Client]:
    """A client of a Dask cluster.

    Parameters
    ----------
    scheduler
        Address of one that runs, such as `tcp://host:8786`. Without it, one is made on this machine, and ends with
        the block, or with this process.
    workers
        Processes of one that is made, each with one thread; 0: as many as there are cores.

    Raises
    ------
    NoWorkersError
        If the scheduler does not answer, or has no worker.
    """
    import dask
    from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise NoWorkersError(
                f"no Dask scheduler answers at {scheduler} ({error}): start one with `dask scheduler`, and workers "
                f"with `dask worker {scheduler}`"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError as error:
                raise NoWorkersError(
                    f"the Dask scheduler at {scheduler} has no worker: start some with `dask worker {scheduler}`"
                ) from error
            yield client
        return
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong in the work is raised
    quiet = {"distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical"}
    with (
        dask.config.set(quiet),
        _unseen_main_module(),
        LocalCluster(
            n_workers=workers or len(os.sched_getaffinity(0)),
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
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

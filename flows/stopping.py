"""What a flow that runs as a command does when it is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from rich.console import Console

from astrd.tracking import kill_open_runs

STOPPING = (signal.SIGINT, signal.SIGTERM)
STOP_PATIENCE = 10.0  # seconds to leave things in order before the process ends

console = Console(stderr=False)


def _stop(signal_number: int, frame: object) -> None:
    """End at once, and say so in MLflow: threads that train would go on to their end, and Prefect's server is gone."""
    console.show_cursor(True)
    console.print("Stopped. What was running is marked as killed; a search goes on when it is started again.")
    closing = threading.Thread(target=_close, daemon=True)  # the interrupted thread may hold the store
    closing.start()
    closing.join(STOP_PATIENCE)
    os._exit(128 + signal_number)


def take_signals(*_: object) -> None:
    """Handle signals from when the flow runs: Prefect sets its own handler before, and restores what it found after."""
    for number in STOPPING:
        signal.signal(number, _stop)


def take_signals_of_runner(*_: object) -> None:
    """The same where one of Prefect's runners started this process; elsewhere a flow's caller decides about signals.

    Without it a scheduled run goes on to its end when the runner is told to stop: Prefect interrupts the main thread,
    which then waits for the steps, which wait for their workers.
    """
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        take_signals()


def _close() -> None:
    with contextlib.suppress(Exception):  # whatever goes wrong here, the process has to end
        kill_open_runs()
    with contextlib.suppress(Exception):
        from prefect.server.api.server import SubprocessASGIServer

        for server in list(SubprocessASGIServer._instances.values()):
            server.stop()

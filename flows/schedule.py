"""Schedule: run the deployments of prefect.yaml by the clock, on a Prefect server that this command starts.

Prefect's embedded server cannot schedule, so a real one is started, unless `PREFECT_API_URL` names one already.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError

import psutil
import yaml
from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron, Interval
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from rich.console import Console
from typer import Exit, Option

from astrd.tracking import connect
from tasks.ingest import Source

DEPLOYMENTS = Path("prefect.yaml")
SERVER_PATIENCE = 180.0  # seconds; a new database on a slow disk takes half a minute
STOP_PATIENCE = 20.0  # seconds that Prefect has to end its runs
KILL_PATIENCE = 12.0  # seconds that those have to end then

console = Console()


def schedule(
    nightly_cron: Annotated[str, Option(help="When to retrain; empty: as prefect.yaml says.")] = "",
    weekly_cron: Annotated[str, Option(help="When to search anew; empty: as prefect.yaml says.")] = "",
    timezone: Annotated[str, Option(help="Time zone of both, such as Europe/Berlin; empty: as there.")] = "",
    every: Annotated[float, Option(help="Retrain every so many seconds instead of nightly, to try it.", min=0)] = 0.0,
    source: Annotated[Source | None, Option(help="Data source of the retraining; default: as the flow says.")] = None,
    size: Annotated[int, Option(help="Spectra of the simulated survey; 0: as the flow says.", min=0)] = 0,
    trials: Annotated[int, Option(help="Trials of each search; 0: as the flows say.", min=0)] = 0,
    epochs: Annotated[int, Option(help="Most epochs of a network; 0: as the flows say.", min=0)] = 0,
    port: Annotated[int, Option(help="Of the Prefect server that is started.")] = 4200,
) -> None:
    """Retrain nightly and search weekly, one run at a time, until stopped."""
    crons = {"nightly-retraining": nightly_cron, "weekly-tuning": weekly_cron}
    parameters = {"source": source, "size": size, "trials": trials, "svm_trials": trials, "epochs": epochs}
    try:
        plan = _plan(crons, timezone, every, {name: value for name, value in parameters.items() if value})
        connect()  # so that runs of the schedule, wherever they start, find this store
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # their warnings are of third parties, as in other flows
        with prefect_server(port) as url, temporary_settings({PREFECT_API_URL: url}):
            for deployment, when in plan:
                console.print(f"{deployment.name}: {deployment.flow_name} {when}", highlight=False, soft_wrap=True)
            console.print(f"Prefect's pages: {url.removesuffix('/api')}. Stop with Ctrl-C.", highlight=False)
            with _stopping_in_time():
                serve(*(deployment for deployment, _ in plan), limit=1, print_starting_message=False)
    except (OSError, RuntimeError, ValueError) as error:
        console.print(f"[bold red]{type(error).__name__}:[/] {error}", highlight=False, soft_wrap=True)
        raise Exit(1) from error


@contextlib.contextmanager
def _stopping_in_time() -> Iterator[None]:
    """Let Prefect wind up its runs at Ctrl-C; what it has not ended in time is ended all the same, and this process.

    Its runner asks the server to pause the schedules first; on a busy machine all of it took more than a minute.
    """
    late = threading.Timer(STOP_PATIENCE, _end_at_once)
    late.daemon = True

    def stop(*_: object) -> None:
        if not late.is_alive():
            late.start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        late.cancel()
        signal.signal(signal.SIGINT, before)


def _end_at_once() -> None:
    console.print("Prefect did not end in time: what it started is stopped.", highlight=False)
    started = psutil.Process().children(recursive=True)
    for end in (psutil.Process.terminate, psutil.Process.kill):  # a run that is terminated leaves its records in order
        for process in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        _, started = psutil.wait_procs(started, KILL_PATIENCE)
    os._exit(0)


def _plan(
    crons: Mapping[str, str], timezone: str, every: float, parameters: Mapping[str, Any]
) -> list[tuple[RunnerDeployment, str]]:
    """The deployments of prefect.yaml, each with its schedule in words."""
    plan = []
    for entry in yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]:
        flow = _flow(entry["entrypoint"])
        planned = entry["schedules"][0]
        cron, zone = crons.get(entry["name"]) or planned["cron"], timezone or planned["timezone"]
        fast = every and entry["name"] == "nightly-retraining"
        known = flow.parameters.properties
        deployment = flow.to_deployment(
            name=entry["name"],
            description=entry["description"],
            schedules=[Interval(every) if fast else Cron(cron, timezone=zone)],
            parameters={name: value for name, value in parameters.items() if name in known},
        )
        plan.append((deployment, f"every {every:g} s" if fast else f"at cron '{cron}' ({zone})"))
    return plan


def _flow(entrypoint: str) -> Flow[..., Any]:
    path, _, name = entrypoint.partition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(flow, Flow)
    return flow


@contextlib.contextmanager
def prefect_server(port: int) -> Iterator[str]:
    """The address of a Prefect server's API: the one that the settings name, else one started for the block.

    Raises
    ------
    RuntimeError
        If the port is in use, or the server does not answer in three minutes, or stops.
    """
    if given := get_current_settings().api.url:
        yield str(given)
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise RuntimeError(
                f"port {port} is in use: choose another with --port, or name the Prefect server that runs there by "
                f"PREFECT_API_URL=http://127.0.0.1:{port}/api"
            )
    url = f"http://127.0.0.1:{port}/api"
    console.print("Starting a Prefect server ...", highlight=False)
    environment = {**os.environ, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_API_URL": url}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # In a session of its own, so that Ctrl-C in a terminal does not stop it before those who still talk to it.
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SERVER_PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the Prefect server stopped with exit code {server.returncode}; its messages are above")
        with contextlib.suppress(URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        time.sleep(0.5)
    raise RuntimeError(f"no Prefect server answered at {url} within {SERVER_PATIENCE:g} s")

"""Models behind `mlflow models serve`, and a client that keeps its connection: times of requests, use of the server."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.models import TwoForms

JSON: Final = "application/json"
PARQUET: Final = "application/vnd.apache.parquet"

_PATIENCE: Final = 240.0  # seconds for a server to come up: TensorFlow on a busy machine takes one
_ANSWER: Final = 300.0  # seconds for an answer
_SERVER: Final = "mlflow.pyfunc.scoring_server"


class ServerError(Exception):
    """A server did not start, or refused a request; the message holds what it said."""


@dataclass(frozen=True)
class Server:
    """A server that runs: its port, and the process that answers, without MLflow's command that started it."""

    port: int
    process: psutil.Process

    @property
    def processor(self) -> float:
        """Seconds of processor since it started."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def peak_memory(self) -> float:
        """Largest resident memory since it started, in bytes; NaN where the system does not tell."""
        status = Path(f"/proc/{self.process.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(peak[1]) * 1024 if peak else float("nan")


@dataclass(frozen=True)
class Servers:
    """What is served, and the same network as MLflow's keras flavor."""

    ours: Server
    keras: Server


class Client:
    """One connection to a server."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_ANSWER)

    def send(self, body: bytes, kind: str) -> bytes:
        """Post a body, return the answer's.

        Raises
        ------
        ServerError
            If the status is not 200.
        """
        self._connection.request("POST", "/invocations", body, {"Content-Type": kind})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise ServerError(f"expected status 200, got {response.status}: {answer[:500].decode(errors='replace')}")
        return answer

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def both_served(model: TwoForms, folder: Path) -> Iterator[Servers]:
    """Serve both forms of a model while the block runs. Their logs go into the folder."""
    with _started(model.served, folder / "served.log") as ours, _started(model.keras, folder / "keras.log") as keras:
        yield Servers(_awaited(*ours), _awaited(*keras))


Started = tuple[subprocess.Popen[bytes], int, Path]


@contextlib.contextmanager
def _started(model: Path, log: Path) -> Iterator[Started]:
    """A server that comes up, in a process group of its own, which ends with the block."""
    scripts = sysconfig.get_path("scripts")
    port = _free_port()
    command = [
        f"{scripts}/mlflow", "models", "serve", "-m", str(model), "--env-manager", "local",
        "-h", "127.0.0.1", "-p", str(port), "-w", "1",
    ]  # fmt: skip
    environment = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])}
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield process, port, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _awaited(process: subprocess.Popen[bytes], port: int, log: Path) -> Server:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return Server(port, _answering(process.pid))
        time.sleep(0.1)
    raise ServerError(f"expected a server on port {port} within {_PATIENCE:g} s; it said:\n{log.read_text()[-2000:]}")


def _answering(command: int) -> psutil.Process:
    """The process under MLflow's command that loaded the model: the largest, as a shell may stand between."""
    family = [psutil.Process(command), *psutil.Process(command).children(recursive=True)]
    servers = [process for process in family if _SERVER in " ".join(process.cmdline())]
    return max(servers, key=lambda process: process.memory_info().rss)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

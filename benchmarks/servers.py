"""Models behind `mlflow models serve` and `astrd serve`, and a client that keeps its connection to them."""

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

from astrd.request import JSON
from benchmarks.models import TwoForms

_PATIENCE: Final = 240.0  # seconds for a server to come up: TensorFlow on a busy machine takes one
_ANSWER: Final = 300.0  # seconds for an answer


class ServerError(Exception):
    """A server did not start, or refused a request; the message holds what it said."""


@dataclass(frozen=True)
class Server:
    """A server that runs: its port, and the processes that answer, without the command that started them."""

    port: int
    processes: tuple[psutil.Process, ...]

    @property
    def processor(self) -> float:
        """Seconds of processor since it started."""
        return sum(times.user + times.system for times in (process.cpu_times() for process in self.processes))

    @property
    def peak_memory(self) -> float:
        """Largest resident memory of any of its processes, in bytes, since they started or the peak was cleared.

        NaN where the system does not tell.
        """
        return max(_peak(process) for process in self.processes)

    def clear_peak(self) -> bool:
        """Let the peak begin again at what is resident now; whether the system allows it.

        Linux does for processes of the same user.
        """
        try:
            for process in self.processes:
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        except OSError:
            return False
        return True


def _peak(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) * 1024 if peak else float("nan")


@dataclass(frozen=True)
class Servers:
    """The model behind our own server and behind MLflow's, and its network as MLflow's keras flavor."""

    astrd: Server
    mlflow: Server
    keras: Server


class Client:
    """One connection to a server."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_ANSWER)

    def send(self, body: bytes, kind: str, accept: str = JSON) -> bytes:
        """Post a body, return that of the answer, whose content type is the one accepted.

        Raises
        ------
        ServerError
            If the status is not 200.
        """
        self._connection.request("POST", "/invocations", body, {"Content-Type": kind, "Accept": accept})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise ServerError(f"expected status 200, got {response.status}: {answer[:500].decode(errors='replace')}")
        return answer

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def served(model: TwoForms, folder: Path) -> Iterator[Servers]:
    """Serve both forms of a model while the block runs. Logs, and a store of the servers' own, go into the folder."""
    by_mlflow = ("mlflow", "models", "serve", "--env-manager", "local", "-w", "1", "-h", "127.0.0.1", "-p")
    with (
        _started(folder, "astrd", "serve", "--model", str(model.served), "--port") as astrd,
        _started(folder, *by_mlflow[:3], "-m", str(model.served), *by_mlflow[3:]) as mlflow,
        _started(folder, *by_mlflow[:3], "-m", str(model.keras), *by_mlflow[3:]) as keras,
    ):
        yield Servers(_awaited(*astrd), _awaited(*mlflow), _awaited(*keras))


Started = tuple[subprocess.Popen[bytes], int, Path]


@contextlib.contextmanager
def _started(folder: Path, command: str, *arguments: str) -> Iterator[Started]:
    """A server that comes up, in a process group of its own, which ends with the block; its port is put last."""
    scripts, port = sysconfig.get_path("scripts"), _free_port()
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'servers.db'}",
    }
    log = folder / f"server-{port}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [f"{scripts}/{command}", *arguments, str(port)],
            env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
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
                return Server(port, _answering(process.pid, "mlflow" in process.args[0]))
        time.sleep(0.1)
    raise ServerError(f"expected a server on port {port} within {_PATIENCE:g} s; it said:\n{log.read_text()[-2000:]}")


def _answering(command: int, by_mlflow: bool) -> tuple[psutil.Process, ...]:
    """The process below MLflow's command and its shell; of ours, the command itself and all its workers."""
    below = psutil.Process(command).children(recursive=True)
    return tuple(below[-1:]) if by_mlflow else (psutil.Process(command), *below)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

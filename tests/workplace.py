"""A clone of the project in a folder of its own, with its own stores: what tests of whole commands work in."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrd import tracking

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities import Run

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))
PATIENCE = 480.0  # seconds


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit code, and all that it said on both streams."""

    code: int
    output: str


@dataclass(frozen=True)
class Workplace:
    """A clone, and the environment in which its commands run."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def store(self) -> str:
        return self.environment["MLFLOW_TRACKING_URI"]

    @property
    def client(self) -> mlflow.MlflowClient:
        import mlflow

        return mlflow.MlflowClient(self.store)

    def runs(self, **tags: str) -> list[Run]:
        """All runs with these `astrd.` tags, the oldest first."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        found = self.client.search_runs(experiments, max_results=1000, order_by=["attributes.start_time ASC"])
        return [run for run in found if tags.items() <= without_prefix(run.data.tags).items()]

    def aliases(self) -> dict[str, int]:
        """Which version of the registered network each alias names."""
        named = self.client.get_registered_model(tracking.REGISTERED_CNN).aliases
        return {alias: int(version) for alias, version in named.items()}

    def run(self, *command: str | Path, patience: float = PATIENCE, **environment: str) -> Finished:
        """Run a command to its end."""
        with self.started(*command, **environment) as (process, output):
            code = process.wait(patience)
            return Finished(code, output())

    def flow(self, *arguments: str, patience: float = PATIENCE, **environment: str) -> Finished:
        """Run `python -m flows` with these arguments to its end."""
        return self.run(sys.executable, "-m", "flows", *arguments, patience=patience, **environment)

    @contextlib.contextmanager
    def started(
        self, *command: str | Path, **environment: str
    ) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
        """A command that runs while the block does, in a process group of its own, which ends with the block.

        Yields
        ------
        process, output
            `output()` is what it has said so far.
        """
        path = self.folder.parent / f"{self.folder.name}-{time.monotonic_ns()}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [str(part) for part in command], cwd=self.folder, env={**self.environment, **environment},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            yield process, lambda: path.read_text(errors="replace")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def without_prefix(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of the project, named as keywords can be."""
    return {name.removeprefix("astrd."): value for name, value in tags.items() if name.startswith("astrd.")}


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what would lead commands to another store, server, archive or package."""
    ours = ("ASTRD_", "MLFLOW_", "PREFECT_", "PYTHON", "COLUMNS", "LINES", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join([str(SCRIPTS), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", **more}


def clone(repository: Path, folder: Path, prefect_home: Path, **environment: str) -> Workplace:
    """Clone a repository, with an MLflow store in the new folder."""
    subprocess.run(["git", "clone", "--quiet", repository, folder], check=True, env=clean_environment())
    store = f"sqlite:///{folder / tracking.DEFAULT_STORE}"
    own = {"MLFLOW_TRACKING_URI": store, "PREFECT_HOME": str(prefect_home), **environment}
    return Workplace(folder, clean_environment(**own))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], patience: float, what: Callable[[], str] = str) -> Any:
    """Ask again and again until the answer is true, and return it; `what` says why there is none."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if answer := condition():
                return answer
        time.sleep(0.2)
    raise AssertionError(f"nothing within {patience:g} s: {what()}")

"""The main job with all its stores on PostgreSQL: MLflow's and Prefect's servers, and Optuna's trials."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from astrd import tracking
from workplace import SCRIPTS, Workplace, free_port, wait_until

DATABASES = ("mlflow", "optuna", "prefect")
USER = "astrd"


def programs() -> Path | None:
    """Where PostgreSQL's programs are; Debian keeps them off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server for these tests alone, on the loopback; its address without a database's name."""
    folder = programs()
    if folder is None:
        reason = "PostgreSQL is not here: apt-get install postgresql"
        if os.environ.get("ASTRD_REQUIRE_POSTGRESQL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="astrd-postgresql-") as home:
        owner = None
        if os.geteuid() == 0:  # whom it refuses to serve
            owner = next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
            shutil.chown(home, owner)
        port = free_port()

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [folder / program, *arguments], user=owner, cwd=home, check=True, stdout=subprocess.DEVNULL, timeout=60
            )

        run("initdb", "-D", f"{home}/data", "-U", USER, "-A", "trust", "--no-sync")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
        run("pg_ctl", "-D", f"{home}/data", "-o", settings, "-l", f"{home}/log", "-w", "start")
        try:
            for database in DATABASES:
                run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, database)
            yield f"{USER}@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop")


@contextlib.contextmanager
def serving(place: Workplace, health: str, *command: str | Path, **environment: str) -> Iterator[None]:
    """A server that answers at an address while the block runs."""
    with place.started(*command, **environment) as (process, said):

        def healthy() -> bool:
            assert process.poll() is None, said()
            with urllib.request.urlopen(health, timeout=5) as answer:
                return bool(answer.status == 200)

        wait_until(healthy, 120, said)
        yield


def one(postgresql: str, database: str, query: str) -> object:
    with contextlib.closing(psycopg2.connect(f"postgresql://{postgresql}/{database}")) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        return cursor.fetchone()[0]


@pytest.mark.timeout(600)
def test_the_main_job_runs_with_all_its_stores_on_postgresql(
    postgresql: str, new_clone: Callable[..., Workplace], tmp_path: Path
) -> None:
    mlflow, prefect = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    place = new_clone(MLFLOW_TRACKING_URI=mlflow, PREFECT_API_URL=f"{prefect}/api")
    with (
        serving(
            place, f"{mlflow}/health", SCRIPTS / "mlflow", "server", "--host", "127.0.0.1",
            "--port", mlflow.rpartition(":")[2], "--workers", "1",
            "--backend-store-uri", f"postgresql://{postgresql}/mlflow",
            "--artifacts-destination", tmp_path / "artifacts",
        ),
        serving(
            place, f"{prefect}/api/health", SCRIPTS / "prefect", "server", "start", "--host", "127.0.0.1",
            "--port", prefect.rpartition(":")[2], "--no-ui",
            PREFECT_API_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{postgresql}/prefect",
        ),
    ):  # fmt: skip
        ended = place.flow(
            "pipeline", "--source", "simulated", "--size", "300", "--trials", "1", "--svm-trials", "2", "--epochs", "3",
            "--storage", f"postgresql://{postgresql}/optuna",
        )  # fmt: skip
        assert ended.code == 0, ended.output
        assert {run.info.status for run in place.runs()} == {"FINISHED"}
        assert place.client.get_registered_model(tracking.REGISTERED_CNN).latest_versions
        runs = len(place.runs())
    assert one(postgresql, "mlflow", "select count(*) from runs") == runs > 10
    assert one(postgresql, "optuna", "select count(*) from trials where state = 'COMPLETE'") == 2
    assert one(postgresql, "prefect", "select count(*) from flow_run where state_type = 'COMPLETED'") == 1
    assert not any((place.folder / name).exists() for name in ("mlflow.db", "optuna.db", "mlruns", "mlartifacts"))
    assert list((tmp_path / "artifacts").rglob("network.onnx"))

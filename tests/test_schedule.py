"""The schedule: a run that fires by the clock, and an end that leaves no process behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

from astrd.tracking import Tag
from flows import schedule
from workplace import ROOT, Workplace, free_port, wait_until

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def children_of(pid: int) -> set[int]:
    """Processes that this one started, and those that they did."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    parent = {int(pid): int(ppid) for pid, ppid in (line.split() for line in listed.splitlines()[1:])}
    found = {pid}
    while more := {child for child, above in parent.items() if above in found} - found:
        found |= more
    return found - {pid}


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_scheduled_run_fires_and_ctrl_c_leaves_no_process_behind(new_clone: Callable[..., Workplace]) -> None:
    place, port = new_clone(), free_port()
    options = ("--source", "simulated", "--size", "60", "--trials", "1", "--epochs", "1", "--port", str(port))
    with place.started(sys.executable, "-m", "flows", "schedule", "--every", "3", *options) as (process, output):

        def ingested() -> bool:
            assert process.poll() is None, output()
            return (place.folder / "mlflow.db").exists() and any(
                run.info.status == "FINISHED" for run in place.runs(step="ingest") if Tag.PARENT in run.data.tags
            )

        wait_until(lambda: "Stop with Ctrl-C" in output(), 120, output)
        wait_until(ingested, 120, output)
        started = children_of(process.pid)
        assert len(started) >= 2, "the server, and the run"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(60) == 0, output()
        wait_until(lambda: not any(map(is_alive, started)), 20, lambda: str(started))
    said = output()
    assert "nightly-retraining: pipeline every 3 s" in said
    assert "weekly-tuning: tune at cron '0 5 * * 0' (UTC)" in said
    assert "Warning" not in said
    parent = place.runs(step="pipeline")[0]
    ingest = place.runs(step="ingest")[0]
    assert ingest.data.tags[Tag.PARENT] == parent.info.run_id
    assert ingest.data.params["size"] == "60"
    assert ingest.data.tags[Tag.DATA_SOURCE] == "simulated"


STUBBORN = """
import subprocess, sys, time
from flows import schedule

def serve_on(*deployments, **options):
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("serving beside", started.pid, flush=True)
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            print("not yet", flush=True)

schedule.serve, schedule.STOP_PATIENCE, schedule.KILL_PATIENCE = serve_on, 1.0, 2.0
schedule.schedule()
"""


def test_ctrl_c_ends_what_prefect_does_not_end(empty_place: Workplace) -> None:
    shutil.copy(ROOT / "prefect.yaml", empty_place.folder)
    environment = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PYTHONPATH": str(ROOT)}
    with empty_place.started(sys.executable, "-c", STUBBORN, **environment) as (process, output):
        wait_until(lambda: "serving beside" in output(), 60, output)
        (started,) = children_of(process.pid)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0, output()
        assert not is_alive(started)
    assert "not yet" in output()
    assert "Prefect did not end in time" in output()


def test_a_port_in_use_is_a_clear_error(
    call: Callable[..., tuple[int, str]], empty_place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "DEPLOYMENTS", ROOT / "prefect.yaml")
    monkeypatch.setenv("PYTHONWARNINGS", "")  # so that what the command sets is undone
    with socket.socket() as other, temporary_settings(restore_defaults={PREFECT_API_URL}):
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = call("schedule", "--port", str(port))
    assert code == 1
    assert f"port {port} is in use: choose another with --port" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("--nightly-cron", "at three"), "at three"), (("--timezone", "Europe/Atlantis"), "Europe/Atlantis")],
)
def test_a_schedule_that_cannot_be_kept_is_refused_before_a_server_starts(
    call: Callable[..., tuple[int, str]],
    empty_place: Workplace,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    monkeypatch.setattr(schedule, "DEPLOYMENTS", ROOT / "prefect.yaml")
    monkeypatch.setattr(schedule, "prefect_server", lambda port: pytest.fail("a server was asked for"))
    code, said = call("schedule", *arguments)
    assert code == 1
    assert reason in said


def test_outside_the_project_the_missing_file_is_named(
    call: Callable[..., tuple[int, str]], empty_place: Workplace
) -> None:
    code, said = call("schedule")
    assert code == 1
    assert "prefect.yaml" in said


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_a_deployment_names_a_flow_and_a_time(deployment: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert isinstance(schedule._flow(deployment["entrypoint"]), Flow)
    path = deployment["entrypoint"].partition(":")[0]
    assert (ROOT / path).is_file()
    for planned in deployment["schedules"]:
        Cron(planned["cron"], timezone=planned["timezone"])
    with pytest.raises(ValueError, match="cron"):
        Cron("0 25 * * *", timezone="UTC")

"""The server as a process: it answers, refuses, shares its port among workers, and leaves none behind."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from astrd.classifier import Classifier
from astrd.cli import app
from astrd.request import JSON, PARQUET
from astrd.server import Service
from workplace import Workplace, clean_environment, free_port, wait_until


@pytest.fixture
def folder(template_classifier: Classifier, tmp_path: Path) -> Path:
    template_classifier.save(tmp_path / "classifier")
    return tmp_path / "classifier"


@pytest.fixture
def rows(simulated_raw: pd.DataFrame) -> list[dict[str, Any]]:
    names = ["designation", "wavelength", "reflectance", "uncertainty"]
    first = simulated_raw[names].head(3).to_dict(orient="records")
    return [{name: value if isinstance(value, str) else value.tolist() for name, value in row.items()} for row in first]


@contextlib.contextmanager
def serving(folder: Path, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [sys.executable, "-m", "astrd.server", str(folder), "127.0.0.1", str(port), str(workers)]
    process = subprocess.Popen(command, env=clean_environment())
    try:
        wait_until(lambda: ask(f"http://127.0.0.1:{port}/ping")[0] == 200, 60)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def ask(url: str, content: Any = None) -> tuple[int, Any]:
    body = None if content is None else json.dumps(content).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": JSON}), timeout=30) as answer:
            return answer.status, json.loads(answer.read().strip() or b"null")
    except HTTPError as error:
        return error.code, json.loads(error.read())


def test_it_answers_as_the_classifier_does(
    template_classifier: Classifier, folder: Path, rows: list[dict[str, Any]]
) -> None:
    with serving(folder, 2) as (_, url):
        assert not folder.exists()
        for _ in range(6):  # by either worker
            status, content = ask(f"{url}/invocations", {"dataframe_records": rows, "params": {"explain": True}})
            assert status == 200, content
            direct = Service(template_classifier).answer(
                json.dumps({"dataframe_records": rows, "params": {"explain": True}}).encode(), JSON
            )
            assert content == json.loads(direct.body)
            assert [answer["designation"] for answer in content["predictions"]] == [row["designation"] for row in rows]


def test_what_it_cannot_answer_is_refused_with_a_reason(folder: Path, rows: list[dict[str, Any]]) -> None:
    with serving(folder, 1) as (_, url):
        status, content = ask(f"{url}/invocations", {"dataframe_records": [rows[0], {**rows[1], "reflectance": [1.0]}]})
        assert (status, content["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert f"row 1 ({rows[1]['designation']}): expected lists of one length" in content["message"]
        assert ask(f"{url}/elsewhere") == (404, {"error_code": "NOT_FOUND", "message": (
            "expected POST /invocations or GET /ping, got GET /elsewhere"
        )})  # fmt: skip
        assert ask(f"{url}/invocations", {"dataframe_records": rows})[0] == 200


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_it(folder: Path, end: signal.Signals) -> None:
    with serving(folder, 3) as (process, _):
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 2
        process.send_signal(end)
        process.wait(30)
        assert psutil.wait_procs(workers, 10)[1] == []


def connected(url: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/ping")
    assert connection.getresponse().read() == b"\n"
    return connection


def test_connections_are_shared_out_evenly(folder: Path) -> None:
    with serving(folder, 2) as (process, url):
        both = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        before = [len(one.net_connections("tcp")) for one in both]
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                stack.callback(connected(url).close)
            now = [len(one.net_connections("tcp")) for one in both]
            assert [after - earlier for earlier, after in zip(before, now, strict=True)] == [4, 4]


def test_a_worker_that_has_ended_costs_no_connection(folder: Path) -> None:
    with serving(folder, 3) as (process, url):
        worker, _ = psutil.Process(process.pid).children()
        worker.kill()
        wait_until(lambda: worker.status() == psutil.STATUS_ZOMBIE, 10)
        for _ in range(6):
            connected(url).close()


def test_a_port_that_is_taken_is_told(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "astrd.server", str(folder), "127.0.0.1", str(port), "1"],
            env=clean_environment(), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"expected a free port, got {port} on 127.0.0.1")


def test_without_a_champion_the_command_says_how_to_have_one(empty_place: Workplace) -> None:
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 1
    assert "There is no champion yet: make one with `make run`" in result.output


@pytest.mark.parametrize("params", [{}, {"draws": 2, "explain": True}], ids=["plain", "all"])
def test_parquet_holds_what_json_does(
    template_classifier: Classifier, rows: list[dict[str, Any]], params: dict[str, Any]
) -> None:
    service, body = Service(template_classifier), json.dumps({"dataframe_records": rows, "params": params}).encode()
    expected = json.loads(service.answer(body, JSON).body)["predictions"]
    answer = service.answer(body, JSON, f"{PARQUET}, {JSON};q=0.5")
    assert (answer.status, answer.kind) == (200, PARQUET)
    assert pq.read_table(io.BytesIO(answer.body)).to_pylist() == expected


def test_a_client_that_takes_parquet_is_told_of_mistakes_in_json(
    template_classifier: Classifier, rows: list[dict[str, Any]]
) -> None:
    body = json.dumps({"dataframe_records": [rows[0], {**rows[1], "reflectance": [1.0]}]}).encode()
    answer = Service(template_classifier).answer(body, JSON, PARQUET)
    assert (answer.status, answer.kind) == (400, JSON)
    assert "row 1" in json.loads(answer.body)["message"]


def test_what_no_client_can_be_given_is_refused(folder: Path, rows: list[dict[str, Any]]) -> None:
    with serving(folder, 1) as (_, url):
        for accept, status, kind in (
            ("*/*", 200, JSON), (PARQUET, 200, PARQUET), ("application/json", 200, JSON), ("text/csv", 406, JSON),
        ):  # fmt: skip
            connection = connected(url)
            body = json.dumps({"dataframe_records": rows})
            connection.request("POST", "/invocations", body, {"Content-Type": JSON, "Accept": accept})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Content-Type"]) == (status, kind)
            content = answer.read()
            connection.close()
        assert json.loads(content) == {
            "error_code": "NOT_ACCEPTABLE", "message": f"expected Accept to name {JSON} or {PARQUET}, got text/csv"
        }  # fmt: skip


def test_numbers_that_are_none_leave_as_null(template_classifier: Classifier, rows: list[dict[str, Any]]) -> None:
    answer: Callable[[bytes, str], Any] = Service(template_classifier).answer
    body = answer(json.dumps({"dataframe_records": rows[:1]}).encode(), JSON).body
    (found,) = json.loads(body, parse_constant=pytest.fail)["predictions"]
    assert found["main_group_draw_share"] is None

"""`mlflow run ADDRESS`, from a Git server that speaks smart HTTP, as the large ones do."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from email.parser import BytesHeaderParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from astrd.tracking import REGISTERED_CNN, Alias, Tag
from workplace import SCRIPTS, Workplace, clean_environment

TINY = {"source": "simulated", "size": "150", "trials": "1", "svm_trials": "1", "epochs": "1"}


def git_handler(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
    """Requests become calls of `git http-backend`, as CGI wants them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            environment = clean_environment(
                GIT_PROJECT_ROOT=str(folder), GIT_HTTP_EXPORT_ALL="1", PATH_INFO=address.path,
                QUERY_STRING=address.query, REQUEST_METHOD=self.command, REMOTE_ADDR="127.0.0.1",
                CONTENT_TYPE=self.headers.get("Content-Type", ""), CONTENT_LENGTH=str(length),
                HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
                GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
            )  # fmt: skip
            done = subprocess.run(
                ["git", "http-backend"],
                input=self.rfile.read(length),
                stdout=subprocess.PIPE,
                env=environment,
                check=True,
            )
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = dict(BytesHeaderParser().parsebytes(head).items())
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def address(repository: Path) -> Iterator[str]:
    """Where the repository can be cloned from over HTTP."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), git_handler(repository.parent)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{repository.name}"
        server.shutdown()
        thread.join()


@pytest.fixture
def elsewhere(tmp_path: Path, prefect_home: Path) -> Workplace:
    """A folder that holds nothing of the project, with a store of its own."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "PREFECT_HOME": str(prefect_home)}
    return Workplace(folder, clean_environment(**environment, MLFLOW_ENV_ROOT=str(tmp_path / "environments")))


def parameters(values: dict[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("-P", f"{name}={value}")]


@pytest.fixture
def mlflow_run(address: str, elsewhere: Workplace) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str, manager: str = "local", **environment: str) -> tuple[int, str]:
        command = ("run", address, "--env-manager", manager, *arguments)
        ended = elsewhere.run(SCRIPTS / "mlflow", *command, patience=290, **environment)
        return ended.code, ended.output

    return run


@pytest.mark.parametrize("manager", ["local", pytest.param("uv", marks=pytest.mark.registry)])
def test_the_main_job_of_a_clone_nests_under_the_run_that_mlflow_made(
    mlflow_run: Callable[..., tuple[int, str]], elsewhere: Workplace, prefect_api: str, manager: str
) -> None:
    code, said = mlflow_run(*parameters(TINY), manager=manager, PREFECT_API_URL=prefect_api)
    assert code == 0, said
    runs = elsewhere.runs()
    (parent,) = (run for run in runs if Tag.PARENT not in run.data.tags)
    assert parent.data.tags["mlflow.source.type"] == "PROJECT"
    assert {name: parent.data.params[name] for name in TINY} == TINY
    assert parent.data.tags[Tag.STEP] == "pipeline"
    nested = [run for run in runs if run.data.tags.get(Tag.PARENT) == parent.info.run_id]
    found = Counter(run.data.tags[Tag.STEP] for run in nested)
    steps = {"ingest": 1, "features": 1, "tune": 2, "train": 11, "cluster": 1, "audit": 1, "promote": 1, "explore": 1}
    assert found == steps
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.experiment_id for run in runs} == {parent.info.experiment_id}
    assert {run.data.tags[Tag.DATA_SOURCE] for run in runs} == {"simulated"}
    assert elsewhere.aliases()[Alias.CHALLENGER] == 1
    version = elsewhere.client.get_model_version(REGISTERED_CNN, "1")
    logged = elsewhere.client.get_logged_model(version.source.removeprefix("models:/"))
    assert Path(logged.artifact_location.removeprefix("file://")).is_dir(), "the clone is gone, the model is not"


def test_a_job_that_fails_fails_the_run_and_says_why(
    mlflow_run: Callable[..., tuple[int, str]], elsewhere: Workplace, prefect_api: str
) -> None:
    wrong = parameters({"source": "smass2", "mirror": str(elsewhere.folder / "nowhere")})
    code, said = mlflow_run("-e", "ingest", *wrong, PREFECT_API_URL=prefect_api)
    assert code != 0
    assert "--source simulated" in said
    assert {run.info.status for run in elsewhere.runs()} == {"FAILED"}
    assert len(elsewhere.runs()) == 2
    assert not (elsewhere.folder / "data").exists()

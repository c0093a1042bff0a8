"""What several tests share: the real archive, where this machine has it; clones of the project; its main job."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from typer.testing import CliRunner

import templates
from astrd import dataset, simulate, smass, tracking
from astrd.analogues import Archive
from astrd.classifier import Classifier
from astrd.dataset import DataSource, LabelledSpectra
from workplace import ROOT, Finished, Workplace, clean_environment, clone

if TYPE_CHECKING:
    from mlflow.entities import Run

RAW_FOLDER = Path(__file__).parents[1] / "data" / "raw"
SMALL_JOB = ("--trials", "2", "--svm-trials", "3", "--epochs", "12")
"""As few epochs as let a network beat the baselines, on the archive and on the simulated survey."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep all tests away from the user's stores and servers, before anything reads where these are."""
    state = tempfile.TemporaryDirectory(prefix="astrd-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(state.cleanup)
    elsewhere = ("MLFLOW_EXPERIMENT_", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "PREFECT_")
    for name in [name for name in os.environ if name.startswith(elsewhere)]:
        del os.environ[name]
    os.environ["PREFECT_HOME"] = f"{state.name}/prefect"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{state.name}/mlflow.db"
    os.environ["DO_NOT_TRACK"] = "true"


@pytest.fixture(scope="session")
def archive_or_none(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A folder with both files of the archive, where they can be had without the official address."""
    if all((RAW_FOLDER / file.name).is_file() for file in smass.FILES):
        return RAW_FOLDER
    if mirror := os.environ.get(smass.MIRROR_VARIABLE):
        folder = tmp_path_factory.mktemp("archive")
        smass.fetch(folder, mirror)
        return folder
    return None


@pytest.fixture(scope="session")
def archive_folder(archive_or_none: Path | None) -> Path:
    """A folder with both files of the archive. No test goes to the official address for them."""
    if archive_or_none is not None:
        return archive_or_none
    reason = f"the SMASS II archive is not here: put its files into data/raw, or set {smass.MIRROR_VARIABLE}"
    if os.environ.get("ASTRD_REQUIRE_ARCHIVE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def archive_survey(archive_folder: Path) -> smass.Survey:
    """The archive as it is read; a file in data/raw with a wrong hash is an error here."""
    return smass.read(smass.ArchivePaths(*(archive_folder / file.name for file in smass.FILES)))


@pytest.fixture(scope="session")
def raw_table(archive_survey: smass.Survey) -> pd.DataFrame:
    """The table of raw spectra. Tests share it and must not change it."""
    return archive_survey.table


@pytest.fixture(scope="session")
def archive_parts(raw_table: pd.DataFrame) -> tuple[LabelledSpectra, LabelledSpectra]:
    """Training and test part of the archive."""
    return dataset.labelled(dataset.features(raw_table))


@pytest.fixture(scope="session")
def simulated_raw() -> pd.DataFrame:
    """A small simulated survey. Tests share it and must not change it."""
    return simulate.survey(400, seed=1)


@pytest.fixture(scope="session")
def simulated_parts(simulated_raw: pd.DataFrame) -> tuple[LabelledSpectra, LabelledSpectra]:
    """Training and test part of the small simulated survey."""
    return dataset.labelled(dataset.features(simulated_raw))


@pytest.fixture(scope="session")
def template_classifier(
    simulated_parts: tuple[LabelledSpectra, LabelledSpectra], simulated_raw: pd.DataFrame
) -> Classifier:
    """A classifier by the nearest class mean, written as a network of one layer: quick to make, and often right."""
    return templates.template_classifier(simulated_parts[0], Archive.of(dataset.features(simulated_raw)))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with one commit: the files as they lie here, whether committed or not."""
    folder = tmp_path_factory.mktemp("git") / "astrd.git"
    who = {f"GIT_{role}_{what}": "nobody@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = clean_environment(GIT_DIR=str(folder), **who)

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet", "--bare", "--initial-branch", "main", str(folder))
    git("--work-tree", str(ROOT), "add", "--all", str(ROOT))
    git("update-ref", "refs/heads/main", git("commit-tree", git("write-tree"), "-m", "The files as they lie here"))
    return folder


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's own folder for all clones: making a new database takes it 10 seconds."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def new_clone(
    repository: Path, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Workplace]:
    """Make a clone; keywords go into the environment of its commands."""
    return lambda **environment: clone(
        repository, tmp_path_factory.mktemp("clone") / "astrd-spctra", prefect_home, **environment
    )


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """The address of a Prefect server that flows of this process use, and commands that are told of it."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def call(prefect_api: str) -> Callable[..., tuple[int, str]]:
    """`python -m flows` with these arguments, inside this process: the exit code, and what was said."""
    from flows.__main__ import app

    def called(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return called


@pytest.fixture
def empty_place(tmp_path: Path, prefect_home: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder with a store of its own, in which this process works."""
    folder = tmp_path / "empty"
    folder.mkdir()
    store = f"sqlite:///{folder / tracking.DEFAULT_STORE}"
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.delenv(smass.MIRROR_VARIABLE, raising=False)
    return Workplace(folder, clean_environment(MLFLOW_TRACKING_URI=store, PREFECT_HOME=str(prefect_home)))


@dataclass(frozen=True)
class MainJob:
    """The main job, done once, in a clone: what it said, the runs (the oldest first) and aliases that it left."""

    place: Workplace
    ended: Finished
    data_source: DataSource
    runs: list[Run]
    aliases: dict[str, int]


@pytest.fixture(scope="session")
def main_job(new_clone: Callable[..., Workplace], archive_or_none: Path | None) -> MainJob:
    """The main job with few trials and epochs, on the archive if it is here, else on the simulated survey."""
    source: DataSource = "smass2" if archive_or_none else "simulated"
    place = new_clone(**({smass.MIRROR_VARIABLE: str(archive_or_none)} if archive_or_none else {}))
    ended = place.flow("pipeline", "--source", source, *SMALL_JOB)
    assert ended.code == 0, ended.output
    return MainJob(place, ended, source, place.runs(), place.aliases())


@pytest.fixture(scope="session")
def champion(main_job: MainJob) -> int:
    """The champion's version. A job as small as ours may find none; its candidate is named champion then."""
    if tracking.Alias.CHAMPION not in main_job.aliases:
        main_job.place.client.set_registered_model_alias(tracking.REGISTERED_CNN, tracking.Alias.CHAMPION, "1")
    return 1

"""`astrd explore` and `astrd figures`: what they write, open, and say."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from astrd import dataset
from astrd.cli import app
from astrd.dataset import RAW_SCHEMA
from workplace import Workplace


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were given to the browser, which no test opens."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) is None)
    return addresses


@pytest.fixture
def ingested(empty_place: Workplace, simulated_raw: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ingested data and nothing else: no features, no tracking store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    dataset.write(simulated_raw[:80], "data/interim/simulated.parquet", RAW_SCHEMA, "simulated")
    return empty_place.folder


def called(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_explore_writes_the_page_and_opens_it(ingested: Path, opened: list[str]) -> None:
    code, said = called("explore")
    assert code == 0, said
    page = ingested / "explorer.html"
    assert opened == [page.as_uri()]
    assert f"80 spectra (simulated) on {page}" in said
    assert "Only the spectra are shown: no features were made yet" in said
    assert "plotly.js" in page.read_text()


def test_explore_leaves_the_browser_alone_when_told_to(ingested: Path, opened: list[str]) -> None:
    code, said = called("explore", "--no-open", "--output", "pages/other.html")
    assert code == 0, said
    assert opened == []
    assert (ingested / "pages" / "other.html").is_file()
    assert not (ingested / "mlflow.db").exists()


def test_where_there_is_no_browser_the_file_is_named(ingested: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    code, said = called("explore")
    assert code == 0
    assert "open the file in one" in said


def test_figures_are_written_and_named(ingested: Path) -> None:
    code, said = called("figures", "--output", "drawn")
    assert code == 0, said
    assert sorted(path.name for path in (ingested / "drawn").iterdir()) == ["class_means.pdf", "class_means.png"]
    assert "drawn/class_means.pdf" in said


@pytest.mark.parametrize("command", ["explore", "figures"])
def test_without_data_the_error_names_the_step_that_makes_them(empty_place: Workplace, command: str) -> None:
    code, said = called(command)
    assert code == 1
    assert "python -m flows ingest" in said
    assert list(empty_place.folder.rglob("*.html")) == []


def test_a_run_that_cannot_be_there_is_an_error(ingested: Path) -> None:
    code, said = called("explore", "--run", "0" * 32, "--no-open")
    assert code == 1
    assert "python -m flows features" in said
    assert not (ingested / "explorer.html").exists()

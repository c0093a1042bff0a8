"""`astrd classify`: what it prints, writes and refuses, with a champion that needed no training."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from astrd import dataset, registry, tracking
from astrd.analogues import Archive
from astrd.classifier import Classifier
from astrd.cli import app
from astrd.dataset import LabelledSpectra
from astrd.spectrum import Spectrum
from astrd.tracking import Alias, Tag
from templates import template_classifier

CHAMPION = f"models:/{tracking.REGISTERED_CNN}@{Alias.CHAMPION}"
SHA256 = "feed" * 16


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture(scope="module")
def classifier(simulated_parts: tuple[LabelledSpectra, LabelledSpectra], simulated_raw: pd.DataFrame) -> Classifier:
    return template_classifier(simulated_parts[0], Archive.of(dataset.features(simulated_raw)))


@pytest.fixture(scope="module")
def run_id(classifier: Classifier, simulated_raw: pd.DataFrame, tmp_path_factory) -> Iterator[str]:
    """The run that logged the champion of a store of its own."""
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
        example = simulated_raw[["wavelength", "reflectance", "uncertainty", "designation"]].head(2)
        with mlflow.start_run(experiment_id=tracking.connect()) as run:
            mlflow.set_tags({Tag.DATA_SOURCE: "simulated", Tag.DATA_SHA256: SHA256})
            registry.log_classifier(classifier, example)
        registry.name_version(Alias.CHAMPION, registry.register(run.info.run_id, {}, "templates"))
        yield run.info.run_id
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def files(simulated_raw: pd.DataFrame, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    for number, row in enumerate(simulated_raw.head(5).itertuples()):
        columns = np.column_stack([row.wavelength, row.reflectance, row.uncertainty])
        np.savetxt(folder / f"{number}.txt", columns, fmt="%.17g")
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def call(run_id: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setattr("astrd.cli.console.width", 200)

    def called(*arguments: str) -> Ended:
        result = CliRunner().invoke(app, ["classify", *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    return called


def read(path: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads(path.read_text()))


def test_what_is_printed_is_what_the_classifier_answers(call: Call, files: list[str], classifier: Classifier) -> None:
    ended = call(*files)
    assert ended.code == 0, ended
    answers = classifier.classify([Spectrum.read(path) for path in files])
    for row in answers.itertuples():
        cells = [row.designation, row.main_group, f"{row.main_group_probability:.3f}", row.bus_class]
        assert re.search(r"\s+".join(map(re.escape, cells)), ended.out)
    assert f"Model: {CHAMPION}, version 1, trained on simulated" in ended.out


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_the_output_holds_every_answer_with_its_file_and_model(
    call: Call, files: list[str], classifier: Classifier, run_id: str, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    ended = call(*files, "--output", path, "--draws", 3, "--coverage", 0.8)
    assert ended.code == 0, ended
    assert f"Answers: {path}" in ended.out
    found = {".csv": pd.read_csv, ".json": read, ".parquet": pd.read_parquet}[suffix](path)
    expected = classifier.classify([Spectrum.read(path) for path in files], 0.8, 3)
    assert list(found) == [
        "file", *expected, "model", "model_version", "run_id", "data_source", "data_sha256",
    ]  # fmt: skip
    assert found["file"].tolist() == files
    assert set(found["run_id"]) == {run_id}
    assert set(found["data_sha256"]) == {SHA256}
    assert set(found["model_version"].astype(str)) == {"1"}
    numbers = expected.select_dtypes("float").columns
    np.testing.assert_allclose(found[numbers], expected[numbers], atol=1e-9)
    sets = [row.split(";") if isinstance(row, str) else list(row) for row in found["bus_prediction_set"]]
    assert sets == expected["bus_prediction_set"].tolist()


def test_the_output_explains_when_asked_to(call: Call, files: list[str], tmp_path: Path) -> None:
    plain = call(*files, "--output", tmp_path / "plain.json")
    ended = call(*files, "--output", tmp_path / "why.json", "--explain")
    assert plain.out.count("why ") == 0 < ended.out.count("why ") == len(files)
    assert "% per 0.1 µm" in ended.out
    assert set(read(tmp_path / "why.json")) - set(read(tmp_path / "plain.json")) >= {"slope", "analogue_name"}


def test_the_report_has_a_panel_for_each_spectrum(call: Call, files: list[str], run_id: str, tmp_path: Path) -> None:
    ended = call(*files, "--report", tmp_path / "report.html")
    assert ended.code == 0, ended
    page = (tmp_path / "report.html").read_text()
    assert page.count("<article") == len(files)
    assert run_id in page


def test_a_bad_file_stops_no_other_and_the_exit_code_tells(call: Call, files: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("no spectrum")
    ended = call(files[0], bad, tmp_path / "missing.txt", files[1], "--output", tmp_path / "out.json")
    assert ended.code == 1
    assert f"{bad}: expected columns of numbers" in ended.err
    assert "missing.txt: expected a file or folder" in ended.err
    assert read(tmp_path / "out.json")["file"].tolist() == files[:2]
    assert call(*files[:2]).code == 0


def test_files_may_have_any_name(call: Call, files: list[str], tmp_path: Path) -> None:
    for name in ("[red]x.txt", "[bold]", os.fsdecode(b"bad\xff.txt")):
        shutil.copy(files[0], tmp_path / name)
    for written in ("out.csv", "out.json", "out.parquet", "out.html"):
        option = "--report" if written.endswith("html") else "--output"
        folder = tmp_path / "written"
        folder.mkdir(exist_ok=True)
        ended = call(tmp_path, option, folder / written)
        assert ended.code == 0, ended
        for name in ("[red]x.txt", "[bold]", "bad?.txt"):
            assert name in ended.out
            assert written.endswith("parquet") or name in (folder / written).read_text()


def test_a_file_that_is_named_twice_is_classified_once(call: Call, files: list[str], tmp_path: Path) -> None:
    call(files[0], str(Path(files[0]).parent), "--output", tmp_path / "out.json")
    assert read(tmp_path / "out.json")["file"].tolist() == files


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--output", "out.xlsx", "expected a name that ends in .csv or .json or .parquet, got .xlsx"),
        ("--output", "nowhere/out.csv", "expected a folder that is there"),
        ("--report", "out.pdf", "expected a name that ends in .html or .htm, got .pdf"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    call: Call, files: list[str], tmp_path: Path, option: str, name: str, message: str
) -> None:
    ended = call(*files, option, tmp_path / name)
    assert ended.code == 1
    assert message in ended.err
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--coverage", "1.5"), "expected a coverage between 0 and 1"),
        (("--model", "models:/nothing@champion"), "expected a model that can be loaded, got models:/nothing@champion"),
        (("--model", "/no/folder"), "expected a model that can be loaded, got /no/folder"),
    ],
)
def test_a_wrong_option_is_named(call: Call, files: list[str], arguments: tuple[str, ...], message: str) -> None:
    ended = call(*files, *arguments)
    assert ended.code == 1
    assert message in ended.err


def test_the_provenance_is_told_for_any_address_of_a_model(
    call: Call, files: list[str], run_id: str, tmp_path: Path
) -> None:
    version = registry.version_named(Alias.CHAMPION)
    assert version is not None
    addresses = {CHAMPION: "1", f"models:/{tracking.REGISTERED_CNN}/1": "1", f"runs:/{run_id}/classifier": ""}
    for address, number in (addresses | {version.source: ""}).items():
        assert call(files[0], "--model", address, "--output", tmp_path / "out.json").code == 0
        (row,) = json.loads((tmp_path / "out.json").read_text())
        told = [row[name] for name in ("model", "model_version", "run_id", "data_source", "data_sha256")]
        assert told == [address, number, run_id, "simulated", SHA256]


def test_without_a_store_the_way_out_is_told(
    call: Call, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    ended = call(*files)
    assert ended.code == 1
    assert "name a model with --model" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_those_of_the_library() -> None:
    import inspect

    from astrd import cli

    command = inspect.signature(cli.classify).parameters
    library = inspect.signature(Classifier.classify).parameters
    for name in ("coverage", "draws", "explain"):
        assert command[name].default == library[name].default


CLASSIFY = """
import sys
for name in ("tensorflow", "keras", "sklearn", "prefect", "matplotlib", "plotly"):
    sys.modules[name] = None
from astrd.cli import app
app(["classify", *sys.argv[1:]])
"""


def test_it_needs_nothing_of_what_training_needs(files: list[str], run_id: str, tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, "-c", CLASSIFY, files[0], "--report", str(tmp_path / "out.html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.html").is_file()


@pytest.mark.usefixtures("run_id")
def test_a_port_that_is_taken_is_told_before_anything_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", "--port", str(port)])
    assert result.exit_code == 1
    assert f"expected a free port, got {port} on 127.0.0.1" in result.output.replace("\n", " ")
    assert "answers at" not in result.output
    assert CliRunner().invoke(app, ["serve", "--port", "99999"]).exit_code == 2

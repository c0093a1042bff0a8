"""The benchmarks run, and say the same in the terminal, as JSON and as Markdown. How fast anything is, no test says."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import psutil
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from astrd import simulate, smass, tracking, workers
from astrd.tracking import Tag
from benchmarks import epoch, ingest, measuring, pipeline, reporting, search, serving
from benchmarks.__main__ import main
from benchmarks.measuring import MEGABYTES, SECONDS, Comparison, Measured, Reading, measure, spectra_a_second, timed
from benchmarks.pipeline import MainJob
from benchmarks.reporting import Machine, PageError, as_json, as_markdown, write_between
from benchmarks.servers import Server, Servers
from benchmarks.setting import AMOUNTS, Size, setting
from benchmarks.suite import BENCHMARKS
from workplace import clean_environment

Costs = list[tuple[float, float]]
Commands = list[tuple[list[str], dict[str, str]]]

IN_THIS_PROCESS = ("ingest", "smoothing")
"""Quick to try: the others train a network first, or start servers."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command with these arguments, where there is neither an archive nor a champion."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(smass.MIRROR_VARIABLE, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    app = typer.Typer()
    app.command()(main)
    return lambda *arguments: CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one, with a folder `work`; no archive is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(smass.MIRROR_VARIABLE, raising=False)
    (tmp_path / "work").mkdir()
    return tmp_path


def comparison(target: float | None = None, floor: bool = False, **changes: object) -> Comparison:
    way = timed(lambda: None)
    return Comparison("name", "ours", "theirs", way, way, target, floor, **changes)  # type: ignore[arg-type]


def measured(costs: Costs, target: float | None = None, floor: bool = False, **changes: object) -> Measured:
    pairs = tuple((Reading(own, own / 2), Reading(other, other)) for own, other in costs)
    return Measured(comparison(target, floor, **changes), pairs)


def printed(results: list[Measured]) -> str:
    """The table as a terminal of 80 columns shows it."""
    terminal = Console(width=80, file=io.StringIO(), highlight=False)
    terminal.print(reporting.terminal_table(results))
    return terminal.file.getvalue()  # type: ignore[attr-defined, no-any-return]


class TestRatios:
    def test_a_cheaper_way_is_some_times_less(self) -> None:
        found = measured([(1.0, 8.0), (2.0, 10.0), (1.0, 12.0)])
        assert found.ratios == [8.0, 5.0, 12.0]
        assert found.ratio == 8.0
        assert found.processor_ratio == 16.0
        assert found.costs == (1.0, 10.0)

    def test_beside_a_floor_it_is_some_times_as_much(self) -> None:
        assert measured([(3.0, 2.0), (8.0, 4.0), (5.0, 5.0)], floor=True).ratio == 1.5

    @pytest.mark.parametrize(
        ("target", "floor", "met"), [(4.0, False, True), (4.1, False, False), (0.25, True, True), (0.2, True, False)]
    )
    def test_a_target_is_met_from_the_right_side(self, target: float, floor: bool, met: bool) -> None:
        assert measured([(1.0, 4.0)], target, floor).met is met

    def test_without_a_target_there_is_nothing_to_meet(self) -> None:
        assert measured([(1.0, 4.0)]).met is None

    def test_a_target_is_not_met_while_something_else_is_lacking(self) -> None:
        found = measured([(1.0, 9.0)], 8.0, lacking=lambda: "best score worse")
        assert found.met is False
        assert reporting.cells(found)[-1] == "≥ 8 not met: best score worse"
        assert as_json([found], Machine.here(), 5, "tiny")["benchmarks"][0]["lacking"] == "best score worse"
        text = printed([found])
        assert "≥ 8 ✗" in text and "name: best score worse" in text
        assert measured([(1.0, 9.0)], 8.0, lacking=lambda: "").met is True

    def test_more_spectra_a_second_is_the_lower_cost(self) -> None:
        found = measured([(0.5, 2.0)], unit=spectra_a_second(1000))
        assert reporting.cells(found)[3:6] == ("2,000 /s", "500 /s", "4.0")

    def test_memory_has_no_processor_time(self) -> None:
        found = Measured(comparison(unit=MEGABYTES), ((Reading(2e8), Reading(6e8)),))
        assert found.processor_ratio is None
        assert reporting.cells(found)[3:8] == ("200 MB", "600 MB", "3.0", "3.0 to 3.0", "")


class TestMeasuring:
    def test_both_ways_are_measured_in_turn_after_one_unseen(self) -> None:
        called: list[str] = []

        def way(name: str) -> measuring.Way:
            def one() -> Reading:
                called.append(name)
                return Reading(float(len(called)))

            return one

        *_, pairs = measure(Comparison("name", "", "", way("our"), way("their")), 2)
        assert called == ["our", "their", "our", "their", "their", "our"]
        assert pairs == ((Reading(3.0), Reading(4.0)), (Reading(6.0), Reading(5.0)))

    def test_a_timed_way_tells_clock_and_processor(self) -> None:
        reading = timed(lambda: sum(range(100_000)))()
        assert reading.cost > 0
        assert reading.processor is not None and reading.processor > 0


class TestCommand:
    def test_the_same_figures_stand_everywhere(self, run: Callable[..., Result]) -> None:
        page = Path("page.md")
        page.write_text("before\n<!-- begin: figures -->\nold\n<!-- end: figures -->\nafter\n")
        done = run(*IN_THIS_PROCESS, "--size", "tiny", "--json", "figures.json", "--markdown", str(page))
        assert done.exit_code == 0, done.output
        content = json.loads(Path("figures.json").read_text())
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        assert [one["name"] for one in content["benchmarks"]] == list(IN_THIS_PROCESS)
        for one in content["benchmarks"]:
            (row,) = [line for line in text.splitlines() if line.startswith(f"| {one['name']} |")]
            ratio = reporting._written(one["ratio"])
            assert row.split(" | ")[5] == ratio
            assert ratio in done.output
            assert len(one["ratios"]) == len(one["readings"]) == content["pairs"] == measuring.FEWEST_PAIRS
            ratios = [other["cost"] / own["cost"] for own, other in one["readings"]]
            assert one["ratios"] == pytest.approx(ratios)
            assert one["met"] is (one["ratio"] >= one["target"])
            assert ("not met" in row) is not one["met"]
            assert one["equal"]
        assert content["machine"]["processor"] in done.output
        assert content["machine"]["cores"] >= 1
        assert set(content["machine"]["versions"]) == set(reporting.PACKAGES)

    def test_no_line_of_the_table_is_wider_than_a_terminal(self, run: Callable[..., Result]) -> None:
        output = run("smoothing", "--size", "tiny").output
        (head,) = [line for line in output.splitlines() if line.strip().startswith("benchmark")]
        assert len(head) <= 80
        assert "…" not in output
        assert head.split()[-1] == "target"

    def test_every_target_is_whole_in_80_columns(self) -> None:
        """Beside the longest names and the widest figures that there are."""
        wide = {
            "serve-many Parquet mlflow": measured(
                [(0.25, 0.5)] * 4 + [(0.1, 0.99)], 2.5, unit=spectra_a_second(24_000)
            ),
            "memory clients mlflow": measured([(1e9, 2.2e9)], 3, unit=MEGABYTES),
            "epoch alone products": measured([(0.1225, 0.0521), (0.9, 0.1)], 2.5, floor=True),
            "pipeline": measured([(1997.484, 1265.067)], 1.35, floor=True, unit=SECONDS),
            "smoothing": measured([(0.0278, 18.99), (0.0278, 38.99)], 10),
            "search": measured([(25.459, 2242.196), (1.0, 100.0)], 8, unit=SECONDS),
        }
        results = [replace(found, comparison=replace(found.comparison, name=name)) for name, found in wide.items()]
        lines = printed(results).splitlines()
        for name, found in wide.items():
            (line,) = [line for line in lines if line.startswith(f"{name} ")]
            sign, target = "≤" if found.comparison.floor else "≥", found.comparison.target
            assert line.rstrip().endswith(f"{sign} {target:g} {'✓' if found.met else '✗'}")
            assert all(cell.replace(" to ", "-") in line for cell in reporting.cells(found)[3:8])
        assert all(len(line) <= 80 for line in lines)

    def test_an_unknown_name_is_told_with_those_there_are(self, run: Callable[..., Result]) -> None:
        done = run("smoothing", "smoothness", "--size", "tiny")
        assert done.exit_code == 1
        assert "got smoothness" in done.output
        assert all(name in done.output for name in BENCHMARKS)

    def test_fewer_pairs_than_tell_anything_are_refused(self, run: Callable[..., Result]) -> None:
        assert run("smoothing", "--pairs", "4").exit_code == 2

    def test_a_page_without_a_place_for_it_is_told_before_anything_runs(self, run: Callable[..., Result]) -> None:
        Path("page.md").write_text("no marks")
        done = run("smoothing", "--markdown", "page.md")
        assert done.exit_code == 1
        assert "<!-- begin: figures -->" in done.output
        assert "raw spectra" not in done.output

    def test_a_folder_that_is_not_there_is_told_before_anything_runs(self, run: Callable[..., Result]) -> None:
        done = run("smoothing", "--json", "nowhere/figures.json")
        assert done.exit_code == 1
        assert "a folder that exists, got nowhere" in done.output
        assert "raw spectra" not in done.output

    def test_every_benchmark_has_amounts_of_every_size(self) -> None:
        assert set(AMOUNTS) == set(Size)


class TestMarkdown:
    def test_a_row_has_a_cell_for_each_column(self) -> None:
        text = as_markdown([measured([(1.0, 4.0)], 8.0)], Machine.here(), 5, "tiny")
        head, line, row, *_ = text.splitlines()
        assert head.count("|") == line.count("|") == row.count("|") == len(reporting.COLUMNS) + 1
        assert "≥ 8 not met" in row

    def test_a_page_without_marks_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PageError, match="begin: figures"):
            write_between(tmp_path / "none.md", "text")

    def test_json_can_be_read_by_all(self) -> None:
        text = json.dumps(as_json([measured([(1.0, 4.0)])], Machine.here(), 5, "tiny"), allow_nan=False)
        assert json.loads(text)["benchmarks"][0]["target"] is None


def test_the_archive_read_file_by_file_is_the_archive_read_at_once(tmp_path: Path) -> None:
    """On files of simulated spectra; the benchmark itself compares the tables that it measures."""
    table = simulate.survey(40)
    paths = ingest._written(table, 40, tmp_path)
    survey = ingest._read(paths)
    assert survey.refused == ()
    for found, expected in zip(survey.table["reflectance"], table["reflectance"].head(40), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-5)


def test_the_products_of_an_epoch_are_those_of_the_network() -> None:
    """Forward, backward in the weights, and backward in the inputs of all layers but the first: 3 products a layer."""
    products = epoch._Products.of(3)
    assert [weights.shape for _, weights, _ in products.layers] == [(5, 24), (120, 40), (120, 56), (392, 96), (96, 26)]
    products.forward(), products.backward()
    for number, ((x, weights, dy), (dx, dweights, y)) in enumerate(zip(products.layers, products.room, strict=True)):
        np.testing.assert_allclose(y, x @ weights, rtol=1e-5)
        np.testing.assert_allclose(dweights, x.T @ dy, rtol=1e-5)
        assert not number or np.allclose(dx, dy @ weights.T, rtol=1e-5)


class TestSearch:
    @pytest.mark.parametrize(
        ("own", "other", "lacking"),
        [([0.84, 0.86], [0.85], ""), ([0.82], [0.83, 0.84], ""), ([0.80, 0.83], [0.84], "best score worse")],
    )
    def test_the_best_score_must_not_be_worse(self, own: list[float], other: list[float], lacking: str) -> None:
        assert search.Best(own, other).lacking() == lacking

    def test_both_ways_find_a_network_and_say_how_good_it_is(self, here: Path) -> None:
        with setting(Size.TINY, here / "work", print) as shared:
            (compared,) = search.comparisons(shared)
            *_, pairs = measure(compared, 1)
        found = Measured(compared, pairs)
        assert found.ratio > 0
        assert re.search(r"fold 0\.\d{3}, the other's 0\.\d{3}", compared.found())


def test_bodies_hold_the_same_spectra_for_both_models() -> None:
    spectra = serving._spectra(3)
    records = json.loads(serving.as_json(spectra))["dataframe_records"]
    assert [row["reflectance"] for row in records] == json.loads(serving.for_keras(spectra))["inputs"]
    assert all(math.isclose(row["reflectance"][11], 1.0, abs_tol=0.02) for row in records)


class TestMainJob:
    """All of that benchmark but the job itself, which takes minutes."""

    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> Commands:
        """Commands that would have run, with their environment."""
        commands: Commands = []
        monkeypatch.setattr(
            pipeline.subprocess, "run", lambda command, env, **_: commands.append((command, env))
        )  # no job is run
        return commands

    @pytest.mark.parametrize("named_by", ["folder", "mirror"])
    def test_it_works_on_the_archive_that_is_here(
        self, started: Commands, here: Path, named_by: str, archive_folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        folder = here / ("data/raw" if named_by == "folder" else "mirror")
        folder.mkdir(parents=True)
        for file in smass.FILES:
            shutil.copy(archive_folder / file.name, folder)
        if named_by == "mirror":
            monkeypatch.setenv(smass.MIRROR_VARIABLE, "mirror")
        with setting(Size.TINY, here / "work", print) as shared:
            (compared,) = pipeline.comparisons(shared)
        ((command, environment),) = started
        assert "SMASS II" in compared.ours
        assert command[-2:] == ["--source", "smass2"]
        mirror = Path(environment[smass.MIRROR_VARIABLE])
        assert mirror.is_absolute()
        assert all((mirror / file.name).is_file() for file in smass.FILES)

    def test_it_asks_nobody_for_an_archive_that_is_not_here(self, started: Commands, here: Path) -> None:
        with setting(Size.TINY, here / "work", print) as shared:
            (compared,) = pipeline.comparisons(shared)
        assert "simulated" in compared.ours
        assert started[0][0][-2:] == ["--source", "simulated"]

    def test_a_pair_is_read_from_one_job(self, started: Commands, tmp_path: Path) -> None:
        job = MainJob(tmp_path / "job", ("--trials", "3"))
        client = mlflow.MlflowClient(job.store)
        experiment = client.create_experiment(tracking.EXPERIMENT)
        for number, step in enumerate(("pipeline", "pipeline", "train")):
            run = client.create_run(experiment, start_time=1000 + number, tags={Tag.STEP: step})
            client.log_metric(run.info.run_id, "worker_seconds", 100.0 * number)
            client.log_metric(run.info.run_id, "step_seconds", 20.0)
        whole, computing = job.reading("whole"), job.reading("computing")
        assert [command[3:] for command, _ in started] == [["pipeline", "--trials", "3", "--source", "simulated"]]
        assert whole.cost >= 0
        assert computing.cost == 120 / workers.cores()
        job.reading("computing")
        assert len(started) == 2


class TestMemory:
    """Of servers that are this process, whose requests take the memory that a test says."""

    @pytest.fixture
    def setting(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        taken = iter([300_000_000, 0, 0, 0])

        class Client:
            def __init__(self, server: Server) -> None: ...
            def send(self, body: bytes, kind: str, accept: str = "") -> None:
                bytearray(b"1") * next(taken)

            def close(self) -> None: ...

        monkeypatch.setattr(serving, "Client", Client)
        server = Server(0, (psutil.Process(),))
        if math.isnan(server.peak_memory):
            pytest.skip("this system does not tell the largest memory of a process")
        said: list[str] = []
        servers = Servers(server, server, server)
        monkeypatch.setattr(serving, "served", lambda *_: contextlib.nullcontext(servers))
        return SimpleNamespace(model=None, folder=None, amounts=AMOUNTS[Size.TINY], tell=said.append, said=said)

    def test_each_reading_is_of_its_own_requests(self, setting: SimpleNamespace) -> None:
        compared, *_ = serving.memory(setting)
        if "since" in compared.ours:
            pytest.skip("this system does not let peaks be cleared")
        first, second = compared.our_way().cost, compared.our_way().cost
        assert second < first - 200_000_000
        assert "cannot be cleared" not in "".join(setting.said)

    def test_where_peaks_cannot_be_cleared_they_are_since_the_start(
        self, setting: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(Path, "write_text", refused)
        compared, *_ = serving.memory(setting)
        assert compared.our_way().cost == compared.our_way().cost
        assert "since its start" in compared.ours
        assert "cannot be cleared" in "".join(setting.said)


def test_models_are_trained_and_served_where_there_is_no_champion(tmp_path: Path) -> None:
    """All that need TensorFlow, as a command of its own: a model is trained for a moment, and served in both forms."""
    names = ("epoch", "classify", "serve-one", "serve-many", "memory")
    command = [sys.executable, "-m", "benchmarks", *names, "--size", "tiny", "--json", "figures.json"]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no champion" in done.stdout
    found = {one["name"]: one for one in json.loads((tmp_path / "figures.json").read_text())["benchmarks"]}
    assert {one.split()[0] for one in found} == set(names)
    assert {f"serve-many {form} {by}" for form in ("JSON", "Parquet") for by in ("astrd", "mlflow")} <= set(found)
    targets = {name: (one["target"], one["ratio_of"]) for name, one in found.items() if name.startswith("epoch")}
    assert targets["epoch alone"] == targets["epoch"] == (8, "other to ours")
    assert targets["epoch alone products"] == targets["epoch products"] == (2.5, "ours to other")
    assert all(ratio > 0 for one in found.values() for ratio in one["ratios"])
    assert {f"memory {clients}{by}" for clients in ("", "clients ") for by in ("astrd", "mlflow")} <= set(found)
    assert found["memory mlflow"]["costs"][0] < found["memory mlflow"]["costs"][1]  # no TensorFlow in it

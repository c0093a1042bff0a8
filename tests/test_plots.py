"""Figures draw in any thread, and pages need nothing but themselves."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from astrd import plots
from astrd.taxonomy import BUS_CLASSES
from astrd.tuning import Trial

ROOT = Path(__file__).parents[1]
CURVES = pd.DataFrame(
    {
        "loss": [3.0, 2.0, 1.0, 2.5, 1.5, 1.2],
        "validation_loss": [3.0, 1.5, 2.0, 2.0, 1.8, 1.6],
        "member": [1, 1, 1, 2, 2, 2],
    }
)
GRID = pd.DataFrame(
    {
        "C": [1.0, 10.0, 1.0], "kernel": ["rbf", "rbf", "linear"], "gamma": [0.1, 0.1, np.nan],
        "weighted_f1": [0.8, 0.9, 0.7], "weighted_f1_sd": [0.01, 0.02, 0.03],
    }
)  # fmt: skip
COUNTS = pd.DataFrame([[3, 1], [0, 0]], index=["C", "X"], columns=["C", "X"])


def trial(number: int, score: float | None) -> Trial:
    return Trial(number, {"units": number}, score, 1.0, "" if score is not None else "ValueError: bad")


TRIALS = [trial(0, 0.9), trial(1, None), trial(2, 0.7), trial(3, 0.8), trial(4, None)]
FIGURES = {
    "classes": lambda: plots.class_counts(["S", "S", "C", "V"], "All"),
    "confusion": lambda: plots.confusion_matrix(COUNTS, "Confusion"),
    "confusion of many": lambda: plots.confusion_matrix(
        pd.DataFrame(np.eye(26, dtype=int), index=BUS_CLASSES, columns=BUS_CLASSES), "Confusion"
    ),
    "curves": lambda: plots.learning_curves(CURVES, "Curves"),
    "history": lambda: plots.optimisation_history(TRIALS, "validation_loss", minimise=True),
    "history of failures": lambda: plots.optimisation_history(TRIALS[1:2], "validation_loss", minimise=True),
    "importances": lambda: plots.parameter_importances({"learning_rate": 0.8, "units": 0.2}),
    "no importances": lambda: plots.parameter_importances({}),
    "grid": lambda: plots.grid_scores(GRID, "Grid"),
    "grid without widths": lambda: plots.grid_scores(GRID.drop(columns="gamma"), "Grid"),
}


def drawn(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=50, format="png")
    return file.getvalue()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws(name: str) -> None:
    assert drawn(FIGURES[name]()).startswith(b"\x89PNG")


def test_figures_draw_in_threads_as_they_do_alone() -> None:
    alone = {name: drawn(make()) for name, make in FIGURES.items()}
    with ThreadPoolExecutor(4) as pool:
        together = {name: pool.submit(lambda make=make: drawn(make())) for name, make in FIGURES.items()}
        assert {name: future.result() for name, future in together.items()} == alone


def test_figures_need_no_pyplot() -> None:
    program = """
import sys, io
from astrd import plots
plots.class_counts(["S", "C"], "All").savefig(io.BytesIO(), format="png")
assert "matplotlib.pyplot" not in sys.modules
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_class_counts_tell_numbers_and_groups() -> None:
    shown = texts(FIGURES["classes"]())
    assert {"S (2)", "C (1)", "X (0)", "Other (1)"} <= set(shown)
    assert shown.count("2") >= 1


def test_a_confusion_matrix_shows_its_counts_and_no_zeros() -> None:
    (axes, _) = plots.confusion_matrix(COUNTS, "Confusion").axes
    assert sorted(text.get_text() for text in axes.texts) == ["1", "3"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "catalogued")


def test_learning_curves_mark_the_weights_that_were_kept() -> None:
    (axes,) = FIGURES["curves"]().axes
    kept = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert kept == [[[2, 1.5]], [[3, 1.6]]]


@pytest.mark.parametrize(("minimise", "best"), [(True, [0.9, 0.7, 0.7]), (False, [0.9, 0.9, 0.9])])
def test_the_history_shows_the_best_so_far_and_marks_failed_trials(minimise: bool, best: list[float]) -> None:
    (axes,) = plots.optimisation_history(TRIALS, "validation_loss", minimise).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["trial"].get_xydata().tolist() == [[1, 0.9], [3, 0.7], [4, 0.8]]
    assert lines["best so far"].get_ydata().tolist() == best
    assert "failed (2)" in lines
    marked = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata())]
    assert marked == [2, 5]


def test_a_history_without_failures_says_nothing_of_them() -> None:
    (axes,) = plots.optimisation_history([trial(0, 0.5)], "validation_loss", minimise=True).axes
    assert not any("failed" in str(line.get_label()) for line in axes.lines)


def test_importances_say_when_there_is_nothing_to_tell() -> None:
    assert "too few trials to tell" in texts(FIGURES["no importances"]())
    assert "too few trials to tell" not in texts(FIGURES["importances"]())


def test_a_grid_has_a_line_for_each_kernel_and_width() -> None:
    (axes,) = FIGURES["grid"]().axes
    assert axes.get_legend_handles_labels()[1] == ["linear", "rbf, gamma 0.1"]


@pytest.fixture(scope="module")
def page() -> str:
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    return plots.confusion_page("main_group", ["1 Ceres", "10 Hygiea", "2 Pallas", "433 Eros"], truth, predicted, "Who")


def test_a_confusion_page_loads_nothing_from_elsewhere(page: str) -> None:
    tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page)
    assert tags
    assert not [tag for tag in tags if re.search(r"(?:src|href)\s*=", tag)]
    assert len(page) > 1_000_000  # plotly.js is inside


def test_a_confusion_page_lists_its_asteroids(page: str) -> None:
    data = page[page.rindex("Plotly.newPlot") :]
    for name in ("1 Ceres, 10 Hygiea", "2 Pallas", "433 Eros"):
        assert name in data
    assert "C predicted as S" in data
    assert "X predicted as" not in data  # no X was there or predicted


def test_a_crowded_cell_names_some_and_counts_the_rest() -> None:
    zeros = np.zeros(100, dtype=int)
    page = plots.confusion_page("main_group", [f"asteroid {i}" for i in range(100)], zeros, zeros, "Many")
    data = page[page.rindex("Plotly.newPlot") :]
    assert "100 asteroids" in data
    assert "and 40 more" in data
    assert "asteroid 59" in data
    assert "asteroid 60" not in data


def test_a_reliability_diagram_has_a_panel_a_level_and_names_the_errors() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(4, 0.3), 400)
    truth = (probabilities.cumsum(axis=1) < random.random((400, 1))).sum(axis=1).clip(max=3)
    levels = {
        "main group": {"before": probabilities**2 / (probabilities**2).sum(1, keepdims=True), "after": probabilities}
    }
    figure = plots.reliability(levels, {"main group": truth}, "a network")
    (axes,) = figure.axes
    errors = [float(text.get_text().split("error ")[1][:-1]) for text in axes.get_legend().get_texts()[1:]]
    assert axes.get_title() == "main group"
    assert errors[0] > errors[1]

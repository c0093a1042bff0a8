"""The notebook runs from its first cell to its last, and its fallback works."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from astrd import smass

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(TOUR, as_version=4)


def executed(notebook: nbformat.NotebookNode, folder: Path, mirror: Path) -> str:
    """Everything that the cells said."""
    environment = {**os.environ, smass.MIRROR_VARIABLE: str(mirror), "IPYTHONDIR": str(folder), "MPLBACKEND": "agg"}
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(folder)}}).execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output["data"].get("text/plain", "") for output in outputs)


def test_it_is_short_and_kept_without_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 10
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "mlflow" not in text and "prefect" not in text


def test_it_walks_from_the_archive_to_a_class(
    notebook: nbformat.NotebookNode, archive_or_none: Path | None, tmp_path: Path
) -> None:
    said = executed(notebook, tmp_path, archive_or_none or tmp_path / "nowhere")
    assert ("Going on with the simulated survey" in said) == (archive_or_none is None)
    assert "fold 5 of 5" in said
    for name in ("bus_class", "bus_prediction_set", "analogue_designation", "band_09_depth"):
        assert name in said


def test_without_the_archive_it_goes_on_with_the_simulated_survey(
    notebook: nbformat.NotebookNode, tmp_path: Path
) -> None:
    start = copy.deepcopy(notebook)
    start.cells = start.cells[:3]
    assert "Going on with the simulated survey" in executed(start, tmp_path, tmp_path / "nowhere")

"""The house keeps its floors: arrows point downward, and what is costly is imported late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEAK_MLFLOW = {"tracking.py", "registry.py", "served_model.py"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    ("floor", "above"), [("astrd", {"tasks", "flows", "prefect"}), ("tasks", {"flows"}), ("benchmarks", {"flows"})]
)
def test_a_floor_imports_nothing_from_above(floor: str, above: set[str]) -> None:
    files = sorted((ROOT / floor).glob("*.py"))
    assert files
    wrong = {path.name: found for path in files if (found := above & set(imported(path)))}
    assert wrong == {}


def test_flows_do_import_tasks() -> None:
    """The check above sees imports at all."""
    assert "tasks" in set(imported(ROOT / "flows" / "pipeline.py"))


def test_three_rooms_of_the_library_speak_mlflow() -> None:
    speakers = {path.name for path in (ROOT / "astrd").glob("*.py") if "mlflow" in set(imported(path))}
    assert speakers == SPEAK_MLFLOW


def test_every_room_stands_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.stem for path in (ROOT / "astrd").glob("*.py")} - {"__init__"}
    assert {room for room in rooms if f"`{room}`" not in text} == set()


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("astrd", {"numpy", "astrd.spectrum"}),
        ("astrd.cli", {"mlflow", "tensorflow", "pandas", "scipy"}),
        ("astrd.classifier", {"tensorflow", "keras", "mlflow", "onnxruntime", "sklearn"}),
        ("astrd.registry", {"tensorflow", "keras", "sklearn", "onnxruntime", "matplotlib"}),
        ("astrd.served_model", {"tensorflow", "keras", "sklearn"}),
        ("astrd.catalogue", {"tensorflow", "keras", "mlflow"}),
    ],
)
def test_what_is_costly_is_imported_late(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_spectrum_is_at_hand_where_the_package_is_imported() -> None:
    import astrd
    from astrd.spectrum import Spectrum

    assert astrd.Spectrum is Spectrum
    with pytest.raises(AttributeError, match="no attribute 'Spectrumm'"):
        _ = astrd.Spectrumm

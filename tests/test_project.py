"""The files at the root say the same thing: versions, defaults, names."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import socket
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from mlflow.projects import _project_spec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from astrd import tracking

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CONDA = yaml.safe_load((ROOT / "conda.yaml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PREFECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
MLPROJECT = _project_spec.load_project(str(ROOT))
FLAGS_ONLY = {"rollback": "python -m flows promote --rollback"}
"""Entry points for what MLproject cannot say: it knows no flags."""


def locked_versions(text: str) -> dict[str, Version]:
    pins = re.findall(r"^([\w.\-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", text, flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def flow_of(command: str) -> inspect.Signature:
    name = command.split()[3]
    return inspect.signature(getattr(importlib.import_module(f"flows.{name}"), name).fn)


def test_conda_yaml_pins_what_pyproject_pins() -> None:
    *_, pip = CONDA["dependencies"]
    assert pip["pip"] == PROJECT["dependencies"]
    assert CONDA["name"] == PROJECT["name"]


def test_the_conda_python_is_the_oldest_supported_one_without_a_patch_level() -> None:
    oldest = PROJECT["requires-python"].split(",")[0].removeprefix(">=")
    assert CONDA["dependencies"][:2] == [f"python={oldest}", "pip"]
    assert oldest.count(".") == 1


def test_make_asks_for_the_python_that_pyproject_requires() -> None:
    oldest, newest = re.findall(r"\((3), (\d+)\)", MAKEFILE)
    assert PROJECT["requires-python"] == f">={'.'.join(oldest)},<{newest[0]}.{int(newest[1]) + 1}"


def test_every_dependency_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in requirements:
        found = [line for line in lines if line.startswith(f'    "{requirement}",')]
        assert found, requirement
        assert all(re.search(r"  # \w.+", line) for line in found), requirement


def test_every_locked_package_has_hashes() -> None:
    packages = re.split(r"\n(?=[^ #\n])", LOCK.strip())
    assert len(packages) > 100
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []


def test_the_lock_names_no_address() -> None:
    assert [line for line in LOCK.splitlines() if re.search(r"://|--[a-z-]*(index|find-links)| @ ", line)] == []


def test_the_lock_satisfies_pyproject() -> None:
    locked = locked_versions(LOCK)
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_there_is_no_uv_lock_that_mlflow_would_prefer_to_conda_yaml() -> None:
    assert not (ROOT / "uv.lock").exists()


@pytest.mark.registry
def test_the_lock_is_what_its_command_makes(tmp_path: Path) -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    (command,) = re.findall(r"uv pip compile(?:.*\\\n)*.*", contributing)
    _, *arguments = command.replace("\\\n", " ").split()
    copy = tmp_path / "requirements.lock"
    shutil.copy(ROOT / "requirements.lock", copy)
    arguments[arguments.index("requirements.lock")] = str(copy)
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    done = subprocess.run([uv, *arguments, "--quiet"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert locked_versions(copy.read_text()) == locked_versions(LOCK)


@pytest.mark.parametrize("name", sorted(set(MLPROJECT._entry_points) - set(FLAGS_ONLY)))
def test_mlproject_repeats_the_defaults_of_the_flow(name: str) -> None:
    entry_point = MLPROJECT.get_entry_point(name)
    said = {parameter.name: str(parameter.default) for parameter in entry_point.parameters.values()}
    signature = flow_of(entry_point.command)
    flags = {parameter.name for parameter in signature.parameters.values() if isinstance(parameter.default, bool)}
    assert said == {key: str(value.default) for key, value in signature.parameters.items() if key not in flags}
    assert flags <= set(FLAGS_ONLY)


@pytest.mark.parametrize("name", sorted(set(MLPROJECT._entry_points) - set(FLAGS_ONLY)))
def test_mlproject_hands_over_every_parameter_even_an_empty_one(name: str) -> None:
    entry_point = MLPROJECT.get_entry_point(name)
    command = entry_point.compute_command({}, None)
    for parameter in entry_point.parameters.values():
        option = parameter.name.replace("_", "-")
        assert f"--{option} {parameter.default if parameter.default != '' else chr(39) * 2}" in command


def test_the_main_job_of_mlproject_is_the_pipeline() -> None:
    main, pipeline = (MLPROJECT.get_entry_point(name) for name in ("main", "pipeline"))
    assert main.command == pipeline.command
    assert list(main.parameters) == list(pipeline.parameters)


@pytest.mark.parametrize("name", sorted(FLAGS_ONLY))
def test_mlproject_raises_a_flag_with_an_entry_point_of_its_own(name: str) -> None:
    entry_point = MLPROJECT.get_entry_point(name)
    assert entry_point.command == FLAGS_ONLY[name]
    assert flow_of(entry_point.command).parameters[name].default is False


def test_mlproject_resolves_no_path_in_the_folder_of_the_caller() -> None:
    kinds = {p.type for name in MLPROJECT._entry_points for p in MLPROJECT.get_entry_point(name).parameters.values()}
    assert kinds <= {"string", "float"}


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda deployment: deployment["name"])
def test_a_deployment_names_a_flow_that_is_there_and_never_overlaps(deployment: dict) -> None:
    path, flow = deployment["entrypoint"].split(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    known = inspect.signature(getattr(module, flow).fn).parameters
    assert set(deployment.get("parameters", {})) <= set(known)
    assert deployment["concurrency_limit"] == 1


def test_make_serve_asks_for_the_registered_champion() -> None:
    assert f"-m models:/{tracking.REGISTERED_CNN}@$(ALIAS)" in MAKEFILE
    assert f"ALIAS ?= {tracking.Alias.CHAMPION}\n" in MAKEFILE


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**environment, **variables}, capture_output=True, text=True)


def test_make_alone_lists_every_target_in_one_line() -> None:
    shown = make().stdout
    (targets,) = re.findall(r"^\.PHONY: (help .*)$", MAKEFILE, flags=re.MULTILINE)
    assert re.findall(r"^  make (\w+)", shown, flags=re.MULTILINE) == targets.split()


@pytest.mark.skipif(not (ROOT / ".venv" / "ready").exists(), reason="make would set up .venv first")
@pytest.mark.parametrize(("target", "variable"), [("ui", "UI_PORT"), ("serve", "PORT")])
def test_a_port_that_is_in_use_is_named(target: str, variable: str, tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    store.touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = make(target, f"{variable}={port}", MLFLOW_TRACKING_URI=f"sqlite:///{store}")
    assert ended.returncode != 0
    assert f"Port {port} is in use" in ended.stderr
    assert f"{variable}=PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not (ROOT / ".venv" / "ready").exists(), reason="make would set up .venv first")
@pytest.mark.parametrize("port", ["abc", "99999", "0"])
def test_what_is_no_port_is_told(port: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    ended = make("serve", f"PORT={port}", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    assert ended.returncode != 0
    assert f"Expected a port from 1 to 65535, got PORT={port}" in ended.stderr
    assert "Traceback" not in ended.stderr

"""The only room that speaks MLflow tracking: where runs go, how they nest, what everything is called.

One experiment; a parent run for each flow run, a child for each step, a grandchild for each trial of a search.
Children name their parent explicitly, because MLflow's active run is local to a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# MLflow reads these when it is imported. What a user has set is left alone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import pandas as pd
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param
from mlflow.entities import Run as Run  # for the annotations of those who read runs back
from mlflow.exceptions import MlflowException

from astrd.dataset import DatasetRef
from astrd.effort import recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from astrd.tuning import Trial

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # a new database is no news

EXPERIMENT: Final = "asteroid-taxonomy"
REGISTERED_CNN: Final = "asteroid-taxonomy-cnn"
DEFAULT_STORE: Final = "mlflow.db"
ARTIFACTS_FOLDER: Final = "mlartifacts"


class Tag:
    """Names of tags on runs and model versions."""

    STEP: Final = "astrd.step"
    TARGET: Final = "astrd.target"
    MODEL: Final = "astrd.model"
    DATA_SOURCE: Final = "astrd.data_source"
    DATA_SHA256: Final = "astrd.data_sha256"
    CANDIDATE: Final = "astrd.candidate"
    TRIAL: Final = "astrd.trial"
    TRIAL_STATE: Final = "astrd.trial_state"
    DECISION: Final = "astrd.decision"
    PARENT: Final = "mlflow.parentRunId"
    SOURCE_NAME: Final = "mlflow.source.name"


class Alias:
    """Names of model versions in the registry."""

    CHAMPION: Final = "champion"
    CHALLENGER: Final = "challenger"
    PREVIOUS: Final = "previous"
    NETWORK: Final = "network"  # the best convolutional network that is no part of an ensemble


def connect() -> str:
    """Point MLflow at the tracking store and make the experiment where it is not there yet.

    The store is `MLFLOW_TRACKING_URI`, else `mlflow.db` in the current folder. A new SQLite file is set up by one
    process at a time: several at once would corrupt it.

    Returns
    -------
    str
        The experiment's id: the one that `mlflow run` named, else that of `EXPERIMENT`.
    """
    uri = os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{Path(DEFAULT_STORE).resolve()}")
    mlflow.set_tracking_uri(uri)
    with _only_one_process(uri):
        client = mlflow.MlflowClient()
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        location = (store_folder() / ARTIFACTS_FOLDER).as_uri() if uri.startswith("sqlite:") else None
        return str(client.create_experiment(name, artifact_location=location))


def store_folder() -> Path:
    """The folder of a SQLite tracking store, else the current one: where searches keep their own state too."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///")).resolve().parent
    return Path.cwd()


def store_exists() -> bool:
    """Whether there is a store to read from; asking makes none."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or Path(DEFAULT_STORE).is_file()


@contextlib.contextmanager
def flow_run(name: str, tags: Mapping[str, str] | None = None) -> Iterator[str]:
    """The parent run of a flow: the run that `mlflow run` made for this process, else a new one.

    Yields
    ------
    str
        Its id, for the steps to nest under.
    """
    experiment_id = connect()
    all_tags = {Tag.STEP: name, Tag.SOURCE_NAME: f"flows {name}", **(tags or {})}
    if os.environ.get("MLFLOW_RUN_ID"):  # the first start_run takes it up; asking for a parent would not
        run = mlflow.start_run(tags=all_tags)
    else:
        run = mlflow.start_run(experiment_id=experiment_id, run_name=_timed_name(name), tags=all_tags)
    with run, _open(run.info.run_id):
        yield run.info.run_id


@contextlib.contextmanager
def step_run(
    parent_run_id: str, step: str, name: str, tags: Mapping[str, str] | None = None, run_id: str | None = None
) -> Iterator[StepRun]:
    """A step's own run under its flow's; with `run_id`, that earlier run goes on, under its new parent.

    A step that raises leaves its run as failed, with the reason in its note.
    """
    with recording():
        run = _started(parent_run_id, step, name, tags, run_id)
    with run, _open(run.info.run_id):
        try:
            yield StepRun(run.info.run_id)
        except Exception as error:
            mlflow.set_tag("mlflow.note.content", f"Failed: {type(error).__name__}: {error}")
            raise


def _started(
    parent_run_id: str, step: str, name: str, tags: Mapping[str, str] | None, run_id: str | None
) -> mlflow.ActiveRun:
    experiment_id = connect()
    all_tags = {Tag.STEP: step, Tag.SOURCE_NAME: f"flows {step}", **(tags or {})}
    if run_id:
        _close_parent(run_id)
        mlflow.MlflowClient().set_tag(run_id, Tag.PARENT, parent_run_id)
        return mlflow.start_run(run_id=run_id, nested=True, tags=all_tags)
    return mlflow.start_run(
        experiment_id=experiment_id, run_name=name, parent_run_id=parent_run_id, nested=True, tags=all_tags
    )


_open_runs: set[str] = set()


@contextlib.contextmanager
def _open(run_id: str) -> Iterator[None]:
    _open_runs.add(run_id)
    try:
        yield
    finally:
        _open_runs.discard(run_id)


def kill_open_runs() -> None:
    """Mark all runs that this process has open as killed: for a process that is about to be ended."""
    client = mlflow.MlflowClient()
    for run_id in tuple(_open_runs):
        with contextlib.suppress(MlflowException):  # the others are to be marked all the same
            client.set_terminated(run_id, "KILLED")


def _close_parent(run_id: str) -> None:
    """Say of the flow that a run was cut short with that it was killed: nothing else will."""
    client = mlflow.MlflowClient()
    parent_run_id = client.get_run(run_id).data.tags.get(Tag.PARENT)
    if parent_run_id and client.get_run(parent_run_id).info.status == "RUNNING":
        client.set_terminated(parent_run_id, "KILLED")


@dataclass(frozen=True)
class StepRun:
    """An open run of a step: what the steps log, in one place."""

    run_id: str

    @recording()
    def log_params(self, params: Mapping[str, Any]) -> None:
        mlflow.log_params({key: value for key, value in params.items() if value is not None})

    @recording()
    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        mlflow.log_metrics({key: float(value) for key, value in metrics.items()})

    @recording()
    def set_tags(self, tags: Mapping[str, str]) -> None:
        mlflow.set_tags(dict(tags))

    @recording()
    def log_dataset(self, dataset: DatasetRef, context: str, name: str) -> None:
        """Record which data the run used: where they lie, how they are called, their digest."""
        source = get_dataset_source_from_json(json.dumps({"uri": Path(dataset.path).resolve().as_uri()}), "local")
        entry = MetaDataset(source, name=f"{dataset.data_source}-{name}", digest=dataset.sha256[:16])
        mlflow.log_input(entry, context=context)
        mlflow.set_tags({Tag.DATA_SOURCE: dataset.data_source, Tag.DATA_SHA256: dataset.sha256})

    @recording()
    def log_curves(self, curves: pd.DataFrame) -> None:
        """Log a table with one row an epoch as metrics with a step, in batches."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(str(name), float(value), now, epoch)
            for name in curves.columns
            for epoch, value in enumerate(curves[name], start=1)
        ]
        _log_in_batches(self.run_id, metrics)

    def log_figure(self, figure: Figure, path: str) -> None:
        """Log a matplotlib figure; the suffix of the path gives the format."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            figure.savefig(file, dpi=150, bbox_inches="tight")
            with recording():
                mlflow.log_artifact(str(file), str(Path(path).parent) if "/" in path else None)

    @recording()
    def log_table(self, table: pd.DataFrame, path: str) -> None:
        """Log a table as CSV."""
        mlflow.log_text(table.to_csv(index=False), path)

    @recording()
    def log_text(self, text: str, path: str) -> None:
        mlflow.log_text(text, path)

    @recording()
    def log_file(self, path: str | Path, folder: str | None = None) -> None:
        mlflow.log_artifact(str(path), folder)


@recording()
def log_trial(parent_run_id: str, trial: Trial, score_name: str, tags: Mapping[str, str] | None = None) -> None:
    """Log a trial as a child run, once: a trial that is there already is left, half-written ones are made anew."""
    client = mlflow.MlflowClient()
    parent = client.get_run(parent_run_id)
    for run in _children(client, parent, f"tags.`{Tag.TRIAL}` = '{trial.number}'"):
        if run.info.status != "RUNNING":
            return
        client.delete_run(run.info.run_id)
    end = int(time.time() * 1000)
    run = client.create_run(
        parent.info.experiment_id,
        start_time=end - int(trial.duration * 1000),
        run_name=f"trial {trial.number:02d}",
        tags={
            Tag.PARENT: parent_run_id,
            Tag.STEP: "trial",
            Tag.TRIAL: str(trial.number),
            Tag.TRIAL_STATE: "failed" if trial.failed else "complete",
            Tag.SOURCE_NAME: parent.data.tags.get(Tag.SOURCE_NAME, "flows tune"),
            "mlflow.user": parent.info.user_id or "",
            **(tags or {}),
            **({"mlflow.note.content": f"Failed: {trial.error}"} if trial.failed else {}),
        },
    )
    metrics = [Metric("duration", trial.duration, end, 0)]
    if trial.score is not None:
        metrics.append(Metric(score_name, trial.score, end, 0))
    for name, values in (trial.curves or {}).items():
        metrics += [Metric(name, float(value), end, epoch) for epoch, value in enumerate(values, start=1)]
    params = [Param(str(key), str(value)) for key, value in trial.params.items()]
    _log_in_batches(run.info.run_id, metrics, params)
    client.set_terminated(run.info.run_id, "FAILED" if trial.failed else "FINISHED", end)


def log_to_run(
    run_id: str, params: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None
) -> None:
    """Log params and metrics to any run."""
    now = int(time.time() * 1000)
    known = mlflow.MlflowClient().get_run(run_id).data.params  # `mlflow run` logs those that it was given
    _log_in_batches(
        run_id,
        [Metric(key, float(value), now, 0) for key, value in (metrics or {}).items()],
        [Param(key, str(value)) for key, value in (params or {}).items() if key not in known],
    )


def tag_run(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags on any run."""
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_tag(run_id, key, value)


def run_exists(run_id: str) -> bool:
    """Whether the store holds this run, and it was not deleted."""
    try:
        return bool(mlflow.MlflowClient().get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def steps_of(flow_run_id: str, step: str) -> list[Run]:
    """The finished runs of a step under a flow's run, oldest first."""
    client = mlflow.MlflowClient()
    parent = client.get_run(flow_run_id)
    runs = _children(client, parent, f"tags.`{Tag.STEP}` = '{step}' AND attributes.status = 'FINISHED'")
    return sorted(runs, key=lambda run: run.info.start_time)


def latest_flow_run_with(step: str, tags: Mapping[str, str]) -> str:
    """The id of the newest flow run that holds a finished step with these tags.

    Raises
    ------
    LookupError
        If there is none; the message says how to make one.
    """
    experiment_id = connect()
    wanted = "".join(f" AND tags.`{key}` = '{value}'" for key, value in tags.items())
    found = mlflow.MlflowClient().search_runs(
        [experiment_id],
        f"tags.`{Tag.STEP}` = '{step}' AND attributes.status = 'FINISHED'{wanted}",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found or not (parent := found[0].data.tags.get(Tag.PARENT)):
        raise LookupError(
            f"no finished {step} run with {json.dumps(dict(tags))}: make one with `python -m flows {step}`"
        )
    return str(parent)


def latest_flow_run(name: str) -> str | None:
    """The id of the newest finished run of a flow, or None."""
    found = mlflow.MlflowClient().search_runs(
        [connect()],
        f"tags.`{Tag.STEP}` = '{name}' AND attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def name_of(run_id: str) -> str:
    """A run's name, as MLflow shows it."""
    return str(mlflow.MlflowClient().get_run(run_id).info.run_name)


def logged_table(run_id: str, path: str) -> pd.DataFrame | None:
    """A table that `StepRun.log_table` logged, or None; designations are text."""
    folder = path.rpartition("/")[0] or None
    if path not in {file.path for file in mlflow.MlflowClient().list_artifacts(run_id, folder)}:
        return None
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/{path}")
    return pd.read_csv(io.StringIO(text), dtype={"designation": str})


def _children(client: mlflow.MlflowClient, parent: Run, condition: str) -> list[Run]:
    query = f"tags.`{Tag.PARENT}` = '{parent.info.run_id}' AND {condition}"
    return list(client.search_runs([parent.info.experiment_id], query, max_results=1000))


def _log_in_batches(run_id: str, metrics: list[Metric], params: list[Param] | None = None) -> None:
    client, size = mlflow.MlflowClient(), 1000
    for start in range(0, max(len(metrics), 1), size):
        client.log_batch(run_id, metrics[start : start + size], params=(params or []) if start == 0 else [])


def _timed_name(name: str) -> str:
    return f"{name} {time.strftime('%Y-%m-%d %H:%M')}"


@contextlib.contextmanager
def _only_one_process(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    lock = store_folder() / f".{Path(uri).name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""What the steps of a flow run found out about the asteroids, read back from where they logged it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from astrd import dataset, metrics, tracking
from astrd.audit import LABEL_AUDIT_TABLE
from astrd.clusters import LATENT_SPACE_TABLE, STABILITY_TABLE
from astrd.dataset import FEATURES_PATH, DatasetRef, DataSource, raw_path
from astrd.evaluation import OUT_OF_FOLD_TABLE
from astrd.metrics import Array
from astrd.promotion import best_candidate
from astrd.stress import TABLES
from astrd.taxonomy import BUS_CLASSES, LABELS, Target, bus_codes
from astrd.tracking import Tag

if TYPE_CHECKING:
    from astrd.tracking import Run


@dataclass(frozen=True)
class Judgement:
    """The out-of-fold answers of the candidate that was registered, else of the best: each by a network of its model
    that had not seen the asteroid.

    `probabilities` has shape (n, 26); `temperature` is the one by which the served network divides its logits.
    `stress` holds the tables of `stress.TABLES` that were logged.
    """

    model: str
    designation: tuple[str, ...]
    catalogued: tuple[str, ...]
    probabilities: Array
    temperature: float
    stress: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def truth(self, level: Target) -> list[str]:
        """The catalogued label at a level of the taxonomy, for each asteroid."""
        answer = np.eye(len(BUS_CLASSES))[bus_codes(self.catalogued)]
        return [LABELS[level][code] for code in metrics.levels("bus_class", answer)[level].argmax(axis=1)]

    def predicted(self, level: Target) -> list[str]:
        """The label of highest probability at a level of the taxonomy, for each asteroid."""
        answer = metrics.levels("bus_class", self.probabilities)[level]
        return [LABELS[level][code] for code in answer.argmax(axis=1)]


@dataclass(frozen=True)
class Findings:
    """The tables of one flow run; None where it has no finished step that makes them."""

    run_id: str
    run_name: str
    judgement: Judgement | None = None
    latent_space: pd.DataFrame | None = None
    stability: pd.DataFrame | None = None
    label_audit: pd.DataFrame | None = None


def of_run(run_id: str, features: DatasetRef) -> Findings:
    """The findings of a flow's run.

    Raises
    ------
    LookupError
        If there is no such run.
    ValueError
        If a step of it used other features than these: asteroids and classes could be mistaken for others.
    """
    if not tracking.run_exists(run_id):
        raise LookupError(f"there is no run {run_id!r}: give the id of a flow's run, as MLflow shows it")
    steps = {name: tracking.steps_of(run_id, name) for name in ("train", "cluster", "audit")}
    for run in itertools.chain.from_iterable(steps.values()):
        if (used := run.data.tags.get(Tag.DATA_SHA256)) not in (None, features.sha256):
            raise ValueError(
                f"run {run_id} used features with SHA-256 {used}, and {features.path} has {features.sha256}: "
                "name a run that used these with --run, or make one with `python -m flows pipeline`"
            )
    return Findings(
        run_id,
        tracking.name_of(run_id),
        _judgement(run_id, steps["train"]),
        _newest(steps["cluster"], LATENT_SPACE_TABLE),
        _newest(steps["cluster"], STABILITY_TABLE),
        _newest(steps["audit"], LABEL_AUDIT_TABLE),
    )


@dataclass(frozen=True)
class Material:
    """What there is to show: the spectra as observed and on the 49 channels, and the findings about them.

    `note` says why there are no findings; it is empty where there are some.
    """

    raw: pd.DataFrame
    features: pd.DataFrame
    data_source: DataSource
    findings: Findings | None
    note: str


def material(run_id: str = "") -> Material:
    """The spectra in `data/` below the current folder, with findings of a run: that named, else the newest main job's.

    Raises
    ------
    FileNotFoundError
        If no spectra were ingested.
    LookupError, ValueError
        If the run that was named is not there, or used other data.
    """
    if not Path(FEATURES_PATH).is_file():
        if run_id:
            raise FileNotFoundError(
                f"no data set at {FEATURES_PATH} to which run {run_id} could belong: "
                "make it with `python -m flows features`"
            )
        archive, simulated = raw_path("smass2"), raw_path("simulated")
        reference = DatasetRef.of(simulated if simulated.is_file() and not archive.is_file() else archive)
        raw = reference.read()
        return Material(raw, dataset.features(raw), reference.data_source, None, "no features were made yet")
    features = DatasetRef.of(FEATURES_PATH)
    raw = dataset.raw_of(features).read()
    found, note = _findings(run_id, features)
    return Material(raw, features.read(), features.data_source, found, note)


def _findings(run_id: str, features: DatasetRef) -> tuple[Findings | None, str]:
    if not tracking.store_exists():
        if run_id:
            raise LookupError(
                f"there is no tracking store here that could hold run {run_id}: go to the folder where "
                "`make run` was called, or set MLFLOW_TRACKING_URI"
            )
        return None, "there is no tracking store here"
    tracking.connect()
    if run_id:
        return of_run(run_id, features), ""
    newest = tracking.latest_flow_run("pipeline")
    if newest is None:
        return None, "no main job has finished yet"
    try:
        return of_run(newest, features), ""
    except ValueError as error:  # data were made anew since; they can be shown without it
        return None, str(error)


def _judgement(run_id: str, trained: list[Run]) -> Judgement | None:
    candidates = {run.info.run_id: run for run in trained if run.data.tags.get(Tag.CANDIDATE) == "true"}
    if not candidates:
        return None
    registered = [run.data.params.get("candidate_run_id", "") for run in tracking.steps_of(run_id, "promote")]
    best = best_candidate({name: run.data.metrics for name, run in candidates.items()})
    run = candidates[next((name for name in reversed(registered) if name in candidates), best)]
    table = tracking.logged_table(run.info.run_id, OUT_OF_FOLD_TABLE)
    if table is None:
        return None
    return Judgement(
        run.data.tags[Tag.MODEL],
        tuple(table["designation"]),
        tuple(table["catalogued"]),
        table[[f"probability_{name}" for name in BUS_CLASSES]].to_numpy(dtype=float),
        run.data.metrics.get("temperature", 1.0),
        {
            name: tried
            for name, path in TABLES.items()
            if (tried := tracking.logged_table(run.info.run_id, path)) is not None
        },
    )


def _newest(runs: list[Run], name: str) -> pd.DataFrame | None:
    tables = (tracking.logged_table(run.info.run_id, name) for run in reversed(runs))
    return next((table for table in tables if table is not None), None)

"""What the steps of a flow run found out about the asteroids, read back from where they logged it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

from astrd import metrics, tracking
from astrd.dataset import DatasetRef
from astrd.metrics import Array
from astrd.promotion import SELECTION_SCORE
from astrd.taxonomy import BUS_CLASSES, LABELS, Target
from astrd.tracking import Tag

if TYPE_CHECKING:
    from mlflow.entities import Run

OUT_OF_FOLD: Final = "out_of_fold.csv"
LATENT_SPACE: Final = "latent_space.csv"
STABILITY: Final = "bic_and_stability.csv"
LABEL_AUDIT: Final = "label_audit.csv"
"""Names of the tables that the steps log."""


@dataclass(frozen=True)
class Judgement:
    """The out-of-fold answers of the candidate that was registered, else of the best: each by a network of its model
    that had not seen the asteroid.

    `probabilities` has shape (n, 26); `temperature` is the one by which the served network divides its logits.
    """

    model: str
    designation: tuple[str, ...]
    catalogued: tuple[str, ...]
    probabilities: Array
    temperature: float

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
    for run in sum(steps.values(), []):
        if (used := run.data.tags.get(Tag.DATA_SHA256)) not in (None, features.sha256):
            raise ValueError(
                f"run {run_id} used features with SHA-256 {used}, and {features.path} has {features.sha256}: "
                "name a run that used these with --run, or make one with `python -m flows pipeline`"
            )
    return Findings(
        run_id,
        tracking.name_of(run_id),
        _judgement(run_id, steps["train"]),
        _newest(steps["cluster"], LATENT_SPACE),
        _newest(steps["cluster"], STABILITY),
        _newest(steps["audit"], LABEL_AUDIT),
    )


def _judgement(run_id: str, trained: list[Run]) -> Judgement | None:
    candidates = {run.info.run_id: run for run in trained if run.data.tags.get(Tag.CANDIDATE) == "true"}
    if not candidates:
        return None
    registered = [run.data.params.get("candidate_run_id", "") for run in tracking.steps_of(run_id, "promote")]
    best = max(candidates, key=lambda name: candidates[name].data.metrics.get(SELECTION_SCORE, 0.0))
    run = candidates[next((name for name in reversed(registered) if name in candidates), best)]
    table = tracking.logged_table(run.info.run_id, OUT_OF_FOLD)
    if table is None:
        return None
    return Judgement(
        run.data.tags[Tag.MODEL],
        tuple(table["designation"]),
        tuple(table["catalogued"]),
        table[[f"probability_{name}" for name in BUS_CLASSES]].to_numpy(dtype=float),
        run.data.metrics.get("temperature", 1.0),
    )


def _newest(runs: list[Run], name: str) -> pd.DataFrame | None:
    tables = (tracking.logged_table(run.info.run_id, name) for run in reversed(runs))
    return next((table for table in tables if table is not None), None)

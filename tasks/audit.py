"""Audit: the labels that every trained model contradicts, with all that a person needs to judge them."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities import Run
from prefect import task
from prefect.cache_policies import NO_CACHE

from astrd import audit as library
from astrd import dataset, discovery_plots, tracking
from astrd.analogues import Archive
from astrd.audit import AUDITED, LABEL_AUDIT_TABLE, OutOfFold
from astrd.dataset import DatasetRef, LabelledSpectra
from astrd.evaluation import OUT_OF_FOLD_TABLE
from astrd.taxonomy import LABELS, Target
from astrd.tracking import Tag
from tasks.progress import step


@dataclass(frozen=True)
class Audit:
    """What the step hands on: its run, and the number of contradicted labels by level."""

    run_id: str
    contradicted: dict[Target, int]


@task(name="audit", cache_policy=NO_CACHE)
def audit(parent_run_id: str, models_of: str, features: DatasetRef, raw: DatasetRef) -> Audit:
    """Find the labels that all models contradict out of fold; log a table and a figure of each level.

    Parameters
    ----------
    models_of
        Id of the flow's run whose training steps are asked.
    """
    with step("audit") as shown, tracking.step_run(parent_run_id, "audit", "audit") as run:
        run.log_dataset(raw, "noise", "raw")
        run.log_dataset(features, "audit", "features")
        run.log_params({"models_of": models_of, "draws": library.DRAWS, "neighbours": library.NEIGHBOURS})
        table, spectra = features.read(), raw.read()
        train, _ = dataset.labelled(table)
        archive = Archive.of(table)
        found = library.label_audit(_out_of_fold(models_of, features, train), train)
        names = dict(zip(archive.designation, archive.name, strict=True))
        found.insert(3, "name", [names[designation] for designation in found["designation"]])
        found["draw_share"] = library.draw_shares(found, train, spectra)
        found["neighbours"] = library.neighbours(found["designation"].tolist(), archive)
        run.log_table(found[[*found.columns.drop("level"), "level"]].round(4), LABEL_AUDIT_TABLE)
        for level in AUDITED:
            run.log_figure(discovery_plots.label_audit(found, train, level), f"label_audit_{level}.png")
        contradicted = {level: int((found["level"] == level).sum()) for level in AUDITED}
        run.log_metrics({f"contradicted_{level}": count for level, count in contradicted.items()})
        shown.show(
            note=f"every model contradicts {contradicted['main_group']} main groups and "
            f"{contradicted['bus_class']} Bus classes"
        )
        return Audit(run.run_id, contradicted)


def _out_of_fold(models_of: str, features: DatasetRef, train: LabelledSpectra) -> list[OutOfFold]:
    """The predictions of all models that a flow's run trained on these features."""
    runs = [run for run in _newest(models_of) if run.data.tags[Tag.DATA_SHA256] == features.sha256]
    if not runs:
        raise LookupError(
            f"run {models_of} holds no model that was trained on {features.path} as it is now: train some with "
            "`python -m flows train`"
        )
    return [_predictions(run, train) for run in runs]


def _newest(models_of: str) -> list[Run]:
    """A run of each model: the newest, where one was trained again."""
    return list({run.data.tags[Tag.MODEL]: run for run in tracking.steps_of(models_of, "train")}.values())


def _predictions(run: Run, train: LabelledSpectra) -> OutOfFold:
    tags = run.data.tags
    table = tracking.logged_table(run.info.run_id, OUT_OF_FOLD_TABLE)
    if table is None:
        raise LookupError(f"run {run.info.run_id} has lost its {OUT_OF_FOLD_TABLE}: train its model again")
    table = table.set_index("designation").loc[list(train.designation)]
    labels = LABELS[tags[Tag.TARGET]]  # type: ignore[index]
    probabilities = table[[f"probability_{label}" for label in labels]].to_numpy(dtype=float)
    return OutOfFold(tags[Tag.MODEL], tags[Tag.TARGET], probabilities)  # type: ignore[arg-type]

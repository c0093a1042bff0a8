"""Promote: compare, gate, register, set aliases; and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from astrd import catalogue, dataset, metrics, registry, tracking
from astrd.catalogue import BASELINES, Settings
from astrd.classifier import OtherVersionError
from astrd.dataset import DatasetRef, DataSource, LabelledSpectra
from astrd.model_card import model_card
from astrd.promotion import GATE_SCORE, SELECTION_SCORE, Contender, Decision, decide
from astrd.tracking import REGISTERED_CNN, Alias, StepRun, Tag
from tasks.progress import step


@dataclass(frozen=True)
class Promotion:
    """How a promotion ended: the version registered, the champion's version (None: there is none), and why."""

    version: int
    champion: int | None
    promoted: bool
    reason: str


@task(name="promote", cache_policy=NO_CACHE)
def promote(parent_run_id: str, candidates_of: str, features: DatasetRef) -> Promotion:
    """Register the best candidate of a flow's run, and make it champion if it passes the gate.

    Parameters
    ----------
    candidates_of
        Id of the flow's run whose training steps are looked at.
    features
        The table whose test part is the gate.
    """
    with step("promote") as shown, tracking.step_run(parent_run_id, "promote", "promote") as run:
        run.log_dataset(features, "gate", "features")
        best = _best_candidate(candidates_of)
        name, source = best["name"], best["data_source"]
        train, test = dataset.labelled(features.read())
        baselines = {
            baseline: _score(catalogue.model(baseline, Settings()).fit(train).probabilities(test.reflectance), test)
            for baseline in BASELINES
        }
        candidate = Contender(name, source, _gate_score(f"runs:/{best['run_id']}/{registry.CLASSIFIER}", test))
        champion = _contender(Alias.CHAMPION, test)
        challenger = registry.version_named(Alias.CHALLENGER)
        challenger_source = challenger.tags.get(Tag.DATA_SOURCE) if challenger else None
        decision = decide(candidate, baselines, champion, challenger_source)
        number = registry.register(
            best["run_id"],
            {
                Tag.MODEL: name,
                Tag.DATA_SOURCE: source,
                Tag.DATA_SHA256: best["data_sha256"],
                SELECTION_SCORE: f"{best['score']:.4f}",
                f"test_{GATE_SCORE}": repr(candidate.score),
                Tag.DECISION: decision.reason,
            },
            model_card(name, features, train, test, best["scores"], decision.reason),
        )
        _set_aliases(number, decision)
        named = registry.version_named(Alias.CHAMPION)
        table = _table(candidate, number, baselines, champion)
        _record(run, table, decision, number, best["run_id"])
        promotion = Promotion(number, int(named.version) if named else None, decision.promoted, decision.reason)
        outcome = f"champion is version {promotion.champion}" if promotion.champion else "no champion"
        shown.show(note=f"version {number} registered, {outcome}: {decision.reason}")
        return promotion


@task(name="rollback", cache_policy=NO_CACHE)
def rollback(parent_run_id: str) -> Promotion:
    """Put the previous champion back in its place."""
    with step("rollback") as shown, tracking.step_run(parent_run_id, "promote", "rollback") as run:
        champion, previous = registry.swap_champion_and_previous()
        reason = f"rolled back from version {previous} to version {champion}"
        named = registry.version_named(Alias.CHAMPION)
        source = {Tag.DATA_SOURCE: named.tags[Tag.DATA_SOURCE]} if named and Tag.DATA_SOURCE in named.tags else {}
        tracking.tag_run(parent_run_id, source)
        run.set_tags({Tag.DECISION: reason, **source})
        run.log_params({"champion": champion, "previous": previous})
        registry.tag_version(champion, {Tag.DECISION: reason})
        create_markdown_artifact(f"# Rollback\n\n{REGISTERED_CNN}: {reason}.", key="promotion")
        shown.show(note=reason)
        return Promotion(champion, champion, True, reason)


def _best_candidate(flow_run_id: str) -> dict[str, Any]:
    if not tracking.run_exists(flow_run_id):
        raise LookupError(f"there is no run {flow_run_id!r}: give the id of a flow's run, as MLflow shows it")
    runs = [run for run in tracking.steps_of(flow_run_id, "train") if run.data.tags.get(Tag.CANDIDATE) == "true"]
    if not runs:
        raise LookupError(
            f"run {flow_run_id} holds no finished candidate ({', '.join(catalogue.CANDIDATES)}): train one first, "
            "with `python -m flows train --models bus-cnn`"
        )
    best = max(runs, key=lambda run: run.data.metrics[SELECTION_SCORE])
    return {
        "run_id": best.info.run_id,
        "name": best.data.tags[Tag.MODEL],
        "data_source": best.data.tags[Tag.DATA_SOURCE],
        "data_sha256": best.data.tags[Tag.DATA_SHA256],
        "score": best.data.metrics[SELECTION_SCORE],
        "scores": best.data.metrics,
    }


def _score(bus_probabilities: metrics.Array, test: LabelledSpectra) -> float:
    return metrics.scores("bus_class", test, bus_probabilities)[GATE_SCORE]


def _gate_score(model_uri: str, test: LabelledSpectra) -> float:
    return _score(registry.load_classifier(model_uri).bus_probabilities(test.reflectance), test)


def _contender(alias: str, test: LabelledSpectra) -> Contender | None:
    version = registry.version_named(alias)
    if version is None:
        return None
    try:
        score = _gate_score(f"models:/{REGISTERED_CNN}/{version.version}", test)
    except OtherVersionError:  # the split is fixed, so what it scored when it was registered still holds
        score = float(version.tags[f"test_{GATE_SCORE}"])
    source: DataSource = "smass2" if version.tags.get(Tag.DATA_SOURCE) == "smass2" else "simulated"
    return Contender(f"version {version.version}", source, score)


def _set_aliases(number: int, decision: Decision) -> None:
    if decision.challenger:
        registry.name_version(Alias.CHALLENGER, number)
    if decision.promoted:
        if old := registry.version_named(Alias.CHAMPION):
            registry.name_version(Alias.PREVIOUS, int(old.version))
        registry.name_version(Alias.CHAMPION, number)


def _table(candidate: Contender, number: int, baselines: dict[str, float], champion: Contender | None) -> pd.DataFrame:
    rows = [(f"{candidate.name} (version {number})", "candidate", candidate.data_source, candidate.score)]
    if champion:
        rows.append((champion.name, "champion so far", champion.data_source, champion.score))
    rows += [(name, "baseline", candidate.data_source, score) for name, score in baselines.items()]
    return pd.DataFrame(rows, columns=["model", "role", "data_source", f"test_{GATE_SCORE}"])


def _record(run: StepRun, table: pd.DataFrame, decision: Decision, number: int, source_run_id: str) -> None:
    run.set_tags({Tag.DECISION: decision.reason})
    run.log_params({"version": number, "candidate_run_id": source_run_id, "promoted": decision.promoted})
    run.log_metrics({f"test_{GATE_SCORE}": float(table[f"test_{GATE_SCORE}"].iat[0])})
    run.log_table(table, "gate.csv")
    verdict = "promoted to champion" if decision.promoted else "not promoted"
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [tuple(table.columns), *table.itertuples(index=False)]]
    lines.insert(1, "|" + "---|" * len(table.columns))
    text = f"# {REGISTERED_CNN}: version {number} {verdict}\n\n{decision.reason}.\n\n" + "\n".join(lines) + "\n"
    run.log_text(text, "decision.md")
    create_markdown_artifact(text, key="promotion", description=f"Version {number}: {verdict}")

"""Promote: compare, gate, register, set aliases; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from astrd import catalogue, dataset, metrics, registry, tracking
from astrd.calibrated import OtherVersionError
from astrd.catalogue import BASELINES, CANDIDATES, NETWORKS_ALONE, Settings
from astrd.dataset import DatasetRef, DataSource, LabelledSpectra
from astrd.model_card import model_card
from astrd.promotion import GATE_SCORE, SELECTION_SCORE, Contender, Decision, best_candidate, decide, outranks
from astrd.tracking import REGISTERED_CNN, Alias, Run, StepRun, Tag
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
        best = _best_candidate(candidates_of, CANDIDATES)
        train, test = dataset.labelled(features.read())
        baselines = {
            baseline: _score(catalogue.model(baseline, Settings()).fit(train).probabilities(test.reflectance), test)
            for baseline in BASELINES
        }
        candidate = _candidate(best, test)
        champion = _contender(Alias.CHAMPION, test)
        challenger = registry.version_named(Alias.CHALLENGER)
        challenger_source = challenger.tags.get(Tag.DATA_SOURCE) if challenger else None
        decision = decide(candidate, baselines, champion, challenger_source)
        number = _register(best, candidate, decision.reason, features)
        _set_aliases(number, decision)
        _register_network_alone(candidates_of, best, number, features)
        named = registry.version_named(Alias.CHAMPION)
        table = _table(candidate, number, baselines, champion)
        _record(run, table, decision, number, best.info.run_id)
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


def _best_candidate(flow_run_id: str, names: Sequence[str]) -> Run:
    if not tracking.run_exists(flow_run_id):
        raise LookupError(f"there is no run {flow_run_id!r}: give the id of a flow's run, as MLflow shows it")
    runs = [run for run in tracking.steps_of(flow_run_id, "train") if run.data.tags.get(Tag.MODEL) in names]
    if not runs:
        raise LookupError(
            f"run {flow_run_id} holds no finished candidate ({', '.join(names)}): train one first, "
            "with `python -m flows train --models bus-cnn`"
        )
    by_id = {run.info.run_id: run for run in runs}
    return by_id[best_candidate({run_id: run.data.metrics for run_id, run in by_id.items()})]


def _candidate(run: Run, test: LabelledSpectra) -> Contender:
    score = _gate_score(f"runs:/{run.info.run_id}/{registry.CLASSIFIER}", test)
    return Contender(run.data.tags[Tag.MODEL], run.data.tags[Tag.DATA_SOURCE], score)


def _register(run: Run, candidate: Contender, decision: str, features: DatasetRef) -> int:
    tags = {
        Tag.MODEL: candidate.name,
        Tag.DATA_SOURCE: candidate.data_source,
        Tag.DATA_SHA256: run.data.tags[Tag.DATA_SHA256],
        SELECTION_SCORE: f"{run.data.metrics[SELECTION_SCORE]:.4f}",
        f"test_{GATE_SCORE}": repr(candidate.score),
        Tag.DECISION: decision,
    }
    train, test = dataset.labelled(features.read())
    card = model_card(candidate.name, features, train, test, run.data.metrics, decision)
    return registry.register(run.info.run_id, tags, card)


def _register_network_alone(flow_run_id: str, best: Run, number: int, features: DatasetRef) -> None:
    """Keep the best network that is no part of an ensemble beside the candidate, under an alias of its own."""
    runs = [run for run in tracking.steps_of(flow_run_id, "train") if run.data.tags.get(Tag.MODEL) in NETWORKS_ALONE]
    named = registry.version_named(Alias.NETWORK)
    source = best.data.tags[Tag.DATA_SOURCE]
    if not runs or (named and outranks(named.tags.get(Tag.DATA_SOURCE, ""), source)):
        return
    network = _best_candidate(flow_run_id, NETWORKS_ALONE)
    if network.info.run_id != best.info.run_id:
        _, test = dataset.labelled(features.read())
        number = _register(network, _candidate(network, test), "kept beside the candidate: a network alone", features)
    registry.name_version(Alias.NETWORK, number)


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

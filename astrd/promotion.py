"""Which network becomes champion: the rule, apart from where models are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from astrd.dataset import FOLDS, DataSource

SELECTION_SCORE: Final = "cv_main_weighted_f1"
"""By which the best of several candidates is chosen; the test part has no say in it."""

TIE_SCORE: Final = "cv_bus_accuracy"
"""By which it is chosen among those that the first cannot tell apart."""

GATE_SCORE: Final = "main_weighted_f1"
"""By which, on the test part, a candidate must beat the baselines and the champion."""

_RANK: Final[dict[str, int]] = {"simulated": 0, "smass2": 1}


@dataclass(frozen=True)
class Contender:
    """A model at the gate: its name, the data it learned from, and its score on the test part."""

    name: str
    data_source: DataSource
    score: float


@dataclass(frozen=True)
class Decision:
    """Whether the candidate becomes champion, whether it may be named challenger, and why."""

    promoted: bool
    challenger: bool
    reason: str


def best_candidate(candidates: Mapping[str, Mapping[str, float]]) -> str:
    """The best by what each was scored in cross-validation.

    Candidates within one standard error of the best `SELECTION_SCORE`, over the folds, count as equal, and the one with
    the best `TIE_SCORE` is taken (Breiman et al. 1984, "Classification and Regression Trees", the rule of one standard
    error). Otherwise rounding would decide between models that are equally good at main groups, whatever they are at
    classes.

    Parameters
    ----------
    candidates
        Metrics by name, of one candidate at least.
    """
    best = max(candidates.values(), key=lambda scores: scores[SELECTION_SCORE])
    error = best.get(f"{SELECTION_SCORE}_sd", 0.0) / math.sqrt(FOLDS)
    equal = [name for name, scores in candidates.items() if scores[SELECTION_SCORE] >= best[SELECTION_SCORE] - error]
    return max(equal, key=lambda name: (candidates[name].get(TIE_SCORE, 0.0), candidates[name][SELECTION_SCORE]))


def outranks(first: str, second: str) -> bool:
    """Whether data of the first source count for more than those of the second: real ones before simulated ones."""
    return _RANK.get(first, -1) > _RANK.get(second, -1)


def decide(
    candidate: Contender, baselines: Mapping[str, float], champion: Contender | None, challenger_source: str | None
) -> Decision:
    """The rule of promotion.

    A candidate must beat every baseline, and the champion unless that one learned from simulated data and the
    candidate from real ones. Equal keeps the champion. Simulated never takes the place of real.

    Parameters
    ----------
    baselines
        Score of each baseline on the same test part.
    champion
        The present champion with its score on the same test part, or None.
    challenger_source
        Data source of the present challenger, or None.
    """
    kept_by_real = challenger_source is not None and outranks(challenger_source, candidate.data_source)
    challenger = not kept_by_real
    for name, score in baselines.items():
        if candidate.score <= score:
            reason = f"{candidate.name} scores {candidate.score:.4f}, not above the baseline {name} with {score:.4f}"
            return Decision(False, challenger, reason)
    if champion is None:
        return Decision(True, challenger, f"{candidate.name} beats the baselines, and there was no champion")
    if outranks(champion.data_source, candidate.data_source):
        reason = f"the champion {champion.name} learned from real spectra, {candidate.name} from simulated ones"
        return Decision(False, challenger, reason)
    if outranks(candidate.data_source, champion.data_source):
        reason = f"{candidate.name} learned from real spectra, the champion {champion.name} from simulated ones"
        return Decision(True, challenger, reason)
    if candidate.score <= champion.score:
        relation = "equals" if candidate.score == champion.score else "is below"
        reason = f"{candidate.name} with {candidate.score:.4f} {relation} the champion {champion.name} with "
        return Decision(False, challenger, reason + f"{champion.score:.4f}")
    reason = f"{candidate.name} with {candidate.score:.4f} beats the champion {champion.name} with {champion.score:.4f}"
    return Decision(True, challenger, reason)

"""Prediction sets that hold the right class as often as asked, also where that class is rare.

Split-conformal prediction with a threshold for each class (Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued
classifiers with bounded error levels"; class-conditional as in Vovk 2012). Classes too rare for a threshold of their
own share one. A set that would be empty holds the class that comes nearest to its threshold; because that adds
coverage, the level of the thresholds is chosen so that the sets together, empty ones filled, hold the right class as
often as asked.

A set may leave out the likeliest class: where a common class takes in members of its rarer neighbours, the probability
that the common one is expected to have when it is right may lie above what it has here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEFAULT_COVERAGE: Final = 0.9

COVERAGES: Final[Array] = np.append(np.arange(50, 100) / 100, 0.995)
"""Coverages that thresholds are kept for; one in between takes the next higher, one beyond the highest all classes."""

_LEVELS: Final[Array] = np.append(np.arange(30, 100) / 100, 0.995)
_PARTS, _REPEATS = 5, 4
_FEWEST_OF_ITS_OWN: Final = 10  # members from which a class may have a threshold of its own, at whatever level
_HIGH: Final = 0.8  # level from which it does
_SMALLEST_THRESHOLD: Final = 1e-3
_FEWEST_TO_COUNT: Final = 5  # members from which a rare class's own worst score counts beside the shared threshold


@dataclass(frozen=True)
class PredictionSets:
    """Thresholds (coverages, labels): a label belongs to a set where 1 minus its probability is not above its own."""

    thresholds: Array

    @classmethod
    def fit(cls, probabilities: Array, truth: NDArray[np.integer]) -> PredictionSets:
        """Learn thresholds from spectra that the model was not trained on.

        Parameters
        ----------
        probabilities
            Calibrated, shape (n, labels).
        truth
            Codes of the right labels, shape (n,).
        """
        strangeness = 1 - probabilities
        held = np.zeros(len(_LEVELS))
        random = np.random.default_rng(0)
        for _ in range(_REPEATS):
            part = random.permutation(len(truth)) % _PARTS
            for held_out in (part == number for number in range(_PARTS)):
                learned = _thresholds(strangeness[~held_out], truth[~held_out])
                for place, thresholds in enumerate(learned):
                    held[place] += _held(probabilities[held_out], truth[held_out], thresholds)
        coverage_at = np.maximum.accumulate(held / (_REPEATS * len(truth)))
        chosen = np.minimum(np.searchsorted(coverage_at, COVERAGES), len(_LEVELS) - 1)
        return cls(np.maximum.accumulate(_thresholds(strangeness, truth), axis=0)[chosen])

    def of(self, probabilities: Array, coverage: float) -> NDArray[np.bool_]:
        """Which labels belong to each spectrum's set, shape (n, labels); never none of them.

        Parameters
        ----------
        coverage
            Share of sets that hold the right label, between 0 and 1.

        Raises
        ------
        ValueError
            If the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"expected a coverage between 0 and 1, such as 0.9; got {coverage}")
        place = int(np.searchsorted(COVERAGES, coverage - 1e-9))
        if place == len(COVERAGES):
            return probabilities > 0
        return _sets(probabilities, self.thresholds[place])


GRADES: Final[Array] = np.exp([0.12, 0.35, 0.6, 0.85])
"""Temperatures that part spectra as good as the archive's from worse, bad and hopeless ones."""


@dataclass(frozen=True)
class GradedSets:
    """Prediction sets for spectra of every quality: a grade's thresholds were learned from spectra of that grade.

    (A Mondrian predictor, Vovk 2012.) Thresholds of good spectra would be missed by the flat answers for bad ones.
    """

    grades: tuple[PredictionSets, ...]

    @classmethod
    def fit(cls, answers: Sequence[tuple[Array, Array]], truth: NDArray[np.integer]) -> GradedSets:
        """Learn from the same spectra under several conditions, the first of which is the one of good spectra.

        Parameters
        ----------
        answers
            For each condition, probabilities (n, labels), calibrated and flattened, and the temperatures (n,) by which.
        truth
            Codes of the right labels, shape (n,).
        """
        grades = [PredictionSets.fit(answers[0][0], truth)]
        every = np.concatenate([probabilities for probabilities, _ in answers])
        grade = np.concatenate([np.searchsorted(GRADES, temperatures) for _, temperatures in answers])
        codes = np.tile(truth, len(answers))
        for number in range(1, len(GRADES) + 1):
            rows = grade == number
            enough = rows.sum() >= len(truth) / 2
            grades.append(PredictionSets.fit(every[rows], codes[rows]) if enough else grades[-1])
        return cls(tuple(grades))

    def of(self, probabilities: Array, coverage: float, temperatures: Array | None = None) -> NDArray[np.bool_]:
        """Which labels belong to each spectrum's set, shape (n, labels); never none of them.

        Parameters
        ----------
        coverage
            Share of sets that hold the right label, between 0 and 1.
        temperatures
            By which each spectrum's answer was flattened, shape (n,); None: good spectra, none of them was.

        Raises
        ------
        ValueError
            If the coverage is not between 0 and 1.
        """
        grade = np.searchsorted(GRADES, np.ones(len(probabilities)) if temperatures is None else temperatures)
        sets = np.zeros(probabilities.shape, dtype=bool)
        for number, learned in enumerate(self.grades):
            rows = grade == number
            if rows.all():  # as of most surveys: nothing has to be picked out
                return learned.of(probabilities, coverage)
            sets[rows] = learned.of(probabilities[rows], coverage)
        return sets


def _sets(probabilities: Array, thresholds: Array) -> NDArray[np.bool_]:
    strangeness = np.where(probabilities > 0, 1 - probabilities, np.inf)
    inside = strangeness <= thresholds
    empty = ~inside.any(axis=1)
    inside[empty, (strangeness[empty] / np.maximum(thresholds, _SMALLEST_THRESHOLD)).argmin(axis=1)] = True
    return inside


def _held(probabilities: Array, truth: NDArray[np.integer], thresholds: Array) -> int:
    """How many sets hold the right label. Only where its own threshold leaves it out is the whole set looked at."""
    own = probabilities[np.arange(len(truth)), truth]
    left_out = (own <= 0) | (1 - own > thresholds[truth])
    doubtful = _sets(probabilities[left_out], thresholds)
    return int((~left_out).sum() + doubtful[np.arange(len(doubtful)), truth[left_out]].sum())


def _thresholds(strangeness: Array, truth: NDArray[np.integer]) -> Array:
    """For each of `_LEVELS`, that quantile of each label's scores, with the correction for their number."""
    own = [np.sort(strangeness[truth == label, label]) for label in range(strangeness.shape[1])]
    return np.array([_thresholds_at(level, own) for level in _LEVELS])


def _thresholds_at(level: float, own: Sequence[Array]) -> Array:
    needed = max(int(np.ceil(level / (1 - level) - 1e-9)), _FEWEST_OF_ITS_OWN)
    rare = [scores for scores in own if len(scores) < needed]
    pooled = np.sort(np.concatenate(rare)) if rare else np.empty(0)
    if len(pooled) < needed:
        pooled = np.sort(np.concatenate(own))
    shared = _quantile(pooled, level)
    thresholds = np.empty(len(own))
    for label, scores in enumerate(own):
        if len(scores) >= needed:
            thresholds[label] = _quantile(scores, level)
        else:
            worst = scores[-1] if len(scores) >= _FEWEST_TO_COUNT and level >= _HIGH else 0.0
            thresholds[label] = max(shared, worst)
    return thresholds


def _quantile(ordered: Array, level: float) -> float:
    rank = int(np.ceil((len(ordered) + 1) * level - 1e-9))
    return float(ordered[rank - 1]) if rank <= len(ordered) else 1.0

"""How answers hold where a spectrum is worse than the archive's: short, noisy, or no asteroid at all.

Everything here is out of fold: a spectrum is answered by a network, a calibration and a space that did not see its
fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.calibration import error_of_perfect, expected_calibration_error
from astrd.conformal import GradedSets
from astrd.dataset import LabelledSpectra
from astrd.degraded import Degraded
from astrd.evaluation import Fitted
from astrd.metrics import area_under_curve
from astrd.spectra import smoothed
from astrd.spectral_space import SpectralSpace
from astrd.spectrum import Spectrum, noisy
from astrd.strangers import KINDS, strange_spectra
from astrd.taxonomy import BUS_CLASSES, ROLL_UP, Target
from astrd.widening import Widening
from astrd.workers import InTurn, Workers, each, in_groups

Array = NDArray[np.float64]

COVERAGES: Final = (0.9, 0.95)
"""Of the prediction sets that are tried."""

TABLES: Final = {name: f"stress/{name}.csv" for name in ("conditions", "classes", "draws", "strangers")}
"""Under which names a training run logs the tables of this room."""

DRAWS: Final = 20
STRANGERS: Final = 300
"""Strange spectra of each kind."""

_AGREEING: Final = {"up to 10": 10, "11 to 14": 14, "15 to 18": 18, "19": 19, "20": 20}  # of `DRAWS`
_SEED: Final = 0
_DRAWS_TOGETHER: Final = 6  # answered as one piece of work, as the models go with each piece


@dataclass(frozen=True)
class Answers:
    """Out-of-fold answers under a condition, as they would be served: `bus` (n, 26) and, by coverage, sets (n, 26)."""

    bus: Array
    sets: Mapping[float, NDArray[np.bool_]]


def served(
    train: LabelledSpectra,
    degraded: Sequence[Degraded],
    workers: Workers = InTurn(),  # noqa: B008
) -> dict[str, Answers]:
    """Answers by condition, widened and with sets whose thresholds were learned on the other folds."""
    bus = {one.condition: np.zeros_like(one.probabilities) for one in degraded}
    sets = {one.condition: {c: np.zeros(one.probabilities.shape, dtype=bool) for c in COVERAGES} for one in degraded}
    folds = np.unique(train.fold)
    for fold, found in zip(folds, each(workers, partial(_served, train, degraded), [(f,) for f in folds]), strict=True):
        rows = train.fold == fold
        for name, answers in found.items():
            bus[name][rows] = answers.bus
            for coverage, inside in answers.sets.items():
                sets[name][coverage][rows] = inside
    return {name: Answers(bus[name], sets[name]) for name in bus}


def _served(train: LabelledSpectra, degraded: Sequence[Degraded], fold: int) -> dict[str, Answers]:
    """The same for one fold's spectra."""
    rows = train.fold == fold
    widening = Widening.fit(train.bus, degraded, ~rows)
    widened = [widening.of_degraded(one) for one in degraded]
    learned = GradedSets.fit([(answers[~rows], hot[~rows]) for answers, hot in widened], train.bus[~rows])
    return {
        one.condition: Answers(answers[rows], {c: learned.of(answers[rows], c, hot[rows]) for c in COVERAGES})
        for one, (answers, hot) in zip(degraded, widened, strict=True)
    }


def by_condition(
    train: LabelledSpectra, answers_by_condition: Mapping[str, Answers], degraded: Sequence[Degraded]
) -> pd.DataFrame:
    """Accuracy, confidence, calibration and sets of the training part under each condition, a row for each."""
    rows = []
    everyone = np.arange(len(train))
    for one in degraded:
        answers = answers_by_condition[one.condition]
        row: dict[str, object] = {"condition": one.condition, "spectra": len(train)}
        for level, truth, answer in (
            ("main", train.codes("main_group"), answers.bus @ ROLL_UP),
            ("bus", train.bus, answers.bus),
        ):
            row[f"{level}_accuracy"] = float((answer.argmax(axis=1) == truth).mean())
            row[f"{level}_confidence"] = float(answer.max(axis=1).mean())
            row[f"{level}_calibration_error"] = expected_calibration_error(answer, truth)
            row[f"{level}_error_of_perfect"] = error_of_perfect(answer)
        for coverage, inside in answers.sets.items():
            row[f"held_at_{coverage:.0%}"] = float(inside[everyone, train.bus].mean())
            row[f"set_size_at_{coverage:.0%}"] = float(inside.sum(axis=1).mean())
        row["outliers"] = float((one.outlier_score > 1).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def by_class(train: LabelledSpectra, answers: Answers) -> pd.DataFrame:
    """Accuracy and sets of each Bus class, a row for each."""
    everyone = np.arange(len(train))
    table = pd.DataFrame(
        {
            "bus_class": [BUS_CLASSES[code] for code in train.bus],
            "spectra": 1,
            "main_accuracy": (answers.bus @ ROLL_UP).argmax(axis=1) == train.codes("main_group"),
            "bus_accuracy": answers.bus.argmax(axis=1) == train.bus,
            **{f"held_at_{c:.0%}": inside[everyone, train.bus] for c, inside in answers.sets.items()},
            **{f"set_size_at_{c:.0%}": inside.sum(axis=1) for c, inside in answers.sets.items()},
        }
    )
    how = {name: "sum" if name == "spectra" else "mean" for name in table.columns[1:]}
    return table.groupby("bus_class").agg(how).reset_index()


def by_draws(
    train: LabelledSpectra,
    raw: Sequence[Spectrum],
    fitted: Sequence[Fitted],
    workers: Workers = InTurn(),  # noqa: B008
) -> pd.DataFrame:
    """How often answers are right by the number of noise draws that agree with them, a row for each range of it.

    `auc` is how well that number ranks right answers of a level above wrong ones.
    """
    firsts, *others = in_groups(workers, partial(_answers, train, raw, fitted), range(DRAWS + 1), _DRAWS_TOGETHER)
    agree = {level: np.sum([answers[level] == first for answers in others], axis=0) for level, first in firsts.items()}
    tables = []
    for level, first in firsts.items():
        right = first == train.codes(level)
        ranges = pd.cut(agree[level], [-1, *_AGREEING.values()], labels=list(_AGREEING))
        grouped = pd.Series(right).groupby(ranges, observed=False)
        table = pd.DataFrame({"spectra": grouped.size(), "right": grouped.mean()}).rename_axis(
            f"draws_of_{DRAWS}_that_agree"
        )
        tables.append(table.reset_index().assign(level=level, auc=area_under_curve(agree[level], right)))
    return pd.concat(tables, ignore_index=True)


def _answers(
    train: LabelledSpectra, raw: Sequence[Spectrum], fitted: Sequence[Fitted], draws: Sequence[int]
) -> list[dict[Target, NDArray[np.int64]]]:
    """The labels that the models of the folds give to each draw's spectra; 0 is none, but the spectra as observed."""
    found: list[dict[Target, NDArray[np.int64]]] = []
    for draw in draws:
        random = np.random.default_rng([_SEED, draw])
        reflectance = smoothed([noisy(spectrum, random) for spectrum in raw] if draw else raw)
        bus = np.zeros((len(train), len(BUS_CLASSES)))
        for fold, model in enumerate(fitted):
            rows = train.fold == fold
            bus[rows] = model.probabilities(reflectance[rows])
        found.append({"main_group": (bus @ ROLL_UP).argmax(axis=1), "bus_class": bus.argmax(axis=1)})
    return found


def by_stranger(train: LabelledSpectra, held_out_scores: Array) -> pd.DataFrame:
    """How well the outlier score tells each kind of strange spectra from held-out real ones.

    Parameters
    ----------
    held_out_scores
        Outlier scores (n,) of the training part, each from a space that did not see its fold.
    """
    random = np.random.default_rng(_SEED)
    space = SpectralSpace.fit(train.reflectance, train.fold)
    rows, scores = [], []
    for kind in KINDS:
        real = train.reflectance[random.permutation(len(train))[:STRANGERS]]
        scores.append(space.outlier_scores(strange_spectra(kind, real, random)))
        rows.append(_separation(kind, scores[-1], held_out_scores))
    rows.append(_separation("all of them", np.concatenate(scores), held_out_scores))
    return pd.DataFrame(rows)


def _separation(kind: str, strange: Array, real: Array) -> dict[str, object]:
    is_strange = np.repeat([True, False], [len(strange), len(real)])
    return {
        "kind": kind,
        "spectra": len(strange),
        "auc": area_under_curve(np.concatenate([strange, real]), is_strange),
        "flagged": float((strange > 1).mean()),
        "real_flagged": float((real > 1).mean()),
    }

"""Scores of a prediction, at every level of the taxonomy that it answers.

A Bus prediction also answers the main group (by summing its probabilities) and so X or the rest; a main-group
prediction also answers X or the rest. A score's name says its level: `main_weighted_f1`, `bus_accuracy`, `x_f1`.
"""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support, roc_auc_score

from astrd.dataset import LabelledSpectra
from astrd.taxonomy import LABELS, ROLL_UP, Target

Array = NDArray[np.float64]

LEVEL: Final[dict[Target, str]] = {"bus_class": "bus", "main_group": "main", "x_vs_rest": "x"}
"""The prefix of a score's name."""


def levels(target: Target, probabilities: Array) -> dict[Target, Array]:
    """The probabilities of every target that a prediction answers, its own first.

    Parameters
    ----------
    target
        What was predicted.
    probabilities
        Shape (n, labels of the target).
    """
    answers: dict[Target, Array] = {target: probabilities}
    if target == "bus_class":
        answers["main_group"] = probabilities @ ROLL_UP
    if "main_group" in answers:
        x = answers["main_group"][:, [LABELS["main_group"].index("X")]]
        answers["x_vs_rest"] = np.hstack([1 - x, x])
    return answers


def scores(target: Target, spectra: LabelledSpectra, probabilities: Array) -> dict[str, float]:
    """Weighted F1, macro F1 and accuracy at each level, and the F1 of X itself.

    Bus scores leave out the classes that are too small to split (see `dataset.SMALLEST_CLASS`): `spectra.scored`
    says which objects count.

    Returns
    -------
    dict
        Score by name, such as `main_weighted_f1`.
    """
    result = {}
    for level, answer in levels(target, probabilities).items():
        counted = spectra.scored if level == "bus_class" else np.ones(len(spectra), dtype=bool)
        truth, predicted = spectra.codes(level)[counted], answer.argmax(axis=1)[counted]
        present = np.unique(truth)
        with warnings.catch_warnings():  # a class that is never predicted has an F1 of 0, which is the score we want
            warnings.simplefilter("ignore")
            prefix = LEVEL[level]
            for average in ("weighted", "macro"):
                result[f"{prefix}_{average}_f1"] = float(
                    f1_score(truth, predicted, average=average, labels=present, zero_division=0)
                )
            result[f"{prefix}_accuracy"] = float(accuracy_score(truth, predicted))
            if level == "x_vs_rest":
                result["x_f1"] = float(f1_score(truth, predicted, zero_division=0))
    return result


def per_class(target: Target, spectra: LabelledSpectra, probabilities: Array) -> pd.DataFrame:
    """Precision, recall, F1 and support of every class that is there or was predicted, at every level."""
    tables = []
    for level, answer in levels(target, probabilities).items():
        truth, predicted = spectra.codes(level), answer.argmax(axis=1)
        present = np.union1d(truth, predicted)
        precision, recall, f1, support = precision_recall_fscore_support(
            truth, predicted, labels=present, zero_division=0
        )
        names = [LABELS[level][code] for code in present]
        tables.append(
            pd.DataFrame(
                {
                    "target": level,
                    "class": names,
                    "precision": precision,
                    "recall": recall,
                    "f1": f1,
                    "support": support,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def confusion(target: Target, spectra: LabelledSpectra, probabilities: Array) -> pd.DataFrame:
    """Counts of objects by catalogued class (rows) and predicted class (columns), of the classes that occur."""
    truth, predicted = spectra.codes(target), probabilities.argmax(axis=1)
    present = np.union1d(truth, predicted)
    names = [LABELS[target][code] for code in present]
    return pd.DataFrame(confusion_matrix(truth, predicted, labels=present), index=names, columns=names)


def area_under_curve(score: Array, positive: NDArray[np.bool_]) -> float:
    """Of the receiver operating characteristic: how often a positive has the higher score. NaN without both kinds."""
    return float(roc_auc_score(positive, score)) if 0 < positive.sum() < len(positive) else float("nan")

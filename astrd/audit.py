"""The label audit: asteroids whose catalogued class every model contradicts.

A model's word counts only where it did not learn the asteroid: its out-of-fold prediction. A level of the taxonomy is
audited by all models that answer it. How well a contradiction stands the noise is asked of a support vector machine,
which is fitted in a moment to the four folds that leave the asteroid out: it answers draws of the raw spectrum's noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.analogues import Archive, full_name
from astrd.classical import svm
from astrd.dataset import LabelledSpectra
from astrd.metrics import levels
from astrd.smoothing import bus_smoothing
from astrd.taxonomy import BUS_CLASSES, LABELS, Target

Array = NDArray[np.float64]

AUDITED: Final[tuple[Target, ...]] = ("main_group", "bus_class")
DRAWS: Final = 50
NEIGHBOURS: Final = 5
LABEL_AUDIT_TABLE: Final = "label_audit.csv"


@dataclass(frozen=True)
class OutOfFold:
    """A model's out-of-fold probabilities, shape (n, labels of its target), in the order of the training spectra."""

    model: str
    target: Target
    probabilities: Array


def label_audit(predictions: Sequence[OutOfFold], train: LabelledSpectra) -> pd.DataFrame:
    """Asteroids whose catalogued class all models contradict, the most confident first.

    Returns
    -------
    DataFrame
        For each level: `level`, `rank`, `designation`, `catalogued`, `suggested` (the likeliest class by the models'
        mean probability), `probability`, `catalogued_probability` (both means), `models` ("8 of 8": how many
        contradict the catalogue, of how many that answer).

    Raises
    ------
    ValueError
        If no model answers a level.
    """
    tables = []
    for level in AUDITED:
        answers = [levels(p.target, p.probabilities).get(level) for p in predictions]
        answered = np.array([answer for answer in answers if answer is not None])  # (models, n, labels)
        if not len(answered):
            raise ValueError(f"expected out-of-fold predictions of a model that answers the {level}, got none")
        codes, labels = train.codes(level), np.array(LABELS[level], dtype=object)
        against = (answered.argmax(axis=2) != codes).sum(axis=0)
        mean = answered.mean(axis=0)
        rows = np.flatnonzero(against == len(answered))
        rows = rows[np.argsort(-mean[rows].max(axis=1), kind="stable")]
        tables.append(
            pd.DataFrame(
                {
                    "level": level,
                    "rank": np.arange(1, len(rows) + 1),
                    "designation": [train.designation[row] for row in rows],
                    "catalogued": labels[codes[rows]],
                    "suggested": labels[mean[rows].argmax(axis=1)],
                    "probability": mean[rows].max(axis=1),
                    "catalogued_probability": mean[rows, codes[rows]],
                    "models": [f"{count} of {len(answered)}" for count in against[rows]],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def draw_shares(audit: pd.DataFrame, train: LabelledSpectra, raw: pd.DataFrame, draws: int = DRAWS) -> Array:
    """Share of noise draws in which a contradiction stands, for each row of an audit, shape (rows,).

    Parameters
    ----------
    raw
        The raw spectra: `designation`, `wavelength`, `reflectance` and `uncertainty`.
    """
    row_of = {designation: row for row, designation in enumerate(train.designation)}
    spectra = raw.set_index("designation")[["wavelength", "reflectance", "uncertainty"]]
    random = np.random.default_rng(0)
    noisy = {
        designation: _noise_draws(spectra.loc[designation], draws, random)
        for designation in dict.fromkeys(audit["designation"])
    }
    folds = np.array([train.fold[row_of[name]] for name in audit["designation"]])
    shares = np.empty(len(audit))
    for level in AUDITED:
        for fold in np.unique(folds[audit["level"] == level]):
            machine = svm(level).fit(train[train.fold != fold])
            for row in np.flatnonzero((audit["level"] == level).to_numpy() & (folds == fold)):
                name = audit["designation"].iat[row]
                answers = machine.probabilities(noisy[name]).argmax(axis=1)
                shares[row] = (answers != train.codes(level)[row_of[name]]).mean()
    return shares


def neighbours(designations: Sequence[str], archive: Archive) -> list[str]:
    """The asteroids most like each other one, with their Bus classes, such as `1 Ceres (C); 10 Hygiea (C)`."""
    row_of = {designation: row for row, designation in enumerate(archive.designation)}
    rows = [row_of[designation] for designation in designations]
    spectra = archive.reflectance[rows]
    nearest, _ = archive.nearest(spectra, np.ones(spectra.shape, dtype=bool), NEIGHBOURS + 1)
    return [
        "; ".join(
            f"{full_name(archive.designation[i], archive.name[i])} ({BUS_CLASSES[archive.bus[i]]})"
            for i in [i for i in near if i != row][:NEIGHBOURS]
        )
        for row, near in zip(rows, nearest, strict=True)
    ]


def _noise_draws(spectrum: pd.Series, draws: int, random: np.random.Generator) -> Array:
    noise = random.standard_normal((draws, len(spectrum["reflectance"])))
    noisy = spectrum["reflectance"] + spectrum["uncertainty"] * noise
    return bus_smoothing([spectrum["wavelength"]] * draws, list(noisy), [spectrum["uncertainty"]] * draws)

"""What makes the answers of a network mean what they say: all that out-of-fold predictions teach about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from astrd.calibration import at_temperature, fit_temperature
from astrd.conformal import GradedSets, PredictionSets
from astrd.dataset import LabelledSpectra
from astrd.degraded import Degraded
from astrd.spectral_space import SpectralSpace
from astrd.taxonomy import BUS_CLASSES, ROLL_UP
from astrd.widening import Widening

Array = NDArray[np.float64]

FORMAT: Final = 2
"""Of the file; another number says that another version of this package has to read it."""


class OtherVersionError(ValueError):
    """A classifier's files were written by a version of this package that this one does not understand."""


def fit_bus_temperature(train: LabelledSpectra, out_of_fold: Array) -> float:
    """The temperature of a Bus network's out-of-fold probabilities (n, 26), for classes and main groups together."""
    return fit_temperature(out_of_fold, train.bus, ROLL_UP)


@dataclass(frozen=True)
class Calibration:
    """What out-of-fold predictions teach about a network, and the space of its training spectra.

    `present` (26,) tells which classes it could learn; `widening` flattens the answers for partial spectra.
    """

    temperature: float
    present: NDArray[np.bool_]
    sets: GradedSets
    space: SpectralSpace
    widening: Widening

    @classmethod
    def fit(cls, train: LabelledSpectra, out_of_fold: Array, degraded: Sequence[Degraded] = ()) -> Calibration:
        """Fit to out-of-fold Bus probabilities, shape (n, 26), of the training part.

        Parameters
        ----------
        degraded
            Answers for the training part made worse, at the temperature of `fit_bus_temperature`; without them, answers
            for short and noisy spectra are too sure.
        """
        temperature = fit_bus_temperature(train, out_of_fold)
        if degraded:
            widening = Widening.fit(train.bus, degraded)
            answers = [widening.of_degraded(one) for one in degraded]
        else:
            widening = Widening()
            answers = [(at_temperature(out_of_fold, temperature), np.ones(len(train)))]
        return cls(
            temperature,
            np.isin(np.arange(len(BUS_CLASSES)), train.bus),
            GradedSets.fit(answers, train.bus),
            SpectralSpace.fit(train.reflectance, train.fold),
            widening,
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "temperature": self.temperature,
                "present": [name for name, here in zip(BUS_CLASSES, self.present, strict=True) if here],
                "thresholds": [grade.thresholds.tolist() for grade in self.sets.grades],
                "space": self.space.to_dict(),
                "widening": self.widening.to_dict(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what `to_json` wrote.

        Raises
        ------
        OtherVersionError
            If another version of this package wrote it.
        """
        content = json.loads(text)
        if content.get("format") != FORMAT:
            raise OtherVersionError(
                f"expected a classifier in format {FORMAT}, got {content.get('format')}: another version of "
                "astrd-spctra made it; train and promote anew, or serve it in its own environment"
            )
        return cls(
            content["temperature"],
            np.isin(BUS_CLASSES, content["present"]),
            GradedSets(tuple(PredictionSets(np.array(thresholds)) for thresholds in content["thresholds"])),
            SpectralSpace.from_dict(content["space"]),
            Widening.from_dict(content["widening"]),
        )

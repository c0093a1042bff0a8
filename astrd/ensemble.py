"""An ensemble: a convolutional network and pairwise support vector machines, pooled into one graph.

They err on different spectra. The pool is the weighted sum of their logarithms (Genest & Zidek 1986), so that a class
that either rules out stays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from astrd.dataset import LabelledSpectra
from astrd.network_models import FittedNetwork, NetworkModel
from astrd.pairwise_svm import FittedPairwiseSvm, PairwiseSvm
from astrd.taxonomy import LABELS, Target

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]

SVM_WEIGHT: Final = 0.4
"""Of the machines' scores beside the network's logarithms, chosen by cross-validation: 0.2 to 0.8 are much the same."""


@dataclass(frozen=True)
class EnsembleModel:
    """A network and machines that learn from the same spectra."""

    name: str
    network: NetworkModel
    machines: PairwiseSvm = field(default_factory=PairwiseSvm)

    @property
    def target(self) -> Target:
        return self.network.target

    @property
    def params(self) -> dict[str, Any]:
        machines = {f"svm_{name}": value for name, value in self.machines.params().items()}
        return {**self.network.params, **machines, "svm_weight": SVM_WEIGHT}

    @property
    def together(self) -> int:
        return self.network.together

    def fit(self, spectra: LabelledSpectra) -> FittedEnsemble:
        return self.fit_each([spectra])[0]

    def fit_each(self, parts: Sequence[LabelledSpectra]) -> list[FittedEnsemble]:
        """Learn from several sets of spectra, from each alone."""
        labels = len(LABELS[self.target])
        machines = (self.machines.fit(part.reflectance, part.codes(self.target), labels) for part in parts)
        return [FittedEnsemble(*learned) for learned in zip(self.network.fit_each(parts), machines, strict=True)]


@dataclass(frozen=True)
class FittedEnsemble:
    """A learned network and learned machines."""

    network: FittedNetwork
    machines: FittedPairwiseSvm

    @property
    def curves(self) -> pd.DataFrame:
        """Learning curves of the network."""
        return self.network.curves

    def probabilities(self, reflectance: Array) -> Array:
        """(n, 49) to (n, labels)."""
        with np.errstate(divide="ignore"):
            logits = np.log(self.network.probabilities(reflectance))
        return np.asarray(softmax(logits + SVM_WEIGHT * self.machines.scores(reflectance), axis=1))

    def keras_model(self) -> keras.Model:
        """One network, (n, 49) reflectance to (n, labels) logits."""
        import keras

        network = self.network.keras_model()
        return keras.Model(network.input, network.output + SVM_WEIGHT * self.machines.in_graph(network.input))

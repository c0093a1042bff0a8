"""Networks as models of a target: what they are taught, and how several of them answer as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from astrd import networks
from astrd.dataset import LabelledSpectra, concatenated
from astrd.networks import Architecture
from astrd.taxonomy import LABELS, ROLL_UP, Target
from astrd.training import (
    CompiledTraining,
    Examples,
    Objective,
    Schedule,
    Weights,
    standardisation,
    tensorflow,
    validation_rows,
)

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe(Schedule):
    """How a classifier learns: the schedule, label smoothing, and what its loss counts."""

    label_smoothing: float = 0.05
    group_loss: float = 1.0  # weight of the main group's cross-entropy beside that of the Bus class
    balanced: bool = False  # weigh each label by the inverse of its frequency


@dataclass(frozen=True)
class NetworkModel:
    """A network and its recipe as a model of a target. Folds that it is fitted to share one compiled graph.

    Several `members` differ in their first weights, their shuffles and the spectra held out to stop them early; the
    model's probabilities are the mean of theirs.
    """

    name: str
    target: Target
    architecture: Architecture
    recipe: Recipe = field(default_factory=Recipe)
    members: int = 1
    seed: int = 0
    on_epoch: Callable[[int, float], None] = field(default=lambda epoch, loss: None, repr=False, compare=False)

    @property
    def params(self) -> dict[str, Any]:
        return {**self.architecture.params(), **self.recipe.params(), "members": self.members, "seed": self.seed}

    @cached_property
    def _training(self) -> CompiledTraining:
        outputs = len(LABELS[self.target])
        build = partial(networks.build, self.architecture, outputs)
        return CompiledTraining(build, outputs, _objective(self.target, self.recipe), self.recipe)

    def fit(self, spectra: LabelledSpectra) -> FittedNetwork:
        """Learn from the spectra, of which each member holds out `validation_share` to stop early."""
        fitted = []
        for member in range(self.members):
            held_out = validation_rows(spectra, self.recipe.validation_share, self.seed + member)
            fitted.append(self._fit_member(spectra, ~held_out, held_out, self.seed + member))
        return self._joined(spectra, fitted)

    def fit_with_validation(self, spectra: LabelledSpectra, validation: LabelledSpectra) -> FittedNetwork:
        """Learn from the spectra; stop, and go back to the best weights, by the loss on the others."""
        both = concatenated(spectra, validation)
        learned = np.arange(len(both)) < len(spectra)
        return self._joined(
            spectra, [self._fit_member(both, learned, ~learned, self.seed + i) for i in range(self.members)]
        )

    def _fit_member(
        self, spectra: LabelledSpectra, learned: NDArray[np.bool_], held_out: NDArray[np.bool_], seed: int
    ) -> FittedMember:
        mean, deviation = standardisation(spectra.reflectance[learned])
        x = ((spectra.reflectance - mean) / deviation).astype(np.float32)
        codes = spectra.codes(self.target)
        weights, curves = self._training.fit(
            self._examples(x[learned], codes[learned]),
            Examples(x[held_out], np.eye(len(LABELS[self.target]), dtype=np.float32)[codes[held_out]]),
            seed,
            self.on_epoch,
        )
        return FittedMember(weights, mean, deviation, curves)

    def _examples(self, x: NDArray[np.float32], codes: NDArray[np.int64]) -> Examples:
        """Labels smoothed over those that are there, and weights that balance them if they are asked for."""
        frequency = np.bincount(codes, minlength=len(LABELS[self.target]))
        present = frequency > 0
        smoothing = self.recipe.label_smoothing
        targets = (1 - smoothing) * np.eye(len(present))[codes] + smoothing * present / present.sum()
        weights = len(codes) / (present.sum() * frequency[codes]) if self.recipe.balanced else None
        return Examples(x, targets, weights)

    def _joined(self, spectra: LabelledSpectra, members: list[FittedMember]) -> FittedNetwork:
        present = np.isin(np.arange(len(LABELS[self.target])), spectra.codes(self.target))
        return FittedNetwork(self._training, tuple(members), present)


@dataclass(frozen=True)
class FittedMember:
    """Learned weights, with the standardisation they belong to and how they were learned."""

    weights: Weights = field(repr=False)
    mean: Array = field(repr=False)
    deviation: float
    curves: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class FittedNetwork:
    """A learned network of one or more members.

    `present` (labels,) is false for labels that no training spectrum had: they get no probability.
    """

    training: CompiledTraining = field(repr=False)
    members: tuple[FittedMember, ...] = field(repr=False)
    present: NDArray[np.bool_] = field(repr=False)

    @property
    def curves(self) -> pd.DataFrame:
        """Learning curves, one row an epoch of a member."""
        return pd.concat(
            [member.curves.assign(member=number) for number, member in enumerate(self.members, start=1)],
            ignore_index=True,
        )

    def probabilities(self, reflectance: Array) -> Array:
        """(n, 49) to (n, labels)."""
        answers = []
        for member in self.members:
            logits = self.training.outputs(member.weights, (reflectance - member.mean) / member.deviation)
            answers.append(softmax(np.where(self.present, logits, -np.inf), axis=1))
        return np.asarray(np.mean(answers, axis=0))

    def keras_model(self) -> keras.Model:
        """A network of its own, (n, 49) reflectance to (n, labels) logits."""
        networks_of_members = []
        for member in self.members:
            network = self.training.build(0)
            for variable, value in zip(network.variables, member.weights, strict=True):
                variable.assign(value)
            networks_of_members.append((network, member.mean, member.deviation))
        return networks.deployable(networks_of_members)


def _objective(target: Target, recipe: Recipe) -> Objective:
    """Cross-entropy of the label; for the Bus class plus that of its main group, whose probability is their sum."""
    tf = tensorflow()
    groups = ROLL_UP.astype(np.float32)

    def losses(label: Any, logits: Any) -> Any:
        label = tf.stop_gradient(label)
        cross_entropy = tf.nn.softmax_cross_entropy_with_logits(label, logits)
        if target != "bus_class" or not recipe.group_loss:
            return cross_entropy
        logarithm = tf.math.log(tf.matmul(tf.nn.softmax(logits), groups) + 1e-7)
        return cross_entropy - recipe.group_loss * tf.reduce_sum(tf.matmul(label, groups) * logarithm, axis=1)

    def accuracy(label: Any, logits: Any) -> Any:
        return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), tf.argmax(label, 1)), tf.float32))

    return Objective(losses, {"accuracy": accuracy})

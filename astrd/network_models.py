"""Networks as models of a target: what they are taught, and how several of them answer as one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from astrd import networks
from astrd.backend import tensorflow
from astrd.dataset import LabelledSpectra, concatenated
from astrd.networks import Architecture
from astrd.taxonomy import LABELS, ROLL_UP, Target
from astrd.training import (
    TOGETHER,
    CompiledTraining,
    Examples,
    Lesson,
    Objective,
    Schedule,
    Weights,
    standardisation,
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
    """A network and its recipe as a model of a target.

    Several `members` differ in their first weights, their shuffles and the spectra held out to stop them early; the
    model's probabilities are the mean of theirs.
    """

    name: str
    target: Target
    architecture: Architecture
    recipe: Recipe = field(default_factory=Recipe)
    members: int = 1
    seed: int = 0

    together: ClassVar[int] = TOGETHER

    @property
    def params(self) -> dict[str, Any]:
        return {**self.architecture.params(), **self.recipe.params(), "members": self.members, "seed": self.seed}

    def fit(self, spectra: LabelledSpectra) -> FittedNetwork:
        """Learn from the spectra, of which each member holds out `validation_share` to stop early."""
        return self.fit_each([spectra])[0]

    def fit_each(self, parts: Sequence[LabelledSpectra]) -> list[FittedNetwork]:
        """Learn from several sets of spectra, from each alone, in one graph."""
        held_out = [
            [validation_rows(spectra, self.recipe.validation_share, self.seed + i) for i in range(self.members)]
            for spectra in parts
        ]
        return self._fitted(parts, held_out, parts)

    def fit_with_validation(self, spectra: LabelledSpectra, validation: LabelledSpectra) -> FittedNetwork:
        """Learn from the spectra; stop, and go back to the best weights, by the loss on the others."""
        held_out = np.arange(len(spectra) + len(validation)) >= len(spectra)
        return self._fitted([concatenated(spectra, validation)], [[held_out] * self.members], [spectra])[0]

    def _fitted(
        self,
        parts: Sequence[LabelledSpectra],
        held_out: Sequence[Sequence[NDArray[np.bool_]]],
        labelled: Sequence[LabelledSpectra],
    ) -> list[FittedNetwork]:
        """A model for each part, which of it every member holds out; its labels are those of `labelled`."""
        scales, lessons = [], []
        for spectra, of_members in zip(parts, held_out, strict=True):
            for member, rows in enumerate(of_members):
                mean, deviation = standardisation(spectra.reflectance[~rows])
                scales.append((mean, deviation))
                lessons.append(self._lesson(spectra, rows, (spectra.reflectance - mean) / deviation, member))
        learned = self._training.fit(lessons)
        members = [FittedMember(of.weights, *scale, of.curves) for of, scale in zip(learned, scales, strict=True)]
        return [
            FittedNetwork(self, tuple(members[i * self.members : (i + 1) * self.members]), self._present(spectra))
            for i, spectra in enumerate(labelled)
        ]

    def _lesson(self, spectra: LabelledSpectra, held_out: NDArray[np.bool_], x: Array, member: int) -> Lesson:
        codes = spectra.codes(self.target)
        truths = np.eye(len(LABELS[self.target]))[codes[held_out]]
        return Lesson(self._examples(x[~held_out], codes[~held_out]), Examples(x[held_out], truths), self.seed + member)

    def _examples(self, x: Array, codes: NDArray[np.int64]) -> Examples:
        """Labels smoothed over those that are there, and weights that balance them if they are asked for."""
        frequency = np.bincount(codes, minlength=len(LABELS[self.target]))
        present = frequency > 0
        smoothing = self.recipe.label_smoothing
        targets = (1 - smoothing) * np.eye(len(present))[codes] + smoothing * present / present.sum()
        weights = len(codes) / (present.sum() * frequency[codes]) if self.recipe.balanced else None
        return Examples(x, targets, weights)

    def _present(self, spectra: LabelledSpectra) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(LABELS[self.target])), spectra.codes(self.target))

    @property
    def _training(self) -> CompiledTraining:
        return _compiled(self.target, self.architecture, self.recipe)


@functools.lru_cache(maxsize=8)
def _compiled(target: Target, architecture: Architecture, recipe: Recipe) -> CompiledTraining:
    """One graph for all models that differ in seeds and data alone; a few are kept, as each takes memory."""
    build = partial(networks.build, architecture, len(LABELS[target]))
    return CompiledTraining(build, _objective(target, recipe), recipe)


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

    model: NetworkModel
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
            standardised = (reflectance - member.mean) / member.deviation
            logits = self.model._training.outputs(member.weights, standardised)
            answers.append(softmax(np.where(self.present, logits, -np.inf), axis=1))
        return np.asarray(np.mean(answers, axis=0))

    def keras_model(self) -> keras.Model:
        """A network of its own, (n, 49) reflectance to (n, labels) logits."""
        networks_of_members = []
        for member in self.members:
            network = self.model._training.build(0)
            network.set_weights(member.weights)
            networks_of_members.append((network, member.mean, member.deviation))
        return networks.deployable(networks_of_members)


def _objective(target: Target, recipe: Recipe) -> Objective:
    """Cross-entropy of the label; for the Bus class plus that of its main group, whose probability is their sum."""
    tf = tensorflow()
    groups = ROLL_UP.astype(np.float32)

    def losses(label: Any, logits: Any) -> Any:
        cross_entropy = tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=logits, labels=label).loss
        if target != "bus_class" or not recipe.group_loss:
            return cross_entropy
        logarithm = tf.math.log(tf.matmul(tf.nn.softmax(logits), groups) + 1e-7)
        return cross_entropy - recipe.group_loss * tf.reduce_sum(tf.matmul(label, groups) * logarithm, axis=1)

    def accuracy(label: Any, logits: Any) -> Any:
        return tf.cast(tf.equal(tf.argmax(logits, 1), tf.argmax(label, 1)), tf.float32)

    return Objective(losses, {"accuracy": accuracy})

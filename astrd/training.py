"""Compiled training: a whole epoch (shuffle, gather, gradients, update, validation) runs as one graph.

`Model.fit` spends most of an epoch of these small networks between its steps; here Python is entered once an epoch.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from astrd import networks
from astrd.dataset import LabelledSpectra, concatenated
from astrd.networks import Architecture
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import LABELS, ROLL_UP, Target

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """How a network learns: AdamW with a cosine schedule, label smoothing, averaged weights and early stopping."""

    epochs: int = 50
    patience: int = 20
    validation_share: float = 0.1
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    averaging: float = 0.98  # weights are averaged over about 1 / (1 - averaging) steps
    group_loss: float = 1.0  # weight of the main group's cross-entropy beside that of the Bus class
    balanced: bool = False  # weigh each label by the inverse of its frequency

    def params(self) -> dict[str, Any]:
        return asdict(self)


def tensorflow() -> Any:
    """TensorFlow, set up for small networks, imported when first asked for.

    One thread an operation is faster than two for networks of this size, and makes the sums, and so the weights,
    the same in every run.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with _without_start_up_messages():
        import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # raised where the process has used TensorFlow: it keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(1)
    return tf


# A graph holds one set of weights; and two graphs in one process are together slower than in turn.
_one_at_a_time = threading.Lock()

_START_UP = ("WARNING: All log messages before absl", "I0000 ", "E0000 ", "W0000 ")


@contextlib.contextmanager
def _without_start_up_messages() -> Iterator[None]:
    """TensorFlow writes of its hardware to the process's standard error before any setting of its log can apply."""
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            others = [line for line in kept if not line.decode(errors="replace").startswith(_START_UP)]
            os.write(2, b"".join(others))


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
        return CompiledTraining(self.architecture, self.target, self.recipe)

    def fit(self, spectra: LabelledSpectra) -> FittedNetwork:
        """Learn from the spectra, of which each member holds out `validation_share` to stop early."""
        fitted = []
        for member in range(self.members):
            held_out = _validation_rows(spectra, self.recipe.validation_share, self.seed + member)
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
        mean, deviation = _standardisation(spectra.reflectance[learned])
        x = ((spectra.reflectance - mean) / deviation).astype(np.float32)
        codes = spectra.codes(self.target)
        with _one_at_a_time:
            weights, curves = self._training.fit(
                x[learned], codes[learned], x[held_out], codes[held_out], seed, self.on_epoch
            )
        return FittedMember(weights, mean, deviation, curves)

    def _joined(self, spectra: LabelledSpectra, members: list[FittedMember]) -> FittedNetwork:
        present = np.isin(np.arange(len(LABELS[self.target])), spectra.codes(self.target))
        return FittedNetwork(self._training, tuple(members), present)


@dataclass(frozen=True)
class FittedMember:
    """Learned weights, with the standardisation they belong to and how they were learned."""

    weights: list[NDArray[np.float32]] = field(repr=False)
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
            logits = self.training.logits(member.weights, (reflectance - member.mean) / member.deviation)
            answers.append(softmax(np.where(self.present, logits, -np.inf), axis=1))
        return np.asarray(np.mean(answers, axis=0))

    def keras_model(self) -> keras.Model:
        """A network of its own, (n, 49) reflectance to (n, labels) logits."""
        networks_of_members = []
        for member in self.members:
            network = networks.build(self.training.architecture, self.training.outputs, seed=0)
            for variable, value in zip(network.variables, member.weights, strict=True):
                variable.assign(value)
            networks_of_members.append((network, member.mean, member.deviation))
        return networks.deployable(networks_of_members)


class CompiledTraining:
    """One architecture and recipe, traced once; `fit` starts from fresh weights every time it is called."""

    def __init__(self, architecture: Architecture, target: Target, recipe: Recipe) -> None:
        tf = self._tf = tensorflow()
        outputs = len(LABELS[target])
        self.architecture, self.outputs, self.recipe = architecture, outputs, recipe
        self._groups = ROLL_UP.astype(np.float32) if target == "bus_class" and recipe.group_loss else None
        self._network = networks.build(architecture, outputs, seed=0)
        self._average = networks.build(architecture, outputs, seed=0)  # of the weights over the last steps
        self._optimizer = _AdamW(tf, [variable.value for variable in self._network.trainable_variables])
        spectra = tf.TensorSpec([None, len(WAVELENGTH)], tf.float32)
        codes, number = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)
        weights = tf.TensorSpec([None], tf.float32)
        smoothing = tf.TensorSpec([outputs], tf.float32)
        self._epoch = tf.function(
            self._run_epoch, input_signature=[spectra, codes, weights, smoothing, spectra, codes, number, number]
        )
        self._logits = tf.function(lambda x: self._average(x, training=False), input_signature=[spectra])

    def fit(
        self,
        x: NDArray[np.float32],
        codes: NDArray[np.int64],
        validation_x: NDArray[np.float32],
        validation_codes: NDArray[np.int64],
        seed: int,
        on_epoch: Callable[[int, float], None],
    ) -> tuple[list[NDArray[np.float32]], pd.DataFrame]:
        """Train from the seed's fresh weights.

        Returns
        -------
        weights, curves
            The averaged weights at the lowest validation loss, and a table with `loss`, `validation_loss` and
            `validation_accuracy` for each epoch.

        Raises
        ------
        ValueError
            If there is no spectrum to validate by.
        FloatingPointError
            If the loss is no longer a finite number.
        """
        if len(validation_codes) == 0:
            raise ValueError(f"expected spectra to stop early by, got none: {len(codes)} are too few to hold any out")
        tf = self._tf
        self._reset(seed)
        frequency = np.bincount(codes, minlength=self.outputs)
        present = frequency > 0
        weights = np.ones(len(codes))
        if self.recipe.balanced:
            weights = len(codes) / (present.sum() * frequency[codes])
        data = (
            tf.constant(x, tf.float32),
            tf.constant(codes, tf.int32),
            tf.constant(weights, tf.float32),
            tf.constant(self.recipe.label_smoothing * present / present.sum(), tf.float32),
            tf.constant(validation_x, tf.float32),
            tf.constant(validation_codes, tf.int32),
        )
        rows: list[tuple[float, ...]] = []
        best, best_weights = np.inf, self._weights()
        for epoch in range(self.recipe.epochs):
            rows.append(tuple(self._epoch(*data, seed, epoch).numpy().tolist()))
            training_loss, loss, _ = rows[-1]
            if not np.isfinite([training_loss, loss]).all():
                raise FloatingPointError(
                    f"the loss is {training_loss + loss} after epoch {epoch + 1}: try a learning rate below "
                    f"{self.recipe.learning_rate:g}"
                )
            if loss < best:
                best, best_weights, best_epoch = loss, self._weights(), epoch
            on_epoch(epoch + 1, best)
            if epoch - best_epoch >= self.recipe.patience:
                break
        return best_weights, pd.DataFrame(rows, columns=["loss", "validation_loss", "validation_accuracy"])

    def logits(self, weights: list[NDArray[np.float32]], x: Array) -> Array:
        """(n, 49) standardised reflectance to (n, outputs) logits."""
        with _one_at_a_time:
            self._set(self._average, weights)
            return np.asarray(self._logits(x.astype(np.float32)).numpy(), dtype=np.float64)

    def _run_epoch(
        self, x: Any, codes: Any, weights: Any, smoothing: Any, validation_x: Any, validation_codes: Any,
        seed: Any, epoch: Any,
    ) -> Any:  # fmt: skip
        tf, recipe = self._tf, self.recipe
        rows = tf.shape(x)[0]
        batch = tf.minimum(recipe.batch_size, rows)
        steps = rows // batch  # what is left over after the shuffle waits for a later epoch
        order = tf.random.experimental.stateless_shuffle(tf.range(rows), tf.stack([seed, epoch]))
        total = 0.0
        for step in tf.range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            done = tf.cast(epoch * steps + step, tf.float32) / tf.cast(recipe.epochs * steps, tf.float32)
            rate = recipe.learning_rate * (1 + tf.cos(np.pi * done)) / 2
            label = tf.one_hot(tf.gather(codes, chosen), self.outputs)
            label = (1 - recipe.label_smoothing) * label + smoothing
            with tf.GradientTape() as tape:
                logits = self._network(tf.gather(x, chosen), training=True)
                losses = self._losses(tf.stop_gradient(label), logits)
                loss = tf.reduce_mean(losses * tf.gather(weights, chosen))
            trainable = self._network.trainable_variables
            self._optimizer.apply(tape.gradient(loss, trainable), rate, recipe.weight_decay)
            for average, variable in zip(self._average.trainable_variables, trainable, strict=True):
                average.assign_add((1 - recipe.averaging) * (variable - average))
            total += loss
        for average, variable in zip(
            self._average.non_trainable_variables, self._network.non_trainable_variables, strict=True
        ):
            average.assign(variable)
        logits = self._average(validation_x, training=False)
        validation_loss = tf.reduce_mean(self._losses(tf.one_hot(validation_codes, self.outputs), logits))
        right = tf.equal(tf.argmax(logits, 1, tf.int32), validation_codes)
        return tf.stack(
            [total / tf.cast(steps, tf.float32), validation_loss, tf.reduce_mean(tf.cast(right, tf.float32))]
        )

    def _losses(self, label: Any, logits: Any) -> Any:
        """Cross-entropy of the label, plus that of its main group, whose probability is the sum of its classes'."""
        tf = self._tf
        losses = tf.nn.softmax_cross_entropy_with_logits(label, logits)
        if self._groups is None:
            return losses
        logarithm = tf.math.log(tf.matmul(tf.nn.softmax(logits), self._groups) + 1e-7)
        return losses - self.recipe.group_loss * tf.reduce_sum(tf.matmul(label, self._groups) * logarithm, axis=1)

    def _reset(self, seed: int) -> None:
        fresh = [variable.numpy() for variable in networks.build(self.architecture, self.outputs, seed).variables]
        self._set(self._network, fresh)
        self._set(self._average, fresh)
        self._optimizer.reset()

    def _weights(self) -> list[NDArray[np.float32]]:
        return [variable.numpy() for variable in self._average.variables]

    @staticmethod
    def _set(network: keras.Model, weights: list[NDArray[np.float32]]) -> None:
        for variable, value in zip(network.variables, weights, strict=True):
            variable.assign(value)


class _AdamW:
    """AdamW (Loshchilov & Hutter 2019) on TensorFlow's own Adam kernel.

    Keras's spells the update out in a dozen operations a variable: as much to trace and to run as the gradients.
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, tf: Any, variables: list[Any]) -> None:
        self._tf, self._variables = tf, variables
        self._step = tf.Variable(0.0)
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in variables]

    def reset(self) -> None:
        for state in (self._step, *(moment for pair in self._moments for moment in pair)):
            state.assign(self._tf.zeros_like(state))

    def apply(self, gradients: list[Any], rate: Any, decay: float) -> None:
        tf, step = self._tf, self._step.assign_add(1.0)
        power_1, power_2 = tf.pow(self.BETA_1, step), tf.pow(self.BETA_2, step)
        for variable, (first, second), gradient in zip(self._variables, self._moments, gradients, strict=True):
            variable.assign_sub(rate * decay * variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=first.handle, v=second.handle, beta1_power=power_1, beta2_power=power_2,
                lr=rate, beta1=self.BETA_1, beta2=self.BETA_2, epsilon=self.EPSILON, grad=gradient,
            )  # fmt: skip


def _standardisation(reflectance: Array) -> tuple[Array, float]:
    """Mean of each channel, and one deviation for all.

    A deviation for each would blow up the noise near 0.55 µm, where all spectra meet at 1, and divide by zero there.
    """
    return reflectance.mean(axis=0), float(reflectance.std(axis=0).mean())


def _validation_rows(spectra: LabelledSpectra, share: float, seed: int) -> NDArray[np.bool_]:
    """A share of each main group, drawn by the seed."""
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(spectra), dtype=bool)
    groups = spectra.codes("main_group")
    for group in np.unique(groups):
        rows = random.permutation(np.flatnonzero(groups == group))
        held_out[rows[: round(share * len(rows))]] = True
    return held_out

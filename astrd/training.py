"""Compiled training: a whole epoch (shuffle, gather, gradients, update, validation) runs as one graph.

`Model.fit` spends most of an epoch of these small networks between its steps; here Python is entered once an epoch.
What is learned is the caller's: a network, and an `Objective` that says how wrong its outputs are.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.dataset import LabelledSpectra
from astrd.smoothing import WAVELENGTH

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]
Weights = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Schedule:
    """How any network learns: AdamW with a cosine schedule, averaged weights and early stopping."""

    epochs: int = 50
    patience: int = 20
    validation_share: float = 0.1
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    averaging: float = 0.98  # weights are averaged over about 1 / (1 - averaging) steps

    def params(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Objective:
    """What a network is to learn, in TensorFlow's operations.

    `losses` makes one number a spectrum, shape (n,), of targets (n, k) and the network's outputs (n, k); `measures`
    make, by name, one number of all validation spectra, for the learning curves.
    """

    losses: Callable[[Any, Any], Any]
    measures: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Standardised spectra (n, 49), what the network should answer, (n, k), and how much each counts, (n,)."""

    spectra: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.spectra)


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


class CompiledTraining:
    """One network and objective, traced once; `fit` starts from fresh weights every time it is called.

    `build` makes the network, (n, 49) to (n, `outputs`), with fresh weights of a seed.
    """

    def __init__(
        self, build: Callable[[int], keras.Model], outputs: int, objective: Objective, schedule: Schedule
    ) -> None:
        tf = self._tf = tensorflow()
        self.build, self._objective, self.schedule = build, objective, schedule
        self._network = build(0)
        self._average = build(0)  # of the weights over the last steps
        self._optimizer = _AdamW(tf, [variable.value for variable in self._network.trainable_variables])
        spectra = tf.TensorSpec([None, len(WAVELENGTH)], tf.float32)
        targets, weights = tf.TensorSpec([None, outputs], tf.float32), tf.TensorSpec([None], tf.float32)
        number = tf.TensorSpec([], tf.int32)
        self._epoch = tf.function(
            self._run_epoch, input_signature=[spectra, targets, weights, spectra, targets, number, number]
        )
        self._outputs = tf.function(lambda x: self._average(x, training=False), input_signature=[spectra])

    def fit(
        self,
        learned: Examples,
        held_out: Examples,
        seed: int,
        on_epoch: Callable[[int, float], None],
        start: keras.Model | None = None,
    ) -> tuple[Weights, pd.DataFrame]:
        """Train from the seed's fresh weights; stop by the loss on the examples that are held out.

        Parameters
        ----------
        on_epoch
            Called after each epoch with its number and the lowest validation loss so far.
        start
            A network whose weights to start from instead.

        Returns
        -------
        weights, curves
            The averaged weights at the lowest validation loss, and a table with `loss`, `validation_loss` and
            each of the objective's measures, as `validation_<name>`, for each epoch.

        Raises
        ------
        ValueError
            If there is no spectrum to validate by.
        FloatingPointError
            If the loss is no longer a finite number.
        """
        if len(held_out) == 0:
            raise ValueError(f"expected spectra to stop early by, got none: {len(learned)} are too few to hold any out")
        with _one_at_a_time:
            return self._learn(learned, held_out, seed, on_epoch, start or self.build(seed))

    def outputs(self, weights: Weights, x: Array) -> Array:
        """(n, 49) standardised reflectance to the network's outputs, (n, k), with these weights."""
        with _one_at_a_time:
            self._set(self._average, weights)
            return np.asarray(self._outputs(x.astype(np.float32)).numpy(), dtype=np.float64)

    def _learn(
        self,
        learned: Examples,
        held_out: Examples,
        seed: int,
        on_epoch: Callable[[int, float], None],
        start: keras.Model,
    ) -> tuple[Weights, pd.DataFrame]:
        tf, schedule = self._tf, self.schedule
        self._reset([variable.numpy() for variable in start.variables])
        weights = np.ones(len(learned)) if learned.weights is None else learned.weights
        arrays = (learned.spectra, learned.targets, weights, held_out.spectra, held_out.targets)
        data = [tf.constant(array, tf.float32) for array in arrays]
        rows: list[tuple[float, ...]] = []
        best, best_weights = np.inf, self._weights()
        for epoch in range(schedule.epochs):
            rows.append(tuple(self._epoch(*data, seed, epoch).numpy().tolist()))
            training_loss, loss, *_ = rows[-1]
            if not np.isfinite([training_loss, loss]).all():
                raise FloatingPointError(
                    f"the loss is {training_loss + loss} after epoch {epoch + 1}: try a learning rate below "
                    f"{schedule.learning_rate:g}"
                )
            if loss < best:
                best, best_weights, best_epoch = loss, self._weights(), epoch
            on_epoch(epoch + 1, best)
            if epoch - best_epoch >= schedule.patience:
                break
        measured = [f"validation_{name}" for name in self._objective.measures]
        return best_weights, pd.DataFrame(rows, columns=["loss", "validation_loss", *measured])

    def _run_epoch(
        self, x: Any, targets: Any, weights: Any, validation_x: Any, validation_targets: Any, seed: Any, epoch: Any
    ) -> Any:
        tf, schedule, objective = self._tf, self.schedule, self._objective
        rows = tf.shape(x)[0]
        batch = tf.minimum(schedule.batch_size, rows)
        steps = rows // batch  # what is left over after the shuffle waits for a later epoch
        order = tf.random.experimental.stateless_shuffle(tf.range(rows), tf.stack([seed, epoch]))
        total = 0.0
        for step in tf.range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            done = tf.cast(epoch * steps + step, tf.float32) / tf.cast(schedule.epochs * steps, tf.float32)
            rate = schedule.learning_rate * (1 + tf.cos(np.pi * done)) / 2
            with tf.GradientTape() as tape:
                outputs = self._network(tf.gather(x, chosen), training=True)
                losses = objective.losses(tf.gather(targets, chosen), outputs)
                loss = tf.reduce_mean(losses * tf.gather(weights, chosen))
            trainable = self._network.trainable_variables
            self._optimizer.apply(tape.gradient(loss, trainable), rate, schedule.weight_decay)
            for average, variable in zip(self._average.trainable_variables, trainable, strict=True):
                average.assign_add((1 - schedule.averaging) * (variable - average))
            total += loss
        for average, variable in zip(
            self._average.non_trainable_variables, self._network.non_trainable_variables, strict=True
        ):
            average.assign(variable)
        outputs = self._average(validation_x, training=False)
        validation_loss = tf.reduce_mean(objective.losses(validation_targets, outputs))
        measures = [measure(validation_targets, outputs) for measure in objective.measures.values()]
        return tf.stack([total / tf.cast(steps, tf.float32), validation_loss, *measures])

    def _reset(self, fresh: Weights) -> None:
        self._set(self._network, fresh)
        self._set(self._average, fresh)
        self._optimizer.reset()

    def _weights(self) -> Weights:
        return [variable.numpy() for variable in self._average.variables]

    @staticmethod
    def _set(network: keras.Model, weights: Weights) -> None:
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


def standardisation(reflectance: Array) -> tuple[Array, float]:
    """Mean of each channel, and one deviation for all.

    A deviation for each would blow up the noise near 0.55 µm, where all spectra meet at 1, and divide by zero there.
    """
    return reflectance.mean(axis=0), float(reflectance.std(axis=0).mean())


def validation_rows(spectra: LabelledSpectra, share: float, seed: int) -> NDArray[np.bool_]:
    """A share of each main group, drawn by the seed."""
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(spectra), dtype=bool)
    groups = spectra.codes("main_group")
    for group in np.unique(groups):
        rows = random.permutation(np.flatnonzero(groups == group))
        held_out[rows[: round(share * len(rows))]] = True
    return held_out

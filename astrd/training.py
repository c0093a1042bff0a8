"""Compiled training: a whole epoch (shuffle, gather, gradients, update, validation) runs as one graph.

`Model.fit` spends most of an epoch of these small networks between its steps; here Python is entered once an epoch, and
several networks of one architecture learn side by side. What is learned is the caller's: a network, and an `Objective`
that says how wrong its outputs are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.backend import as_traced, tensorflow
from astrd.dataset import LabelledSpectra
from astrd.side_by_side import SideBySide
from astrd.smoothing import WAVELENGTH

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]
Weights = list[NDArray[np.float32]]

TOGETHER: Final = 3
"""Sets of spectra that networks learn from side by side, each set its own: half of five folds and the whole."""


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

    `losses` makes one number a spectrum, shape (n,), of targets (n, k) and the network's outputs (n, k); so do the
    `measures`, by name, whose means over the validation spectra stand in the learning curves.
    """

    losses: Callable[[Any, Any], Any]
    measures: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Standardised spectra (n, 49), what the network should answer, (n, k), and how much each counts, (n,)."""

    spectra: NDArray[np.floating[Any]]
    targets: NDArray[np.floating[Any]]
    weights: Array | None = None

    def __len__(self) -> int:
        return len(self.spectra)


# A graph holds one set of weights; and two graphs in one process are together slower than in turn.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Lesson:
    """What one network learns, what it stops by, and the seed of its weights, shuffles and dropout.

    `start` are weights to start from instead of the seed's.
    """

    learned: Examples
    held_out: Examples
    seed: int
    start: Weights | None = None


@dataclass(frozen=True)
class Learned:
    """The averaged weights at the lowest validation loss, in the order of Keras's `weights`, and how they were found.

    `curves` has `loss`, `validation_loss` and each of the objective's measures, as `validation_<name>`, by epoch.
    """

    weights: Weights = field(repr=False)
    curves: pd.DataFrame = field(repr=False)


class CompiledTraining:
    """One architecture and objective; every `fit` starts from fresh weights. Graphs are traced once.

    `build` makes the network, of (n, 49) spectra, with fresh weights of a seed.
    """

    def __init__(self, build: Callable[[int], keras.Model], objective: Objective, schedule: Schedule) -> None:
        tf = self._tf = tensorflow()
        self.build, self.objective, self.schedule = build, objective, schedule
        self._network: keras.Model | None = None
        self._starts: dict[int, Weights] = {}
        self._graphs: dict[tuple[int, int], _Graph] = {}
        spectra = tf.TensorSpec([None, len(WAVELENGTH)], tf.float32)
        self._outputs = tf.function(lambda x: self.network(x, training=False), input_signature=[spectra])

    @property
    def network(self) -> keras.Model:
        """One of the architecture, whose weights do not matter."""
        if self._network is None:
            self._network = self.build(0)
        return self._network

    def start(self, seed: int) -> Weights:
        """Fresh weights of a seed. They are kept, as the folds of a model start from the same."""
        if seed not in self._starts:
            network = self.build(seed)
            self._starts[seed] = network.get_weights()
            self._network = self._network or network  # building one takes as long as two epochs
        return self._starts[seed]

    def fit(self, lessons: Sequence[Lesson]) -> list[Learned]:
        """Train a network for each lesson; stop each by the loss on its examples that are held out.

        They learn side by side in one graph, none of what another does.

        Raises
        ------
        ValueError
            If there is no spectrum to validate by.
        FloatingPointError
            If a loss is no longer a finite number.
        """
        for lesson in lessons:
            if len(lesson.held_out) == 0:
                raise ValueError(
                    f"expected spectra to stop early by, got none: {len(lesson.learned)} are too few to hold any out"
                )
        batch = min(self.schedule.batch_size, *(len(lesson.learned) for lesson in lessons))
        with _one_at_a_time:
            starts = [self.start(lesson.seed) if lesson.start is None else lesson.start for lesson in lessons]
            if (len(lessons), batch) not in self._graphs:
                self._graphs[len(lessons), batch] = _Graph(self, len(lessons), batch)
            return self._graphs[len(lessons), batch].learn(lessons, starts)

    def outputs(self, weights: Weights, x: Array) -> Array:
        """(n, 49) standardised reflectance to the network's outputs, (n, k), with these weights."""
        with _one_at_a_time:
            self.network.set_weights(weights)
            return np.asarray(self._outputs(x.astype(np.float32)).numpy(), dtype=np.float64)


class _Graph:
    """As many networks as there are members, learning at once in batches of one size.

    All weights of a member stand in one row, so that a step of the optimiser is a few operations and not a few for each
    layer. Those that are learned come first, in Keras's order; then the statistics of the batch normalisation.
    """

    def __init__(self, training: CompiledTraining, members: int, batch: int) -> None:
        tf = self._tf = tensorflow()
        self._objective, self._schedule = training.objective, training.schedule
        self._members, self._batch = members, batch
        network = training.network
        self._layers = SideBySide(tf, network, members)
        learned = [variable.trainable for variable in network.weights]
        self._order = np.argsort(np.logical_not(learned), kind="stable").tolist()
        self._shapes = [tuple(network.weights[place].shape) for place in self._order]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._learned = sum(learned)  # how many of them
        size, rest = sum(self._sizes[: self._learned]), sum(self._sizes[self._learned :])
        self._weights, self._average, self._first_moment, self._second_moment = (
            tf.Variable(tf.zeros([members, size])) for _ in range(4)
        )
        self._statistics = tf.Variable(tf.zeros([members, rest]))
        spectra = tf.TensorSpec([members, None, len(WAVELENGTH)], tf.float32)
        targets = tf.TensorSpec([members, None, network.output_shape[-1]], tf.float32)
        weights = tf.TensorSpec([members, None], tf.float32)
        order = tf.TensorSpec([None, members, batch], tf.int32)
        # XLA makes one pass of many over what several networks compute. With one network it is slower, and compiling
        # takes longer than learning.
        self._epoch = tf.function(
            self._run_epoch,
            autograph=False,  # takes a fifth of the time that a trial's graph is traced in
            jit_compile=members > 1,
            input_signature=[
                spectra, targets, weights, spectra, targets, weights, order,
                tf.TensorSpec([None, members], tf.float32), tf.TensorSpec([members], tf.int32),
                tf.TensorSpec([members], tf.int32),
            ],
        )  # fmt: skip

    def learn(self, lessons: Sequence[Lesson], starts: Sequence[Weights]) -> list[Learned]:
        with as_traced():
            return self._learn(lessons, starts)

    def _learn(self, lessons: Sequence[Lesson], starts: Sequence[Weights]) -> list[Learned]:
        schedule = self._schedule
        self._reset(starts)
        learned, held_out = ([getattr(lesson, part) for lesson in lessons] for part in ("learned", "held_out"))
        data = [self._tf.constant(array, self._tf.float32) for array in (*_stacked(learned), *_stacked(held_out))]
        steps = np.array([len(lesson.learned) // self._batch for lesson in lessons])
        rows: list[Array] = []
        best, best_epoch = np.full(len(lessons), np.inf), np.zeros(len(lessons), dtype=int)
        best_weights = self._averages()
        for epoch in range(schedule.epochs):
            going = epoch - best_epoch <= schedule.patience
            if not going.any():
                break
            order = np.stack([self._shuffled(lesson, epoch, max(steps)) for lesson in lessons], axis=1)
            rates = _learning_rates(schedule, epoch, steps)
            seeds = np.array([lesson.seed for lesson in lessons])
            rows.append(self._epoch(*data, order, rates, seeds, epoch * steps).numpy())
            losses = rows[-1][:, :2]
            if not np.isfinite(losses[going]).all():
                raise FloatingPointError(
                    f"the loss is {losses[going].sum()} after epoch {epoch + 1}: try a learning rate below "
                    f"{schedule.learning_rate:g}"
                )
            better = going & (losses[:, 1] < best)
            best[better], best_epoch[better] = losses[better, 1], epoch
            best_weights[better] = self._averages()[better]
        columns = ["loss", "validation_loss", *(f"validation_{name}" for name in self._objective.measures)]
        ends = best_epoch + schedule.patience + 1
        return [
            Learned(self._apart(best_weights[member]), pd.DataFrame(curves[:end], columns=columns))
            for member, (curves, end) in enumerate(zip(np.stack(rows, axis=1).astype(np.float64), ends, strict=True))
        ]

    def _run_epoch(
        self, x: Any, targets: Any, weights: Any, validation_x: Any, validation_targets: Any, validation_weights: Any,
        order: Any, rates: Any, seeds: Any, done: Any,
    ) -> Any:  # fmt: skip
        tf, objective = self._tf, self._objective

        def learn(step: Any, totals: Any) -> tuple[Any, Any]:
            rows, rate = order[step], rates[step]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                parts = self._split(self._weights, self._statistics)
                tape.watch(parts)
                spectra = tf.gather(x, rows, batch_dims=1)
                drawn = tf.stack([seeds, done + step], axis=1)
                outputs, statistics = self._layers(self._in_order(parts), spectra, drawn)
                losses = self._each(objective.losses, tf.gather(targets, rows, batch_dims=1), outputs)
                loss = tf.reduce_mean(losses * tf.gather(weights, rows, batch_dims=1), axis=1)
            gradient = self._joined(tape.gradient(loss, parts[: self._learned]))
            self._update(gradient, rate[:, None], tf.cast(done + step + 1, tf.float32)[:, None])
            if statistics:
                new = self._joined([statistics[place] for place in self._order[self._learned :]])
                self._statistics.assign(tf.where(rate[:, None] >= 0, new, self._statistics))
            return step + 1, totals + tf.where(rate >= 0, loss, 0.0)

        steps = tf.shape(order)[0]
        _, totals = tf.while_loop(lambda step, _: step < steps, learn, [0, tf.zeros([self._members])])
        outputs, _ = self._layers(self._in_order(self._split(self._average, self._statistics)), validation_x)
        shares = validation_weights / tf.reduce_sum(validation_weights, axis=1, keepdims=True)
        measured = [
            tf.reduce_sum(shares * self._each(measure, validation_targets, outputs), axis=1)
            for measure in (objective.losses, *objective.measures.values())
        ]
        return tf.stack([totals / tf.reduce_sum(tf.cast(rates >= 0, tf.float32), axis=0), *measured], axis=1)

    def _update(self, gradient: Any, rate: Any, step: Any) -> None:
        """A step of AdamW (Loshchilov & Hutter 2019), and of the mean of the weights over the last steps.

        A member whose rate is below 0 has no batches left in this epoch, and stays as it is.
        """
        tf, schedule = self._tf, self._schedule

        def move(variable: Any, towards: Any, share: float) -> None:
            change = share * (towards - variable)
            variable.assign_add(tf.where(rate >= 0, change, 0.0) if self._members > 1 else change)

        move(self._first_moment, gradient, 1 - _BETA_1)
        move(self._second_moment, tf.square(gradient), 1 - _BETA_2)
        unbiased = tf.sqrt(1 - tf.pow(_BETA_2, step)) / (1 - tf.pow(_BETA_1, step))
        change = unbiased * self._first_moment / (tf.sqrt(self._second_moment) + _EPSILON)
        self._weights.assign_sub(tf.maximum(rate, 0.0) * (change + schedule.weight_decay * self._weights))
        move(self._average, self._weights, 1 - schedule.averaging)

    def _each(self, measure: Callable[[Any, Any], Any], targets: Any, outputs: Any) -> Any:
        """A number for each spectrum, (members, n)."""
        flat = [self._tf.reshape(values, [-1, values.shape[-1]]) for values in (targets, outputs)]
        return self._tf.reshape(measure(*flat), [self._members, -1])

    def _split(self, learned: Any, statistics: Any) -> list[Any]:
        """The weights of all layers as they meet values, those that are learned first."""
        sizes = self._sizes[: self._learned], self._sizes[self._learned :]
        parts = [
            part
            for row, of_row in zip((learned, statistics), sizes, strict=True)
            for part in (self._tf.split(row, of_row, axis=1) if of_row else [])
        ]
        shapes = [self._layers.shapes[place] for place in self._order]
        return [self._tf.reshape(part, [self._members, *shape]) for part, shape in zip(parts, shapes, strict=True)]

    def _joined(self, parts: Sequence[Any]) -> Any:
        return self._tf.concat([self._tf.reshape(part, [self._members, -1]) for part in parts], axis=1)

    def _in_order(self, parts: Sequence[Any]) -> list[Any]:
        """Parts in Keras's order of weights."""
        return [part for _, part in sorted(zip(self._order, parts, strict=True), key=lambda placed: placed[0])]

    def _reset(self, starts: Sequence[Weights]) -> None:
        rows = np.stack([np.concatenate([own[place].ravel() for place in self._order]) for own in starts])
        learned, statistics = np.split(rows, [self._weights.shape[1]], axis=1)
        self._weights.assign(learned)
        self._average.assign(learned)
        self._statistics.assign(statistics)
        for moment in (self._first_moment, self._second_moment):
            moment.assign(np.zeros_like(learned))

    def _averages(self) -> NDArray[np.float32]:
        return np.concatenate([self._average.numpy(), self._statistics.numpy()], axis=1)

    def _apart(self, row: NDArray[np.float32]) -> Weights:
        """The weights of one member, as Keras has them."""
        parts = np.split(row, np.cumsum(self._sizes)[:-1])
        return self._in_order([part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)])

    def _shuffled(self, lesson: Lesson, epoch: int, steps: int) -> NDArray[np.int32]:
        """(steps, batch) rows; what is left over waits for a later epoch, and steps that are too many get row 0."""
        rows = np.random.default_rng([lesson.seed, epoch]).permutation(len(lesson.learned))
        order = np.zeros(steps * self._batch, dtype=np.int32)
        used = len(rows) // self._batch * self._batch
        order[:used] = rows[:used]
        return order.reshape(steps, self._batch)


_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # of Adam, as Keras and its authors have them


def _stacked(examples: Sequence[Examples]) -> tuple[Array, Array, Array]:
    """Spectra, targets and weights with a leading axis of members; what is missing of the longest has no weight."""
    longest = max(map(len, examples))

    def padded(arrays: Iterable[Any]) -> Array:
        return np.stack([np.pad(a, [(0, longest - len(a)), *[(0, 0)] * (a.ndim - 1)]) for a in arrays])

    weights = (np.ones(len(own)) if own.weights is None else own.weights for own in examples)
    return padded(own.spectra for own in examples), padded(own.targets for own in examples), padded(weights)


def _learning_rates(schedule: Schedule, epoch: int, steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """(most steps, members) by the cosine of what is done; below 0 for steps that a member does not take."""
    step = np.arange(max(steps))[:, None]
    done = (epoch * steps + step) / (schedule.epochs * steps)
    rates = schedule.learning_rate * (1 + np.cos(np.pi * done)) / 2
    return np.where(step < steps, rates, -1.0).astype(np.float32)


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

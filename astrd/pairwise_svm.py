"""A support vector machine for each pair of classes, whose answers multiply into a score for each class.

`SVC` counts votes; a vote says nothing of how near a spectrum lies to the border. Here each machine's margin becomes
the probability of one class against the other (Platt 1999, with one slope for all), and a class's score is the
logarithm of the product of its pairs (coupling as in Hastie & Tibshirani 1998, without their iteration). The machine is
a kernel and a few matrix products, and so can be part of a network's graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC

from astrd.classical import CommonScaler

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]
Single = NDArray[np.float32]

MARGIN_SLOPE: Final = 4.0
"""Of the logistic curve from margin to probability: at the margin, one class is 55 times likelier than the other."""

_ROWS_A_CALL: Final = 1000  # more fall out of the processor's cache


@dataclass(frozen=True)
class PairwiseSvm:
    """How the machines learn: radial basis functions of width `gamma`, softness `C`, on channels of a common scale."""

    C: float = 100.0
    gamma: float = 0.02

    def params(self) -> dict[str, Any]:
        return asdict(self)

    def fit(self, reflectance: Array, codes: NDArray[np.int64], labels: int) -> FittedPairwiseSvm:
        """Learn from (n, 49) spectra and the codes (n,) of their labels, of which there are so many."""
        scaler = CommonScaler().fit(reflectance)
        machine = SVC(C=self.C, gamma=self.gamma, decision_function_shape="ovo")
        machine.fit(scaler.transform(reflectance), codes)
        weights = _pair_weights(machine)
        first, second = np.triu_indices(len(machine.classes_), k=1)
        wins = np.zeros((2, len(first), labels))
        pairs = np.arange(len(first))
        wins[0, pairs, machine.classes_[first]] = wins[1, pairs, machine.classes_[second]] = 1
        # Of two classes scikit-learn gives the second's margin, of more the first's.
        sign = -1.0 if len(machine.classes_) == 2 else 1.0
        return FittedPairwiseSvm(
            machine.support_vectors_.astype(np.float32),
            (sign * weights).astype(np.float32),
            (sign * machine.intercept_).astype(np.float32),
            wins.astype(np.float32),
            self.gamma,
            scaler.mean_,
            float(scaler.scale_),
        )


@dataclass(frozen=True)
class FittedPairwiseSvm:
    """Learned machines.

    `vectors` (vectors, 49) are standardised by `mean` (49,) and `deviation`; `weights` (vectors, pairs) and
    `intercepts` (pairs,) make margins of kernel values; `wins` (2, pairs, labels) says which label a positive and which
    a negative margin speaks for. In single precision, as they are served.
    """

    vectors: Single = field(repr=False)
    weights: Single = field(repr=False)
    intercepts: Single = field(repr=False)
    wins: Single = field(repr=False)
    gamma: float
    mean: Array = field(repr=False)
    deviation: float

    def scores(self, reflectance: Array) -> Array:
        """(n, 49) spectra to (n, labels) scores, 0 at most; labels that were not learned have 0."""
        parts = [self._scores(reflectance[i : i + _ROWS_A_CALL]) for i in range(0, len(reflectance), _ROWS_A_CALL)]
        return np.concatenate([np.empty((0, self.wins.shape[2])), *parts])

    def _scores(self, reflectance: Array) -> NDArray[np.float32]:
        x = ((reflectance - self.mean) / self.deviation).astype(np.float32)
        squared = (x**2).sum(1)[:, None] + (self.vectors**2).sum(1) - 2 * x @ self.vectors.T
        margins = MARGIN_SLOPE * (np.exp(-self.gamma * squared) @ self.weights + self.intercepts)
        # log s(-m) = log s(m) - m: one logarithm a pair. SciPy's log_expit takes twenty times as long.
        won = np.minimum(margins, 0) - np.log1p(np.exp(-np.abs(margins)))
        return np.asarray(won @ self.wins.sum(axis=0) - margins @ self.wins[1])

    def in_graph(self, reflectance: keras.KerasTensor) -> keras.KerasTensor:
        """The same scores as part of a Keras graph."""
        from keras import layers, ops

        def product(values: Any, kernel: Single, bias: Single | None = None) -> Any:
            dense = layers.Dense(kernel.shape[1], use_bias=bias is not None, trainable=False)
            dense.build(values.shape)
            dense.set_weights([kernel] if bias is None else [kernel, bias])
            return dense(values)

        x = layers.Rescaling(1 / self.deviation, (-self.mean / self.deviation).tolist())(reflectance)
        length = ops.sum(ops.square(x), axis=1, keepdims=True)
        squared = length + product(x, -2 * self.vectors.T, (self.vectors**2).sum(1))
        kernel = ops.exp(-self.gamma * squared)
        margins = product(kernel, MARGIN_SLOPE * self.weights, MARGIN_SLOPE * self.intercepts)
        # As in `scores`; the lost margins come straight of the kernel.
        lost = product(
            kernel, MARGIN_SLOPE * self.weights @ self.wins[1], MARGIN_SLOPE * self.intercepts @ self.wins[1]
        )
        # Spelled out as there: ONNX Runtime's softplus takes five times as long.
        won = ops.minimum(margins, 0.0) - ops.log(1.0 + ops.exp(-ops.abs(margins)))
        return product(won, self.wins.sum(axis=0)) - lost


def _pair_weights(machine: SVC) -> Array:
    """Weight of each support vector for each pair of classes, (vectors, pairs), of libsvm's (classes - 1, vectors)."""
    classes, ends = len(machine.classes_), np.cumsum(machine.n_support_)
    rows = [slice(end - count, end) for end, count in zip(ends, machine.n_support_, strict=True)]
    first, second = np.triu_indices(classes, k=1)
    weights = np.zeros((len(machine.support_), len(first)))
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        weights[rows[i], pair] = machine.dual_coef_[j - 1, rows[i]]
        weights[rows[j], pair] = machine.dual_coef_[i, rows[j]]
    return weights

"""Training for an epoch: in one compiled graph, with `Model.fit`, and as no more than its products of matrices.

Networks are trained as the folds of a cross-validation are, side by side, where what counts is the cost of one of them;
and alone, as a trial is. Both have the same targets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from astrd import dataset
from astrd.catalogue import MEMBERS
from astrd.dataset import LabelledSpectra
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork, build
from astrd.taxonomy import BUS_CLASSES
from astrd.training import standardisation
from benchmarks.measuring import Comparison, Reading, Way, timed
from benchmarks.setting import Setting

if TYPE_CHECKING:
    import keras

Single = NDArray[np.float32]

ARCHITECTURE = ConvolutionalNetwork()
RECIPE = Recipe()
SIDE_BY_SIDE = NetworkModel.together * MEMBERS
PRODUCTS = "NumPy: the products of matrices of the same layers, forward and backward"
FASTER, OF_THE_FLOOR = 8.0, 2.5


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """What a fit does besides its epochs is part of their cost; graphs are traced before, in the unseen reading."""
    table, origin = setting.spectra
    train, _ = dataset.labelled(dataset.features(table))
    held_out = np.arange(len(train)) % 5 == 0
    learned, validation = train[~held_out], train[held_out]
    epochs = setting.amounts.epochs
    work = f"{len(learned)} spectra ({origin}) in batches of {RECIPE.batch_size}, with validation"
    products = _products(len(learned), len(validation), epochs)

    def stock() -> Reading:
        return setting.stock.submit(_stock, learned, validation, epochs).result()

    for name, members, networks in (
        ("epoch", SIDE_BY_SIDE, f"{SIDE_BY_SIDE} networks side by side"),
        ("epoch alone", 1, "one network"),
    ):
        said, ours = f"{work}, compiled, {networks}", _compiled(learned, validation, epochs, members)
        yield Comparison(name, said, "`Model.fit`", ours, stock, FASTER)
        yield Comparison(f"{name} products", said, PRODUCTS, ours, products, OF_THE_FLOOR, floor=True)


def _each(fit: Callable[[], object], epochs: int) -> Way:
    """The mean cost of an epoch of a fit."""
    way = timed(fit)

    def one() -> Reading:
        reading = way()
        return Reading(reading.cost / epochs, (reading.processor or 0) / epochs)

    return one


def _compiled(learned: LabelledSpectra, validation: LabelledSpectra, epochs: int, members: int) -> Way:
    """The project's own training; it is used here alone."""
    recipe = replace(RECIPE, epochs=epochs, patience=epochs)  # none of them stops early
    model = NetworkModel("bus-cnn", "bus_class", ARCHITECTURE, recipe, members)
    return _each(lambda: model.fit_with_validation(learned, validation), epochs * members)


def _stock(learned: LabelledSpectra, validation: LabelledSpectra, epochs: int) -> Reading:
    mean, deviation = standardisation(learned.reflectance)
    x, validation_x = (((part.reflectance - mean) / deviation).astype(np.float32) for part in (learned, validation))
    network = _stock_network()
    fit = _each(
        lambda: network.fit(
            x, learned.bus, batch_size=RECIPE.batch_size, epochs=epochs, verbose=0,
            validation_data=(validation_x, validation.bus),
        ),
        epochs,
    )  # fmt: skip
    return fit()


@functools.cache
def _stock_network() -> keras.Model:
    """One that goes on learning, as its graphs are traced once."""
    network = build(ARCHITECTURE, len(BUS_CLASSES), seed=0)
    import keras

    network.compile(
        keras.optimizers.AdamW(RECIPE.learning_rate, weight_decay=RECIPE.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network


def _products(learned: int, validation: int, epochs: int) -> Way:
    """All batches forward and backward, and the validation part forward, by one thread of NumPy's BLAS."""
    batches = [_Products.of(RECIPE.batch_size) for _ in range(learned // RECIPE.batch_size)]
    whole = _Products.of(validation)

    def fit() -> None:
        with threadpool_limits(1, user_api="blas"):
            for _ in range(epochs):
                for batch in batches:
                    batch.forward()
                    batch.backward()
                whole.forward()

    return _each(fit, epochs)


@dataclass(frozen=True)
class _Products:
    """A layer each: inputs (m, k), weights (k, n) and gradients of its outputs (m, n), with room for the products.

    A convolution's inputs are its windows, one a row: it is this product, and the windows come for nothing.
    """

    layers: list[tuple[Single, Single, Single]]
    room: list[tuple[Single, Single, Single]]

    @classmethod
    def of(cls, rows: int) -> _Products:
        random = np.random.default_rng(0)
        layers = []
        for layer in build(ARCHITECTURE, len(BUS_CLASSES), seed=0).layers:
            if hasattr(layer, "kernel"):
                *window, outputs = layer.kernel.shape
                positions = layer.output.shape[1] if len(layer.output.shape) == 3 else 1
                m, k = rows * positions, int(np.prod(window))
                x, weights, dy = (
                    random.random(size, dtype=np.float32) for size in ((m, k), (k, outputs), (m, outputs))
                )
                layers.append((x, weights, dy))
        return cls(layers, [(np.empty_like(x), np.empty_like(weights), np.empty_like(dy)) for x, weights, dy in layers])

    def forward(self) -> None:
        for (x, weights, _), (_, _, y) in zip(self.layers, self.room, strict=True):
            np.matmul(x, weights, out=y)

    def backward(self) -> None:
        """Gradients of all weights, and of the inputs of all layers but the first."""
        for number, ((x, weights, dy), (dx, dweights, _)) in enumerate(zip(self.layers, self.room, strict=True)):
            np.matmul(x.T, dy, out=dweights)
            if number:
                np.matmul(dy, weights.T, out=dx)

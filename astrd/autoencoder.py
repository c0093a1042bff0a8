"""Convolutional autoencoders: spectra through a few numbers and back, beside the same number of principal components.

The network is a correction of principal component analysis: encoder and decoder each add a linear path, which starts at
the components, and a convolutional one, which starts at nothing. The encoder then looks at what its first answer leaves
over and corrects it, as PCA, whose answers are projections, need not. So the network starts at PCA and learns what
PCA cannot.

It learns the root mean square of what is left of each spectrum. Their mean square would be ruled by the few strangest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from astrd.backend import tensorflow
from astrd.dataset import FOLDS, LabelledSpectra
from astrd.smoothing import WAVELENGTH
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
from astrd.workers import InTurn, Workers, in_groups

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]

NEIGHBOURS: Final = 60
"""Spectra whose scatter around their mean says how a spectrum may differ from itself."""


PLANE: Final = 2
PRIMARY: Final = 5
LATENT_DIMENSIONS: Final = (PLANE, PRIMARY)
"""Latent numbers of the autoencoder that is drawn as a map, and of the one whose space is clustered."""

_COPIES: Final = {PLANE: 24, PRIMARY: 8}
"""Of each spectrum in an epoch: a surface of two dimensions has to bend, and so needs its gaps filled, much more."""

_SHARE_OF_EPOCHS: Final = {PLANE: 0.5, PRIMARY: 1.0}
"""Of the run's epochs: those with more copies are longer, and fewer of them are enough."""


@dataclass(frozen=True)
class Autoencoder:
    """Strided convolutions and a dense layer down to `latent` numbers, and the mirror of them up again."""

    latent: int
    filters: tuple[int, ...] = (8, 16, 32)
    kernel_sizes: tuple[int, ...] = (5, 5, 3)
    units: int = 96
    copies: int = 8  # of each spectrum in an epoch: itself, and draws from the Gaussian of its neighbours
    schedule: Schedule = field(
        default_factory=lambda: Schedule(patience=25, batch_size=128, weight_decay=0.03, averaging=0.997)
    )
    seed: int = 0

    together: ClassVar[int] = TOGETHER

    @property
    def name(self) -> str:
        return f"autoencoder-{self.latent}"

    @property
    def params(self) -> dict[str, Any]:
        own = {name: value for name, value in asdict(self).items() if name != "schedule"}
        return {**own, **self.schedule.params()}

    def fit(self, spectra: LabelledSpectra) -> FittedAutoencoder:
        """Learn from the spectra, of which `validation_share` are held out to stop early."""
        return self.fit_each([spectra])[0]

    def fit_each(self, parts: Sequence[LabelledSpectra]) -> list[FittedAutoencoder]:
        """Learn from several sets of spectra, from each alone, in one graph."""
        scales, lessons = [], []
        for spectra in parts:
            held_out = validation_rows(spectra, self.schedule.validation_share, self.seed)
            mean, deviation = standardisation(spectra.reflectance[~held_out])
            scales.append((mean, deviation))
            lessons.append(self._lesson((spectra.reflectance - mean) / deviation, held_out))
        learned = _compiled(replace(self, seed=0)).fit(lessons)
        return [
            FittedAutoencoder(self, own.weights, *scale, own.curves.assign(member=1))
            for own, scale in zip(learned, scales, strict=True)
        ]

    def _lesson(self, standardised: Array, held_out: NDArray[np.bool_]) -> Lesson:
        start = build(self, self.seed)
        components = _components(standardised[~held_out], self.latent)
        start.get_layer("projection").set_weights([components.T])
        start.get_layer("decoder").get_layer("expansion").set_weights([components])
        x = standardised.astype(np.float32)
        copies = _with_neighbours(x[~held_out], self.copies, np.random.default_rng(self.seed))
        return Lesson(Examples(copies, copies), Examples(x[held_out], x[held_out]), self.seed, start.get_weights())


@functools.lru_cache(maxsize=2)
def _compiled(autoencoder: Autoencoder) -> CompiledTraining:
    tf = tensorflow()

    def left_over(spectra: Any, reconstructed: Any) -> Any:
        return tf.sqrt(tf.reduce_mean(tf.square(spectra - reconstructed), axis=1) + 1e-6)

    return CompiledTraining(partial(build, autoencoder), Objective(left_over), autoencoder.schedule)


def autoencoder(latent: int, epochs: int, seed: int) -> Autoencoder:
    """The autoencoder of so many latent numbers, one of `LATENT_DIMENSIONS`, as the main job trains it."""
    model = Autoencoder(latent, copies=_COPIES[latent], seed=seed)
    share = max(1, round(_SHARE_OF_EPOCHS[latent] * epochs))
    return replace(model, schedule=replace(model.schedule, epochs=share))


class Compression(Protocol):
    """What brings spectra down to a few numbers and back."""

    def encode(self, reflectance: Array) -> Array:
        """(n, 49) to (n, latent)."""
        ...

    def reconstruct(self, reflectance: Array) -> Array:
        """(n, 49) to what is left of them after they went through the latent numbers, (n, 49)."""
        ...


@dataclass(frozen=True)
class FittedAutoencoder:
    """Learned weights, the standardisation of the spectra that they belong to, and how they were learned."""

    model: Autoencoder
    weights: Weights = field(repr=False)
    mean: Array = field(repr=False)
    deviation: float
    curves: pd.DataFrame = field(repr=False)

    def encode(self, reflectance: Array) -> Array:
        """(n, 49) to (n, latent)."""
        network = self._network()
        import keras

        return self._ask(keras.Model(network.input, network.get_layer("latent_numbers").output), reflectance)

    def reconstruct(self, reflectance: Array) -> Array:
        """(n, 49) to (n, 49)."""
        return self._ask(self._network(), reflectance) * self.deviation + self.mean

    def keras_model(self) -> keras.Model:
        """A network of its own, (n, 49) reflectance to (n, 49) reconstructed reflectance."""
        network = self._network()
        import keras

        scale, offset = 1 / self.deviation, -self.mean / self.deviation
        reflectance = keras.Input((len(WAVELENGTH),), name="reflectance")
        standardised = keras.layers.Rescaling(scale, offset.tolist())(reflectance)
        back = keras.layers.Rescaling(self.deviation, self.mean.tolist())
        return keras.Model(reflectance, back(network(standardised)))

    def _network(self) -> keras.Model:
        network = build(self.model, self.model.seed)
        network.set_weights(self.weights)
        return network

    def _ask(self, network: keras.Model, reflectance: Array) -> Array:
        standardised = ((reflectance - self.mean) / self.deviation).astype(np.float32)
        return np.asarray(network(standardised, training=False), dtype=np.float64)


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal component analysis: the best that straight lines can do."""

    mean: Array
    components: Array  # (latent, 49)

    @classmethod
    def fit_each(cls, parts: Sequence[LabelledSpectra], latent: int) -> list[PrincipalComponents]:
        """Learn from several sets of spectra, from each alone."""
        return [cls.fit(part, latent) for part in parts]

    @classmethod
    def fit(cls, spectra: LabelledSpectra, latent: int) -> PrincipalComponents:
        """Learn from the spectra."""
        mean = spectra.reflectance.mean(axis=0)
        return cls(mean, _components(spectra.reflectance - mean, latent))

    def encode(self, reflectance: Array) -> Array:
        """(n, 49) to (n, latent)."""
        return np.asarray((reflectance - self.mean) @ self.components.T)

    def reconstruct(self, reflectance: Array) -> Array:
        """(n, 49) to (n, 49)."""
        return np.asarray(self.encode(reflectance) @ self.components + self.mean)


@dataclass(frozen=True)
class HeldOut:
    """What compressions made of spectra that they had not seen, in the order of the training part.

    `reconstructed` has shape (n, 49); compression i saw all folds but the i-th, and `whole` saw all of them.
    """

    reconstructed: Array = field(repr=False)
    compressions: tuple[Compression, ...]
    whole: Compression


def cross_validate_compression(
    fit_each: Callable[[Sequence[LabelledSpectra]], Sequence[Compression]],
    train: LabelledSpectra,
    together: int = 1,
    on_fit: Callable[[int], None] = lambda done: None,
    workers: Workers = InTurn(),  # noqa: B008
) -> HeldOut:
    """Learn from four folds and reconstruct the fifth, five times; and learn from the whole training part.

    Parameters
    ----------
    fit_each
        Learns from several sets of spectra, from each alone; it gets so many of them `together`.
    on_fit
        Called with the number of sets that were learned from, as they are.
    """
    parts = [*(train[train.fold != fold] for fold in range(FOLDS)), train]
    *compressions, whole = in_groups(workers, fit_each, parts, together, on_fit)
    reconstructed = np.empty_like(train.reflectance)
    for fold, compression in enumerate(compressions):
        rows = train.fold == fold
        reconstructed[rows] = compression.reconstruct(train.reflectance[rows])
    return HeldOut(reconstructed, tuple(compressions), whole)


def build(architecture: Autoencoder, seed: int) -> keras.Model:
    """A network with fresh weights, (n, 49) standardised reflectance to the same; all randomness comes of the seed.

    Its layer "latent_numbers" gives them, and its layer "decoder" takes them back.
    """
    tensorflow()
    import keras
    from keras import layers

    seeds = iter(np.random.SeedSequence(seed).generate_state(64).tolist())
    units, latent, channels = architecture.units, architecture.latent, len(WAVELENGTH)

    def dense(size: int) -> keras.layers.Layer:
        return layers.Dense(size, activation="gelu", kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)))

    def linear(size: int, name: str) -> keras.layers.Layer:
        return layers.Dense(size, use_bias=False, kernel_initializer="zeros", name=name)

    numbers = keras.Input((latent,), name="latent")
    hidden = layers.Reshape((channels, architecture.filters[0]))(
        dense(channels * architecture.filters[0])(dense(units)(numbers))
    )
    bent = layers.Flatten()(
        layers.Conv1D(1, architecture.kernel_sizes[0], padding="same", kernel_initializer="zeros")(hidden)
    )
    decoder = keras.Model(numbers, layers.Add()([linear(channels, "expansion")(numbers), bent]), name="decoder")

    spectrum = keras.Input((channels,), name="standardised_reflectance")
    hidden = layers.Reshape((channels, 1))(spectrum)
    for filters, kernel_size in zip(architecture.filters, architecture.kernel_sizes, strict=True):
        hidden = layers.Conv1D(
            filters, kernel_size, strides=2, padding="same", activation="gelu",
            kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
        )(hidden)  # fmt: skip
    hidden = dense(units)(layers.Flatten()(hidden))
    first = layers.Add()([linear(latent, "projection")(spectrum), linear(latent, "bend")(hidden)])
    left_over = layers.Subtract()([spectrum, decoder(first)])
    hidden = dense(units)(layers.Concatenate()([left_over, first]))
    latent_numbers = layers.Add(name="latent_numbers")([first, linear(latent, "correction")(hidden)])
    return keras.Model(spectrum, decoder(latent_numbers))


def rms(difference: Array) -> Array:
    """Root mean square over the channels, (n, 49) to (n,)."""
    return np.asarray(np.sqrt((difference**2).mean(axis=1)))


def _components(centred: Array, latent: int) -> Array:
    """(n, 49) to the (latent, 49) directions of largest variance."""
    return np.asarray(np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :latent].T)


def _with_neighbours(x: NDArray[np.float32], copies: int, random: np.random.Generator) -> NDArray[np.float32]:
    """The spectra, and draws around each of them from the Gaussian of its neighbours: a smooth bootstrap.

    About a thousand spectra leave gaps in which a bent surface would do as it likes.
    """
    nearest = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x))).fit(x).kneighbors(x, return_distance=False)
    scatter = x[nearest] - x[nearest].mean(axis=1, keepdims=True)
    draws = random.standard_normal((copies - 1, *nearest.shape), dtype=np.float32) / np.sqrt(nearest.shape[1])
    return np.concatenate([x, *(x + np.einsum("nk,nkc->nc", draw, scatter) for draw in draws)]).astype(np.float32)

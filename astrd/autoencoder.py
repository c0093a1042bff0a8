"""Convolutional autoencoders: spectra through a few numbers and back, beside the same number of principal components.

The network is a correction of principal component analysis: encoder and decoder each add a linear path, which starts at
the components, and a convolutional one, which starts at nothing. The encoder then looks at what its first answer leaves
over and corrects it, as PCA, whose answers are projections, need not. So the network starts at PCA and learns what
PCA cannot.

It learns the root mean square of what is left of each spectrum. Their mean square would be ruled by the few strangest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from astrd.dataset import FOLDS, LabelledSpectra
from astrd.smoothing import WAVELENGTH
from astrd.training import CompiledTraining, Examples, Objective, Schedule, standardisation, tensorflow, validation_rows

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]

NEIGHBOURS: Final = 60
"""Spectra whose scatter around their mean says how a spectrum may differ from itself."""


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
    on_epoch: Callable[[int, float], None] = field(default=lambda epoch, loss: None, repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"autoencoder-{self.latent}"

    @property
    def params(self) -> dict[str, Any]:
        own = {name: value for name, value in asdict(self).items() if name not in ("schedule", "on_epoch")}
        return {**own, **self.schedule.params()}

    @cached_property
    def _training(self) -> CompiledTraining:
        tf = tensorflow()

        def left_over(spectra: Any, reconstructed: Any) -> Any:
            return tf.sqrt(tf.reduce_mean(tf.square(spectra - reconstructed), axis=1) + 1e-6)

        return CompiledTraining(lambda seed: build(self, seed), len(WAVELENGTH), Objective(left_over), self.schedule)

    def fit(self, spectra: LabelledSpectra) -> FittedAutoencoder:
        """Learn from the spectra, of which `validation_share` are held out to stop early."""
        held_out = validation_rows(spectra, self.schedule.validation_share, self.seed)
        mean, deviation = standardisation(spectra.reflectance[~held_out])
        standardised = (spectra.reflectance - mean) / deviation
        x = standardised.astype(np.float32)
        start = self._training.build(self.seed)
        components = _components(standardised[~held_out], self.latent)
        start.get_layer("projection").set_weights([components.T])
        start.get_layer("decoder").get_layer("expansion").set_weights([components])
        learned = _with_neighbours(x[~held_out], self.copies, np.random.default_rng(self.seed))
        weights, curves = self._training.fit(
            Examples(learned, learned), Examples(x[held_out], x[held_out]), self.seed, self.on_epoch, start
        )
        for variable, value in zip(start.variables, weights, strict=True):
            variable.assign(value)
        return FittedAutoencoder(start, mean, deviation, curves.assign(member=1))


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
    """A learned network of standardised spectra, with their standardisation and how it was learned."""

    network: keras.Model = field(repr=False)
    mean: Array = field(repr=False)
    deviation: float
    curves: pd.DataFrame = field(repr=False)

    def encode(self, reflectance: Array) -> Array:
        """(n, 49) to (n, latent)."""
        import keras

        return self._ask(keras.Model(self.network.input, self.network.get_layer("latent_numbers").output), reflectance)

    def reconstruct(self, reflectance: Array) -> Array:
        """(n, 49) to (n, 49)."""
        return self._ask(self.network, reflectance) * self.deviation + self.mean

    def keras_model(self) -> keras.Model:
        """A network of its own, (n, 49) reflectance to (n, 49) reconstructed reflectance."""
        import keras

        scale, offset = 1 / self.deviation, -self.mean / self.deviation
        reflectance = keras.Input((len(WAVELENGTH),), name="reflectance")
        standardised = keras.layers.Rescaling(scale, offset.tolist())(reflectance)
        back = keras.layers.Rescaling(self.deviation, self.mean.tolist())
        return keras.Model(reflectance, back(self.network(standardised)))

    def _ask(self, network: keras.Model, reflectance: Array) -> Array:
        standardised = ((reflectance - self.mean) / self.deviation).astype(np.float32)
        return np.asarray(network(standardised, training=False), dtype=np.float64)


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal component analysis: the best that straight lines can do."""

    mean: Array
    components: Array  # (latent, 49)

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

    `reconstructed` has shape (n, 49); compression i saw all folds but the i-th.
    """

    reconstructed: Array = field(repr=False)
    compressions: tuple[Compression, ...]


def cross_validate_compression(
    fit: Callable[[LabelledSpectra], Compression],
    train: LabelledSpectra,
    on_fold: Callable[[int], None] = lambda fold: None,
) -> HeldOut:
    """Learn from four folds and reconstruct the fifth, five times."""
    reconstructed = np.empty_like(train.reflectance)
    compressions = []
    for fold in range(FOLDS):
        rows = train.fold == fold
        compression = fit(train[~rows])
        reconstructed[rows] = compression.reconstruct(train.reflectance[rows])
        compressions.append(compression)
        on_fold(fold + 1)
    return HeldOut(reconstructed, tuple(compressions))


def build(architecture: Autoencoder, seed: int) -> keras.Model:
    """A network with fresh weights, (n, 49) standardised reflectance to the same; all randomness comes of the seed.

    Its layer "latent_numbers" gives them, and its layer "decoder" takes them back.
    """
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

"""The networks: 49 standardised channels in, one logit a label out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from astrd.backend import tensorflow
from astrd.smoothing import WAVELENGTH

if TYPE_CHECKING:
    import keras

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DenseNetwork:
    """Fully connected layers, each with ReLU."""

    units: tuple[int, ...] = (25, 10)
    dropout: float = 0.0

    def params(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ConvolutionalNetwork:
    """Convolutions, each fed by the one before and halving the channels; then one fully connected layer.

    `downsampling` says what halves: the stride of the convolution, or max-pooling after it.
    """

    filters: tuple[int, ...] = (24, 40, 56)
    kernel_sizes: tuple[int, ...] = (5, 5, 3)
    downsampling: Literal["stride", "max-pooling"] = "stride"
    units: int = 96
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if len(self.filters) != len(self.kernel_sizes):
            raise ValueError(
                f"expected a kernel size for each convolution, got {len(self.filters)} numbers of filters "
                f"and {len(self.kernel_sizes)} kernel sizes"
            )

    def params(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def multiplications(self) -> int:
        """What one spectrum takes, up to the logits: the time of a large network goes by it."""
        length, channels, total = len(WAVELENGTH), 1, 0
        for filters, kernel_size in zip(self.filters, self.kernel_sizes, strict=True):
            computed, length = (-(-length // 2),) * 2 if self.downsampling == "stride" else (length, length // 2)
            total += computed * kernel_size * channels * filters
            channels = filters
        return total + length * channels * self.units


Architecture = DenseNetwork | ConvolutionalNetwork


def build(architecture: Architecture, outputs: int, seed: int) -> keras.Model:
    """A network with fresh weights: (n, 49) standardised reflectance to (n, outputs) logits.

    All randomness, dropout's too, comes of `seed`: the same seed gives the same weights in any thread.
    """
    tensorflow()
    import keras
    from keras import layers

    seeds = iter(np.random.SeedSequence(seed).generate_state(64).tolist())

    def weights() -> keras.initializers.Initializer:
        return keras.initializers.HeNormal(seed=next(seeds))

    spectrum = hidden = keras.Input((len(WAVELENGTH),), name="standardised_reflectance")
    if isinstance(architecture, ConvolutionalNetwork):
        pooling = architecture.downsampling == "max-pooling"
        hidden = layers.Reshape((len(WAVELENGTH), 1))(hidden)
        for filters, kernel_size in zip(architecture.filters, architecture.kernel_sizes, strict=True):
            hidden = layers.Conv1D(
                filters,
                kernel_size,
                strides=1 if pooling else 2,
                padding="same",
                use_bias=False,  # the batch normalisation shifts
                kernel_initializer=weights(),
            )(hidden)
            hidden = layers.BatchNormalization(momentum=0.9)(hidden)
            hidden = layers.Activation("relu")(hidden)
            if pooling:
                hidden = layers.MaxPooling1D(2)(hidden)
        hidden = layers.Flatten()(hidden)
        sizes: tuple[int, ...] = (architecture.units,)
    else:
        sizes = architecture.units
    for units in sizes:
        hidden = layers.Dense(units, activation="relu", kernel_initializer=weights())(hidden)
    if architecture.dropout:
        hidden = layers.Dropout(architecture.dropout, seed=next(seeds))(hidden)
    logits = layers.Dense(outputs, kernel_initializer=weights(), name="logits")(hidden)
    return keras.Model(spectrum, logits)


def deployable(members: Sequence[tuple[keras.Model, Array, float]]) -> keras.Model:
    """Members, each with the mean (49,) and deviation it was trained with, as one network: reflectance to logits.

    The logits of several members are the logarithms of their mean probabilities. A `Rescaling` layer holds the
    standardisation, because its constants survive the export to ONNX; those of a `Normalization` layer do not.
    """
    import keras

    reflectance = keras.Input((len(WAVELENGTH),), name="reflectance")
    logits = [
        network(keras.layers.Rescaling(1 / deviation, (-mean / deviation).tolist())(reflectance))
        for network, mean, deviation in members
    ]
    if len(logits) == 1:
        return keras.Model(reflectance, logits[0])
    mean_probability = keras.layers.Average()([keras.layers.Softmax()(member) for member in logits])
    return keras.Model(reflectance, keras.ops.log(keras.ops.maximum(mean_probability, 1e-30)))


def to_onnx(network: keras.Model) -> bytes:
    """The network as an ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        exported = _as_images(network)
        exported(np.zeros((1, len(WAVELENGTH)), dtype=np.float32))  # the export wants a network that was called
        exported.export(path, format="onnx", verbose=False)
        return path.read_bytes()


def _as_images(network: keras.Model) -> keras.Model:
    """The same network, whose convolutions run over images of one row.

    Convolutions along one axis leave Keras between a pair of reshapes each, past which ONNX Runtime cannot draw
    normalisation and ReLU into them: it takes 1.6 times as long for such a network.
    """
    import keras
    from keras import layers

    over_images = {
        layers.Conv1D: layers.Conv2D,
        layers.MaxPooling1D: layers.MaxPooling2D,
        layers.Reshape: layers.Reshape,
    }
    along_axis = ("kernel_size", "strides", "dilation_rate", "pool_size", "target_shape")

    def as_image(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind, config = type(layer), layer.get_config()
        if kind in over_images:
            kind = over_images[kind]
            config |= {name: (1, *config[name]) for name in along_axis if name in config}
        return kind.from_config(config)

    images = keras.models.clone_model(network, clone_function=as_image, recursive=True)
    weights = zip(network.get_weights(), images.get_weights(), strict=True)
    images.set_weights([one.reshape(other.shape) for one, other in weights])
    return images

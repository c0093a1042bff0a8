"""Several networks of one architecture as one: every layer with a leading axis of members.

A Keras layer holds one set of weights. Here its definition is read, and done for all members at once: a dense layer or
a convolution is one batched product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


class SideBySide:
    """A network's layers for so many members.

    Parameters
    ----------
    tf
        The module of TensorFlow.
    network
        Of the layers named below; its weights do not matter.

    Attributes
    ----------
    shapes
        Of a member's weights, in the order of Keras's `weights`: with an axis of one number for each that the values
        which they meet have before theirs.
    """

    def __init__(self, tf: Any, network: keras.Model, members: int) -> None:
        self._tf = tf
        self._network, self._members = network, members
        self._place = {id(variable): place for place, variable in enumerate(network.weights)}
        self._ways: dict[str, Callable[..., Any]] = {
            "Activation": lambda layer, x: layer.activation(x),
            "Add": lambda layer, xs: self._tf.add_n(xs),
            "BatchNormalization": self._normalise,
            "Concatenate": lambda layer, xs: self._tf.concat(xs, axis=-1),
            "Conv1D": self._convolve,
            "Dense": self._dense,
            "Dropout": self._drop,
            "Flatten": self._flatten,
            "Functional": lambda layer, x: self._run(layer, x),
            "MaxPooling1D": self._pool,
            "Reshape": lambda layer, x: self._rows(x, *layer.target_shape),
            "Subtract": lambda layer, xs: xs[0] - xs[1],
        }
        meets = {id(of): len(layer.output.shape) - 1 for layer in self._layers(network) for of in layer.weights}
        self.shapes = [
            (*[1] * meets[id(of)], *of.shape) if len(of.shape) == 1 else tuple(of.shape) for of in network.weights
        ]

    def __call__(self, weights: Sequence[Any], x: Any, seeds: Any = None) -> tuple[Any, dict[int, Any]]:
        """What the networks make of spectra.

        Parameters
        ----------
        weights
            Of the `shapes`, each with a leading axis of members.
        x
            Shape (members, n, 49).
        seeds
            (members, 2) for dropout, to learn with; None to answer.

        Returns
        -------
        outputs, statistics
            Shape (members, n, outputs); and new values of the weights that are not learned but kept account of, of
            their shapes, by their place; none without `seeds`.

        Raises
        ------
        TypeError
            If there is a layer of another kind, or one set up in a way that is not provided for.
        """
        self._weights, self._seeds = weights, seeds
        self._statistics: dict[int, Any] = {}
        return self._run(self._network, x), self._statistics

    @classmethod
    def _layers(cls, network: keras.Model) -> Iterator[keras.layers.Layer]:
        """Those that networks within it hold, too."""
        for layer in network.layers:
            yield from cls._layers(layer) if hasattr(layer, "layers") else [layer]

    def _run(self, network: keras.Model, x: Any) -> Any:
        return network._run_through_graph(x, operation_fn=self._way)

    def _way(self, layer: keras.layers.Layer) -> Callable[..., Any]:
        kind = type(layer).__name__
        if kind not in self._ways:
            raise TypeError(f"expected layers of {', '.join(self._ways)}; got {kind}")
        return lambda inputs, **_: self._ways[kind](layer, inputs)

    def _of(self, variable: Any) -> Any:
        """A variable of all members."""
        return self._weights[self._place[id(variable)]]

    def _rows(self, x: Any, *shape: int) -> Any:
        return self._tf.reshape(x, [self._members, -1, *shape])

    def _flatten(self, layer: keras.layers.Flatten, x: Any) -> Any:
        if self._members == 1:
            return self._rows(x, int(layer.output.shape[-1]))
        # The same, but XLA would draw a reshape into the loop before it, which then divides to find where it is.
        return self._tf.concat(self._tf.unstack(x, axis=2), axis=-1)

    def _dense(self, layer: keras.layers.Dense, x: Any) -> Any:
        product = self._tf.matmul(x, self._of(layer.kernel))
        return layer.activation(product + self._of(layer.bias) if layer.use_bias else product)

    def _convolve(self, layer: keras.layers.Conv1D, x: Any) -> Any:
        tf, kernel = self._tf, self._of(layer.kernel)
        (size,), (stride,) = layer.kernel_size, layer.strides
        if layer.padding != "same" or layer.dilation_rate != (1,) or layer.groups != 1:
            raise TypeError(f"expected a convolution with padding alone, got {layer.get_config()}")
        if self._members == 1:  # its spectra are the rows of an image, which a kernel of one row goes over
            found = tf.nn.conv2d(x, kernel, [1, stride], "SAME")
        else:
            length, channels = x.shape[2:]
            outputs, steps = -(-length // stride), -(-size // stride)
            before = max((outputs - 1) * stride + size - length, 0) // 2
            whole = (outputs - 1 + steps) * stride
            x = tf.pad(x, [[0, 0], [0, 0], [before, max(whole - before - length, 0)], [0, 0]])[:, :, :whole]
            strides = self._rows(x, outputs - 1 + steps, stride * channels)
            windows = tf.concat(
                [strides[:, :, i : i + outputs, : (size - i * stride) * channels] for i in range(steps)], axis=-1
            )
            product = tf.matmul(
                self._tf.reshape(windows, [self._members, -1, size * channels]),
                tf.reshape(kernel, [self._members, size * channels, layer.filters]),
            )
            found = self._rows(product, outputs, layer.filters)
        return layer.activation(found + self._of(layer.bias) if layer.use_bias else found)

    def _normalise(self, layer: keras.layers.BatchNormalization, x: Any) -> Any:
        gamma, beta = self._of(layer.gamma), self._of(layer.beta)
        kept = [self._of(variable) for variable in (layer.moving_mean, layer.moving_variance)]
        if self._seeds is None:
            mean, variance = kept
            return (x - mean) * (gamma * self._tf.math.rsqrt(variance + layer.epsilon)) + beta
        normalised, *found = self._normalised_by_itself(x, gamma, beta, layer.epsilon)
        for variable, old, new in zip((layer.moving_mean, layer.moving_variance), kept, found, strict=True):
            self._statistics[self._place[id(variable)]] = layer.momentum * old + (1 - layer.momentum) * new
        return normalised

    def _normalised_by_itself(self, x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
        """With its own mean and variance; these too.

        Its gradient is written out (Ioffe & Szegedy 2015, section 3): that of the operations goes over all values half
        as often again.
        """
        tf = self._tf
        over = list(range(1, len(x.shape) - 1))
        count = float(np.prod(x.shape[1:-1]))

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def normalised(x: Any, gamma: Any, beta: Any) -> tuple[Any, Callable[..., Any]]:
            mean = tf.reduce_sum(x, over, keepdims=True) / count
            variance = self._sum_of_products(x - mean, x - mean) / count
            scale = tf.math.rsqrt(variance + epsilon)

            def gradients(above: Any, *_: Any) -> tuple[Any, Any, Any]:
                of_beta = tf.reduce_sum(above, over, keepdims=True)
                of_gamma = scale * self._sum_of_products(above, x - mean)
                slope = scale * of_gamma / count
                return gamma * scale * (above - (of_beta / count - slope * mean) - slope * x), of_gamma, of_beta

            return ((x - mean) * (gamma * scale) + beta, mean, variance), gradients

        return normalised(x, gamma, beta)

    def _sum_of_products(self, a: Any, b: Any) -> Any:
        """Over all axes but the first and the last.

        XLA sums what lies in memory fast, but what it has just computed number by number; a product of matrices, with
        ones, it does fast again.
        """
        tf, product = self._tf, a * b
        axes = len(product.shape)
        if self._members == 1:
            return tf.reduce_sum(product, list(range(1, axes - 1)), keepdims=True)
        rows = self._rows(product, product.shape[-1])
        total = tf.matmul(tf.ones_like(rows[:, :, :1]), rows, transpose_a=True)
        return tf.reshape(total, [self._members, *[1] * (axes - 2), product.shape[-1]])

    def _pool(self, layer: keras.layers.MaxPooling1D, x: Any) -> Any:
        (size,) = layer.pool_size
        if layer.strides != (size,) or layer.padding != "valid":
            raise TypeError(f"expected pooling side by side, got {layer.get_config()}")
        length, channels = x.shape[2:]
        whole = length // size
        return self._tf.reduce_max(self._rows(x[:, :, : whole * size], whole, size, channels), axis=3)

    def _drop(self, layer: keras.layers.Dropout, x: Any) -> Any:
        tf = self._tf
        if self._seeds is None or not layer.rate:
            return x
        seed, step = tf.unstack(tf.cast(self._seeds, tf.uint32), axis=1)
        units = tf.constant(np.arange(np.prod(x.shape[1:]), dtype=np.uint32).reshape(1, *x.shape[1:]))
        drawn = self._hashed(units + self._hashed(step + self._hashed(seed))[:, None, None])
        share = tf.cast(tf.bitwise.right_shift(drawn, 8), tf.float32) / 2.0**24
        return tf.where(share >= layer.rate, x / (1 - layer.rate), 0.0)

    def _hashed(self, x: Any) -> Any:
        """Whole numbers as good as drawn by chance (C. Wellons' lowbias32).

        TensorFlow's own draw of one seed differs with XLA and without, and takes long to compile for many seeds.
        """
        tf = self._tf
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, shift)) * tf.constant(factor, tf.uint32)
        return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, 16))

"""A network leaves Keras as it is, in a form that ONNX Runtime is quick with."""

from __future__ import annotations

from typing import Literal

import keras
import numpy as np
import onnx
import pytest

from astrd import networks, simulate
from astrd.networks import Architecture, ConvolutionalNetwork, DenseNetwork
from astrd.onnx_network import OnnxNetwork

ROWS = simulate.channels(50, seed=4)[0]


def used(architecture: Architecture) -> keras.Model:
    """A network of two members whose normalisations have seen something."""
    random = np.random.default_rng(0)
    members = [networks.build(architecture, 26, seed) for seed in (0, 1)]
    for layer in (layer for member in members for layer in member.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return networks.deployable([(member, ROWS.mean(axis=0), 0.1) for member in members])


@pytest.mark.parametrize(
    "architecture",
    [
        DenseNetwork((8,)),
        ConvolutionalNetwork((4, 6), (5, 3), units=8),
        ConvolutionalNetwork((4, 6), (5, 3), "max-pooling", units=8),
    ],
    ids=["dense", "stride", "max-pooling"],
)
def test_the_file_answers_what_keras_answers(architecture: Architecture) -> None:
    network = used(architecture)
    content = networks.to_onnx(network)
    in_keras = np.array(network(ROWS.astype(np.float32)))
    np.testing.assert_allclose(OnnxNetwork(content)(ROWS), in_keras, atol=1e-4)
    assert np.ptp(in_keras, axis=0).max() > 0.1


def test_nothing_stands_between_a_convolution_and_its_normalisation() -> None:
    """Or ONNX Runtime cannot make one of them."""
    graph = onnx.load_from_string(networks.to_onnx(used(ConvolutionalNetwork((4, 6), (5, 3), units=8)))).graph
    kinds = {name: node.op_type for node in graph.node for name in node.input}
    after = [kinds[node.output[0]] for node in graph.node if node.op_type == "Conv"]
    assert len(after) == 4
    assert set(after) <= {"Mul", "Add", "Relu"}


@pytest.mark.parametrize("downsampling", ["stride", "max-pooling"])
def test_multiplications_are_those_of_the_layers(downsampling: Literal["stride", "max-pooling"]) -> None:
    architecture = ConvolutionalNetwork((4, 6, 10), (5, 3, 7), downsampling, units=8)
    layers = [
        layer
        for layer in networks.build(architecture, 26, seed=0).layers
        if isinstance(layer, keras.layers.Conv1D | keras.layers.Dense) and layer.name != "logits"
    ]
    expected = sum(int(np.prod(layer.output.shape[1:-1]) * np.prod(layer.kernel.shape)) for layer in layers)
    assert architecture.multiplications == expected

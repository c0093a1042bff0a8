"""A classifier that needs no training: each class by its mean spectrum, as a network of one layer."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from astrd.analogues import Archive
from astrd.calibrated import Calibration
from astrd.classifier import Classifier
from astrd.dataset import LabelledSpectra
from astrd.onnx_network import OnnxNetwork
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import BUS_CLASSES

SHARPNESS = 200.0


def template_classifier(train: LabelledSpectra, archive: Archive) -> Classifier:
    """Logits fall with the squared distance from the class means."""
    means = [archive.class_mean(name) for name in BUS_CLASSES]
    mean = np.array([np.full(len(WAVELENGTH), 9.0) if one is None else one for one in means])
    weight, bias = SHARPNESS * mean.T, -SHARPNESS * (mean**2).sum(axis=1) / 2
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["reflectance", "weight", "bias"], ["logits"])],
        "templates",
        [helper.make_tensor_value_info("reflectance", TensorProto.FLOAT, [None, len(WAVELENGTH)])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, len(BUS_CLASSES)])],
        [numpy_helper.from_array(a.astype(np.float32), name) for a, name in ((weight, "weight"), (bias, "bias"))],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    logits = train.reflectance @ weight + bias
    known = np.exp(logits - logits.max(axis=1, keepdims=True)) * np.isin(np.arange(len(BUS_CLASSES)), train.bus)
    return Classifier(OnnxNetwork(network), Calibration.fit(train, known / known.sum(axis=1, keepdims=True)), archive)

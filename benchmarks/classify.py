"""A survey on the 49 channels, classified in this process: beside Keras, and beside its network alone."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
from scipy.special import softmax

from astrd import simulate
from astrd.backend import tensorflow
from astrd.classifier import Classifier
from benchmarks.measuring import Comparison, spectra_a_second, timed
from benchmarks.setting import Setting

TOLERANCE = 1e-3


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """`Model.predict` with its default batch; ONNX Runtime alone with the batch and thread that the classifier uses."""
    model, spectra = setting.model, setting.amounts.batch
    tensorflow()
    import keras

    keras.config.disable_interactive_logging()
    network = keras.saving.load_model(model.keras / "data" / "model.keras", compile=False)
    classifier = Classifier.load(next((model.served / "artifacts").iterdir()))
    reflectance, designation = simulate.channels(spectra)
    single = reflectance.astype(np.float32)
    names = designation.tolist()

    few = slice(0, 1000)
    ours, theirs = classifier.network(reflectance[few]), network.predict(single[few])
    np.testing.assert_allclose(softmax(ours, axis=1), softmax(theirs, axis=1), rtol=0, atol=TOLERANCE)
    gc.freeze()  # or each collection during our way would go through all that TensorFlow brought for the other
    said = f"{spectra:,} spectra on the channels, all answers, a second ({model.name})"
    for name, against, way, target, floor in (
        ("classify", "`Model.predict` of the network", lambda: network.predict(single), 3.0, False),
        ("classify network", "ONNX Runtime: the network", lambda: classifier.network(reflectance), 1.5, True),
    ):
        yield Comparison(
            name, said, against, timed(lambda: classifier.classify_channels(reflectance, names)), timed(way), target,
            floor, spectra_a_second(spectra), f"probabilities to {TOLERANCE:g}",
        )  # fmt: skip

"""A survey on the 49 channels, classified in this process: beside Keras, and beside its network alone."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

import numpy as np
from scipy.special import softmax

from astrd import simulate
from astrd.backend import tensorflow
from astrd.classifier import Classifier
from astrd.workers import cores
from benchmarks.measuring import Comparison, spectra_a_second, timed
from benchmarks.setting import Setting

TOLERANCE = 1e-3


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """On all cores, as `Model.predict` is with its default batch; on one, as ONNX Runtime alone with our batch."""
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
    logits, of_keras = classifier.network(reflectance[few]), network.predict(single[few])
    np.testing.assert_allclose(softmax(logits, axis=1), softmax(of_keras, axis=1), rtol=0, atol=TOLERANCE)
    gc.freeze()  # or each collection during our way would go through all that TensorFlow brought for the other
    said = f"{spectra:,} spectra on the channels, all answers, a second ({model.name})"
    for name, against, way, target, floor, threads in (
        ("classify", "`Model.predict` of the network", lambda: network.predict(single), 3.0, False, cores()),
        ("classify network", "ONNX Runtime: the network", lambda: classifier.network(reflectance), 1.5, True, 1),
    ):
        ours = partial(classifier.classify_channels, reflectance, names, threads=threads)
        yield Comparison(
            name, f"{said}, {threads} thread{'s' if threads > 1 else ''}", against, timed(ours), timed(way), target,
            floor, spectra_a_second(spectra), f"probabilities to {TOLERANCE:g}",
        )  # fmt: skip

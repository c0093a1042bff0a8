"""Models in MLflow: how they are logged, registered, named by aliases, and loaded again."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from astrd import networks
from astrd.analogues import Archive
from astrd.answers import Provenance
from astrd.calibrated import Calibration
from astrd.classifier import Classifier
from astrd.dataset import LabelledSpectra
from astrd.effort import recording
from astrd.onnx_network import OnnxNetwork
from astrd.promotion import outranks
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import LABELS, Target
from astrd.tracking import REGISTERED_CNN, Alias, Tag

if TYPE_CHECKING:
    import keras

    from astrd.evaluation import Fitted

Array = NDArray[np.float64]

MODEL: Final = "model"
CLASSIFIER: Final = "classifier"
"""Names of logged models: the bare model on 49 channels, and what is served."""

# What MLflow says at every model: that cloudpickle trusts its files (ours hold our own transformers, and are loaded
# by those who made them), that it validates the example (which TensorFlow traces anew
# for each network), where in its store a registered model lies.
for _module in ("mlflow.sklearn", "mlflow.pyfunc", "mlflow.tracking._model_registry.fluent", "tensorflow"):
    logging.getLogger(_module).setLevel(logging.ERROR)

_PACKAGE: Final = Path(__file__).parent
_SERVED_REQUIREMENTS: Final = ("mlflow", "numpy", "onnxruntime", "pandas", "pyarrow", "scipy")
_CLASSICAL_REQUIREMENTS: Final = ("mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy")
_NETWORK_REQUIREMENTS: Final = ("mlflow", "keras", "numpy", "tensorflow")


def log_model(fitted: Fitted, target: Target, example: LabelledSpectra) -> None:
    """Log a model of 49 channels to the active run, with its signature, an input example and its requirements."""
    from astrd.classical import FittedClassical  # brings scikit-learn, which those who only classify do not need

    if isinstance(fitted, FittedClassical):
        channels = TensorSpec(np.dtype(np.float64), (-1, len(WAVELENGTH)))
        with recording():
            mlflow.sklearn.log_model(
                fitted.estimator,
                name=MODEL,
                signature=ModelSignature(Schema([channels]), Schema([TensorSpec(np.dtype(np.int64), (-1,))])),
                input_example=example.reflectance[:3],
                pip_requirements=_pins(_CLASSICAL_REQUIREMENTS),
                code_paths=[str(_PACKAGE)],
                serialization_format="cloudpickle",  # it holds our own transformers
            )
    else:
        log_network(fitted.keras_model(), len(LABELS[target]), example)  # type: ignore[attr-defined]


@recording()
def log_network(network: Any, outputs: int, example: LabelledSpectra) -> None:
    """Log a Keras network of 49 channels, which answers with so many numbers, to the active run."""
    import keras

    channels = TensorSpec(np.dtype(np.float32), (-1, len(WAVELENGTH)))
    answers = TensorSpec(np.dtype(np.float32), (-1, outputs))
    keras.config.disable_interactive_logging()  # MLflow asks the network for its example's answer
    mlflow.tensorflow.log_model(
        network,
        name=MODEL,
        signature=ModelSignature(Schema([channels]), Schema([answers])),
        input_example=example.reflectance[:3].astype(np.float32),
        pip_requirements=_pins(_NETWORK_REQUIREMENTS),
    )


class Deployable(Protocol):
    """A fitted model that is a network of its own, (n, 49) reflectance to (n, labels) logits."""

    def keras_model(self) -> keras.Model: ...


def log_candidate(
    fitted: Deployable, calibration: Calibration, archive: Archive, train: LabelledSpectra, raw_example: pd.DataFrame
) -> Classifier:
    """Log a Bus network twice: as Keras model and, calibrated, as what would be served.

    Parameters
    ----------
    archive
        The asteroids among which it names the most similar ones.
    raw_example
        Rows as a client would send them.
    """
    network = fitted.keras_model()
    log_network(network, len(LABELS["bus_class"]), train)
    classifier = Classifier(OnnxNetwork(networks.to_onnx(network)), calibration, archive)
    log_classifier(classifier, raw_example)
    return classifier


@recording()
def log_classifier(classifier: Classifier, raw_example: pd.DataFrame) -> None:
    """Log what is served to the active run; `raw_example` holds rows as a client would send them."""
    from astrd import served_model

    with tempfile.TemporaryDirectory() as folder:
        classifier.save(folder)
        mlflow.pyfunc.log_model(
            name=CLASSIFIER,
            python_model=str(_PACKAGE / Path(served_model.__file__).name),
            artifacts={served_model.ARTIFACT: folder},
            code_paths=[str(_PACKAGE)],
            signature=served_model.SIGNATURE,
            input_example=raw_example,
            pip_requirements=_pins(_SERVED_REQUIREMENTS),
        )


def load_classifier(model_uri: str) -> Classifier:
    """The classifier of a logged or registered model, such as `models:/asteroid-taxonomy-cnn@champion`.

    Raises
    ------
    ValueError
        If there is no such model, or another package logged it.
    """
    path = sys.path.copy()
    try:
        model = mlflow.pyfunc.load_model(model_uri, suppress_warnings=True).unwrap_python_model()
    except (MlflowException, OSError) as error:
        raise ValueError(f"expected a model that can be loaded, got {model_uri}: {error}") from error
    finally:
        sys.path[:] = path  # MLflow puts the model's copy of this package first: new processes would import that one
    if not isinstance(getattr(model, "classifier", None), Classifier):
        raise ValueError(f"expected a model that this package logged, got {model_uri}")
    return model.classifier


def provenance(model_uri: str) -> Provenance:
    """What is known of a model that can be loaded."""
    client = mlflow.MlflowClient()
    if registered := re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", model_uri):
        name, alias, number = registered.groups()
        found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        version, run_id = str(found.version), found.run_id or ""
    else:
        version, run_id = "", mlflow.models.get_model_info(model_uri).run_id or ""
    try:
        tags = client.get_run(run_id).data.tags
    except MlflowException:  # a folder that was brought here from another store
        tags = {}
    return Provenance(model_uri, version, run_id, tags.get(Tag.DATA_SOURCE, ""), tags.get(Tag.DATA_SHA256, ""))


def register(run_id: str, tags: Mapping[str, str], description: str) -> int:
    """Register the classifier of a run; returns the new version's number."""
    client = mlflow.MlflowClient()
    with contextlib.redirect_stderr(io.StringIO()):  # it prints, besides, what the caller will say
        registered = mlflow.register_model(f"runs:/{run_id}/{CLASSIFIER}", REGISTERED_CNN, tags=dict(tags))
    client.update_model_version(REGISTERED_CNN, registered.version, description)
    return int(registered.version)


def version_named(alias: str) -> ModelVersion | None:
    """The registered version that an alias names, or None."""
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(REGISTERED_CNN, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def name_version(alias: str, number: int) -> None:
    """Let an alias name this version."""
    mlflow.MlflowClient().set_registered_model_alias(REGISTERED_CNN, alias, str(number))


def tag_version(number: int, tags: Mapping[str, str]) -> None:
    """Set tags on a version."""
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(REGISTERED_CNN, str(number), key, value)


def swap_champion_and_previous() -> tuple[int, int]:
    """Put the previous champion back in its place, and the champion in its.

    Returns
    -------
    champion, previous
        The version numbers after the swap.

    Raises
    ------
    LookupError
        If there is no previous champion, or it learned from simulated spectra and the champion from real ones.
    """
    champion, previous = version_named(Alias.CHAMPION), version_named(Alias.PREVIOUS)
    if champion is None or previous is None:
        raise LookupError(
            f"{REGISTERED_CNN} has no version aliased {Alias.PREVIOUS!r}: there is no earlier champion to go back to"
        )
    if outranks(champion.tags.get(Tag.DATA_SOURCE, ""), previous.tags.get(Tag.DATA_SOURCE, "")):
        raise LookupError(
            f"version {previous.version} learned from simulated spectra: it cannot take the place of version "
            f"{champion.version}, which learned from real ones"
        )
    name_version(Alias.CHAMPION, int(previous.version))
    name_version(Alias.PREVIOUS, int(champion.version))
    return int(previous.version), int(champion.version)


def _pins(packages: Sequence[str]) -> list[str]:
    return [f"{package}=={version(package)}" for package in packages]

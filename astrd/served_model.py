"""The model that the registry holds: a pyfunc around `Classifier`, in MLflow's models-from-code form.

MLflow loads this very file, with the `astrd` package beside it, in an environment that has no TensorFlow.
"""

from __future__ import annotations

import math
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

from astrd import spectra
from astrd.classifier import DEFAULT_DRAWS, Classifier
from astrd.conformal import DEFAULT_COVERAGE
from astrd.explanation import MEASURES, NAME_LISTS, NUMBER_LISTS
from astrd.spectrum import Spectrum, SpectrumError
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS

# Lists of numbers are declared as "any", because MLflow's own check of `Array(double)` names no row in its error, and
# refuses a request in which only some rows have an uncertainty. `spectra_of` checks them, row by row.
_NUMBERS = AnyType()

_ENDS = ("", "_uncertainty")

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(_NUMBERS, "wavelength"),
            ColSpec(_NUMBERS, "reflectance"),
            ColSpec(_NUMBERS, "uncertainty", required=False),
            ColSpec(DataType.string, "designation", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "designation"),
            ColSpec(DataType.string, "main_group"),
            ColSpec(DataType.double, "main_group_probability"),
            ColSpec(DataType.string, "bus_class"),
            ColSpec(DataType.double, "bus_class_probability"),
            ColSpec(Array(DataType.string), "bus_prediction_set"),
            ColSpec(DataType.double, "outlier_score"),
            ColSpec(DataType.boolean, "is_outlier"),
            ColSpec(DataType.double, "main_group_draw_share", required=False),
            ColSpec(DataType.double, "bus_class_draw_share", required=False),
            ColSpec(DataType.string, "note"),
            *(ColSpec(DataType.double, f"probability_group_{name}") for name in MAIN_GROUPS),
            *(ColSpec(DataType.double, f"probability_{name}") for name in BUS_CLASSES),
            # with draws
            *(ColSpec(DataType.double, f"draw_share_group_{name}", required=False) for name in MAIN_GROUPS),
            *(ColSpec(DataType.double, f"draw_share_{name}", required=False) for name in BUS_CLASSES),
            # with explain
            *(ColSpec(Array(DataType.string), name, required=False) for name in NAME_LISTS),
            *(ColSpec(Array(DataType.double), name, required=False) for name in NUMBER_LISTS),
            *(ColSpec(DataType.double, f"{name}{end}", required=False) for name in MEASURES for end in _ENDS),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("coverage", DataType.double, DEFAULT_COVERAGE),
            ParamSpec("draws", DataType.long, DEFAULT_DRAWS),
            ParamSpec("explain", DataType.boolean, False),
        ]
    ),
)

ARTIFACT = "classifier"
"""Name under which the model's files are logged: the folder that `Classifier.save` wrote."""


class ServedModel(PythonModel):  # type: ignore[misc]
    """Raw spectra in, one row a spectrum; classes, probabilities, sets and scores out, one row each."""

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier = Classifier.load(context.artifacts[ARTIFACT])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Classify the rows, all or none.

        Raises
        ------
        MlflowException
            If a row cannot be classified, or a param is out of range: over HTTP, a 400 that names row and reason.
        """
        params = params or {}
        try:
            return self.classifier.classify(
                spectra_of(model_input),
                float(params.get("coverage", DEFAULT_COVERAGE)),
                int(params.get("draws", DEFAULT_DRAWS)),
                bool(params.get("explain", False)),
            )
        except ValueError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error


def spectra_of(rows: pd.DataFrame) -> list[Spectrum]:
    """The spectra of a request's rows.

    Raises
    ------
    SpectrumError
        If there is no row, or one cannot be classified; the message names the row, counted from 0, and the reason.
    """
    if len(rows) == 0:
        raise SpectrumError("expected at least one spectrum, got an empty list")
    wavelength, reflectance, uncertainty, designation = (
        [_as_array(value) for value in rows[name].tolist()] if name in rows.columns else [None] * len(rows)
        for name in ("wavelength", "reflectance", "uncertainty", "designation")
    )
    names = [str(name or "") for name in designation]
    checked = spectra.spectra_of(wavelength, reflectance, uncertainty, names)
    found = []
    for number, (spectrum, name) in enumerate(zip(checked, names, strict=True)):
        if isinstance(spectrum, SpectrumError):
            raise SpectrumError(f"row {number}{f' ({name})' if name else ''}: {spectrum}")
        found.append(spectrum)
    return found


def _as_array(values: Any) -> Any:
    """A list of numbers, as JSON brings it, as an array; all else as it came, so that its error can show it.

    None for the NaN by which pandas fills a field that a record leaves out.
    """
    if not isinstance(values, list):
        return None if isinstance(values, float) and math.isnan(values) else values
    try:
        array = np.asarray(values)
    except ValueError:  # lists in it, of several lengths
        return values
    return array if array.dtype.kind == "f" else values


mlflow.models.set_model(ServedModel())

"""The model that the registry holds: a pyfunc around `Classifier`, in MLflow's models-from-code form.

MLflow loads this very file, with the `astrd` package beside it, in an environment that has no TensorFlow.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

from astrd.classifier import DEFAULT_DRAWS, Classifier
from astrd.conformal import DEFAULT_COVERAGE
from astrd.explanation import MEASURES, NAME_LISTS, NUMBER_LISTS
from astrd.request import spectra_of
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
                spectra_of({name: model_input[name].tolist() for name in model_input.columns}),
                float(params.get("coverage", DEFAULT_COVERAGE)),
                int(params.get("draws", DEFAULT_DRAWS)),
                bool(params.get("explain", False)),
            )
        except ValueError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error


mlflow.models.set_model(ServedModel())

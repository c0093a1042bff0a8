"""Whether a survey's answers are those of the library."""

from __future__ import annotations

import numpy as np
import pandas as pd


def assert_same_answers(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """All columns of the second, row by row; lists come back from Parquet as arrays."""
    for name in expected.columns:
        if name == "bus_prediction_set":
            assert [list(names) for names in found[name]] == [list(names) for names in expected[name]]
        elif pd.api.types.is_float_dtype(found[name].dtype):
            np.testing.assert_allclose(found[name], expected[name].astype(float), atol=1e-6)
        else:
            assert found[name].tolist() == expected[name].tolist()

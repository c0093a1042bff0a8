"""A network in ONNX's form, answered by ONNX Runtime: no TensorFlow where a classifier is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from astrd.taxonomy import BUS_CLASSES

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.float64]

_ROWS_A_CALL: Final = 500  # larger batches fall out of the processor's cache and are slower


@dataclass(frozen=True)
class OnnxNetwork:
    """The content of an ONNX file whose graph turns (n, 49) reflectance into (n, 26) Bus logits."""

    content: bytes = field(repr=False)

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # these networks are too small to share out
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])

    def __call__(self, reflectance: Array) -> Array:
        """(n, 49) normalised reflectance to (n, 26) Bus logits."""
        rows = np.ascontiguousarray(reflectance, dtype=np.float32)
        name = self._session.get_inputs()[0].name
        logits = np.empty((len(rows), len(BUS_CLASSES)))
        for i in range(0, len(rows), _ROWS_A_CALL):
            logits[i : i + _ROWS_A_CALL] = self._session.run(None, {name: rows[i : i + _ROWS_A_CALL]})[0]
        return logits

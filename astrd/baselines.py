"""The two answers that any network must beat: the nearest neighbours and the nearest class mean."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier

from astrd.classical import ClassicalModel
from astrd.taxonomy import Target

Array = NDArray[np.float64]

NEIGHBOURS: Final = 3


def nearest_neighbours(target: Target = "bus_class", name: str = "nearest-neighbours") -> ClassicalModel:
    """The classes of the three nearest spectra (Euclidean distance over the 49 channels), nearer ones first."""
    estimator = KNeighborsClassifier(NEIGHBOURS, weights="distance")
    return ClassicalModel(name, target, estimator, {"neighbours": NEIGHBOURS, "weights": "distance"})


def nearest_template(target: Target = "bus_class", name: str = "nearest-template") -> ClassicalModel:
    """The class whose mean spectrum is nearest (Euclidean distance over the 49 channels)."""
    return ClassicalModel(name, target, TemplateClassifier(), {})


class TemplateClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Answers with the class of the nearest mean spectrum, and with no doubt about it."""

    def fit(self, reflectance: Array, codes: NDArray[np.integer]) -> TemplateClassifier:
        self.classes_ = np.unique(codes)
        self.templates_ = np.array([reflectance[codes == code].mean(axis=0) for code in self.classes_])
        return self

    def predict_proba(self, reflectance: Array) -> Array:
        nearest = pairwise_distances(reflectance, self.templates_).argmin(axis=1)
        return np.eye(len(self.classes_))[nearest]

    def predict(self, reflectance: Array) -> Any:
        return self.classes_[self.predict_proba(reflectance).argmax(axis=1)]

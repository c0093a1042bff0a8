"""Support vector machines and extremely randomised trees on the 49 channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from astrd.dataset import LabelledSpectra
from astrd.smoothing import NORMALISATION_WAVELENGTH, WAVELENGTH
from astrd.taxonomy import LABELS, Target

Array = NDArray[np.float64]
Scaling = Literal["common", "channel"]

SVM_GRID: Final[list[dict[str, list[Any]]]] = [
    {"svc__kernel": ["rbf"], "svc__C": [10.0, 30.0, 100.0, 300.0], "svc__gamma": [0.01, 0.02, 0.04]},
    {"svc__kernel": ["poly", "linear"], "svc__C": [1.0, 10.0]},  # larger ones only take longer: neither tells X well
]
TREES: Final = 500


@dataclass(frozen=True)
class ClassicalModel:
    """A scikit-learn classifier of (n, 49) spectra, with the name and params under which it is tracked."""

    name: str
    target: Target
    estimator: Any = field(repr=False)
    params: Mapping[str, Any]
    cross_validated_inside: bool = False  # a search, which must be handed the folds of its own training rows

    def fit(self, spectra: LabelledSpectra) -> FittedClassical:
        estimator = clone(self.estimator)
        if self.cross_validated_inside:
            estimator.set_params(cv=PredefinedSplit(spectra.fold))
        estimator.fit(spectra.reflectance, spectra.codes(self.target))
        return FittedClassical(self.target, estimator)


@dataclass(frozen=True)
class FittedClassical:
    """A fitted scikit-learn classifier."""

    target: Target
    estimator: Any
    curves: pd.DataFrame | None = None

    def grid(self) -> pd.DataFrame | None:
        """Mean and standard deviation of the score at each point of a grid search; None if this is no search."""
        if not isinstance(self.estimator, GridSearchCV):
            return None
        results = self.estimator.cv_results_
        table = pd.DataFrame(results["params"]).rename(columns=lambda name: name.removeprefix("svc__"))
        return table.assign(weighted_f1=results["mean_test_score"], weighted_f1_sd=results["std_test_score"])

    def probabilities(self, reflectance: Array) -> Array:
        """(n, labels): the trees' shares, or the softmax of an SVM's decision values, whose order is its answer."""
        if hasattr(self.estimator, "predict_proba"):
            known = self.estimator.predict_proba(reflectance)
        else:
            decision = self.estimator.decision_function(reflectance)
            binary = decision.ndim == 1
            known = np.stack([expit(-decision), expit(decision)], 1) if binary else softmax(decision, axis=1)
        full = np.zeros((len(reflectance), len(LABELS[self.target])))
        full[:, self.estimator.classes_] = known
        return full


def svm(
    target: Target,
    name: str = "svm",
    C: float = 100.0,
    kernel: str = "rbf",
    gamma: float | str = 0.04,
    scaling: Scaling = "common",
    class_weight: str | None = "balanced",
) -> ClassicalModel:
    """A support vector machine on channels that are scaled inside the folds.

    Parameters
    ----------
    scaling
        "channel" brings each channel to unit variance, which blows up the noise near 0.55 µm, where all spectra meet
        at 1; "common" divides all channels by one number.
    """
    svc = SVC(C=C, kernel=kernel, gamma=gamma, class_weight=class_weight, break_ties=True)
    params = {"C": C, "kernel": kernel, "gamma": gamma, "scaling": scaling, "class_weight": class_weight}
    return ClassicalModel(name, target, _svm_pipeline(svc, scaling), params)


def svm_grid(target: Target, name: str = "svm-grid") -> ClassicalModel:
    """A grid search over C and kernel, chosen by weighted F1 in the folds of whatever it is fitted to."""
    search = GridSearchCV(
        _svm_pipeline(SVC(class_weight="balanced", break_ties=True), scaling="common"),
        SVM_GRID,
        scoring="f1_weighted",
    )
    params = {"grid": [{key.removeprefix("svc__"): values for key, values in part.items()} for part in SVM_GRID]}
    return ClassicalModel(name, target, search, params, cross_validated_inside=True)


def extra_trees(target: Target, name: str = "extra-trees", trees: int = TREES, seed: int = 0) -> ClassicalModel:
    """Extremely randomised trees (Geurts et al. 2006) on the spectrum, the slope-removed spectrum and differences."""
    forest = ExtraTreesClassifier(n_estimators=trees, max_features=0.3, random_state=seed, n_jobs=-1)
    params = {"trees": trees, "max_features": 0.3, "seed": seed}
    return ClassicalModel(name, target, make_pipeline(FunctionTransformer(shape_features), forest), params)


def shape_features(reflectance: Array) -> Array:
    """The spectrum, the spectrum without its slope, and its differences: (n, 49) to (n, 146)."""
    return np.hstack([reflectance, without_slope(reflectance)[1], np.diff(reflectance, axis=1)])


def without_slope(reflectance: Array) -> tuple[Array, Array]:
    """The slope per µm of the least-squares line, (n,), and what a line of it through 1 at 0.55 µm leaves, (n, 49)."""
    offset = WAVELENGTH - NORMALISATION_WAVELENGTH
    centred = offset - offset.mean()
    slope = reflectance @ centred / (centred @ centred)
    return slope, reflectance - 1 - slope[:, None] * offset


class CommonScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Take off each channel's mean and divide all channels by one number, their mean standard deviation."""

    def fit(self, reflectance: Array, y: Any = None) -> CommonScaler:
        self.mean_ = reflectance.mean(axis=0)
        self.scale_ = reflectance.std(axis=0).mean()
        return self

    def transform(self, reflectance: Array) -> Array:
        return np.asarray((reflectance - self.mean_) / self.scale_)


def _svm_pipeline(svc: SVC, scaling: Scaling) -> Pipeline:
    return Pipeline([("scaler", CommonScaler() if scaling == "common" else StandardScaler()), ("svc", svc)])

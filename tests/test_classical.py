"""Classical models and baselines learn from their own folds only, and answer in the taxonomy's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from astrd import classical
from astrd.baselines import nearest_neighbours, nearest_template
from astrd.classical import ClassicalModel, CommonScaler, FittedClassical, extra_trees, shape_features, svm, svm_grid
from astrd.dataset import LabelledSpectra
from astrd.evaluation import cross_validate
from astrd.metrics import scores
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import BUS_CLASSES

Parts = tuple[LabelledSpectra, LabelledSpectra]


def levels_of(**level_of_class: list[float]) -> LabelledSpectra:
    """Flat spectra at these levels, of these Bus classes."""
    pairs = [(name, level) for name, given_levels in level_of_class.items() for level in given_levels]
    size = len(pairs)
    return LabelledSpectra(
        tuple(str(i) for i in range(size)),
        np.array([np.full(49, level) for _, level in pairs]),
        np.array([BUS_CLASSES.index(name) for name, _ in pairs]),
        np.arange(size) % 5,
        np.ones(size, dtype=bool),
    )


def answer(fitted: FittedClassical, *levels: float) -> list[str]:
    found = fitted.probabilities(np.array([np.full(49, level) for level in levels]))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    return [BUS_CLASSES[code] for code in found.argmax(axis=1)]


def test_the_template_nearest_to_the_mean_of_a_class_wins() -> None:
    fitted = nearest_template().fit(levels_of(C=[1.0, 1.2], V=[2.0]))
    assert answer(fitted, 1.0, 1.5, 1.6, 9.0) == ["C", "C", "V", "V"]  # means: 1.1 and 2.0


def test_three_neighbours_vote_and_near_ones_count_more() -> None:
    spectra = levels_of(C=[1.0], V=[1.5, 1.6, 5.0])
    fitted = nearest_neighbours().fit(spectra)
    assert answer(fitted, 1.05) == ["C"]  # two of three are V, but further off
    assert answer(fitted, 1.45, 4.0) == ["V", "V"]
    found = fitted.probabilities(np.full((1, 49), 1.05))[0]
    assert found[BUS_CLASSES.index("V")] > 0
    assert found[BUS_CLASSES.index("S")] == 0


@dataclass
class Recorded:
    """A model that keeps what was fitted in each fold."""

    model: ClassicalModel
    fitted: list[FittedClassical] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def target(self):
        return self.model.target

    @property
    def params(self):
        return self.model.params

    def fit(self, spectra: LabelledSpectra) -> FittedClassical:
        self.fitted.append(self.model.fit(spectra))
        return self.fitted[-1]


@pytest.mark.parametrize("scaling", ["common", "channel"])
def test_scaling_is_learned_inside_the_folds(simulated_parts: Parts, scaling: classical.Scaling) -> None:
    train, _ = simulated_parts
    shifted = replace(train, reflectance=train.reflectance + 5.0 * (train.fold == 0)[:, None])
    original, moved = (Recorded(svm("main_group", C=1, scaling=scaling)) for _ in range(2))
    cross_validate(original, train)
    cross_validate(moved, shifted)
    scalers = [[fitted.estimator.named_steps["scaler"] for fitted in model.fitted] for model in (original, moved)]
    for fold, (first, second) in enumerate(zip(*scalers, strict=True)):
        same = np.array_equal(first.mean_, second.mean_) and np.array_equal(first.scale_, second.scale_)
        assert same == (fold == 0)  # only the model that leaves fold 0 out does not notice


def test_a_grid_search_is_nested_on_the_folds_it_is_given(
    simulated_parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = simulated_parts
    monkeypatch.setattr(classical, "SVM_GRID", [{"svc__kernel": ["linear"], "svc__C": [1.0, 2.0]}])
    fold_of = dict(zip(train.reflectance[:, 0].tolist(), train.fold.tolist(), strict=True))
    assert len(fold_of) == len(train)
    learned: list[set[int]] = []
    fit: Callable[..., CommonScaler] = CommonScaler.fit

    def watched(self: CommonScaler, reflectance: np.ndarray, y: object = None) -> CommonScaler:
        learned.append({fold_of[value] for value in reflectance[:, 0].tolist()})
        return fit(self, reflectance, y)

    monkeypatch.setattr(CommonScaler, "fit", watched)
    fitted = svm_grid("x_vs_rest").fit(train[train.fold != 2])
    inner = [{0, 1, 3, 4} - {fold} for fold in (0, 1, 3, 4)]
    assert learned == [*inner, *inner, {0, 1, 3, 4}]  # each point of the grid in each fold, then the best on all
    grid = fitted.grid()
    assert grid is not None
    assert grid["C"].tolist() == [1.0, 2.0]
    assert grid["weighted_f1"].between(0.5, 1).all()


def test_only_a_grid_search_has_a_grid(simulated_parts: Parts) -> None:
    assert nearest_template().fit(simulated_parts[0]).grid() is None


@pytest.mark.parametrize("target", ["bus_class", "main_group", "x_vs_rest"])
def test_the_likeliest_label_of_a_machine_is_its_answer(simulated_parts: Parts, target) -> None:
    train, test = simulated_parts
    fitted = svm(target).fit(train)
    found = fitted.probabilities(test.reflectance)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.argmax(axis=1).tolist() == fitted.estimator.predict(test.reflectance).tolist()
    absent = np.setdiff1d(np.arange(found.shape[1]), train.codes(target))
    assert (found[:, absent] == 0).all()
    assert (found[:, np.unique(train.codes(target))] > 0).all()


@pytest.mark.parametrize("model", [svm("main_group"), nearest_template(), extra_trees("main_group", trees=5)])
def test_a_fit_leaves_the_model_itself_as_it_was(simulated_parts: Parts, model: ClassicalModel) -> None:
    fitted = model.fit(simulated_parts[0])
    check_is_fitted(fitted.estimator)
    with pytest.raises(NotFittedError):
        check_is_fitted(model.estimator)


def test_trees_of_one_seed_are_the_same_trees(simulated_parts: Parts) -> None:
    train, test = simulated_parts
    first, again, other = (
        extra_trees("main_group", trees=10, seed=seed).fit(train).probabilities(test.reflectance) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@given(slope=st.floats(-3, 3))
def test_slope_removed_spectra_do_not_depend_on_the_slope(slope: float) -> None:
    bump = np.exp(-(((WAVELENGTH - 0.7) / 0.05) ** 2))
    curved = np.array([1 + bump, 1 + bump + slope * (WAVELENGTH - 0.55)])
    found = shape_features(curved)
    assert found.shape == (2, 49 + 49 + 48)
    np.testing.assert_array_equal(found[:, :49], curved)
    np.testing.assert_allclose(found[0, 49:98], found[1, 49:98], atol=1e-9)
    np.testing.assert_allclose(found[1, 98:], np.diff(curved[1]))


@pytest.mark.parametrize(
    ("model", "least"),
    [(svm("main_group"), 0.85), (extra_trees("main_group", trees=50), 0.85), (nearest_template(), 0.6)],
)
def test_classical_models_tell_the_main_groups(simulated_parts: Parts, model: ClassicalModel, least: float) -> None:
    train, test = simulated_parts
    found = scores(model.target, test, model.fit(train).probabilities(test.reflectance))["main_weighted_f1"]
    blind = replace(train, bus=np.random.default_rng(0).permutation(train.bus))
    guessed = scores(model.target, test, model.fit(blind).probabilities(test.reflectance))["main_weighted_f1"]
    assert found > least > guessed

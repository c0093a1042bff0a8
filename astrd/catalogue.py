"""The models that the platform trains, by name: what each one is, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from astrd.baselines import nearest_neighbours, nearest_template
from astrd.classical import extra_trees, svm, svm_grid
from astrd.ensemble import EnsembleModel
from astrd.evaluation import Model
from astrd.machine_search import svm_of
from astrd.network_models import NetworkModel, Recipe
from astrd.network_search import cnn_of
from astrd.networks import Architecture, ConvolutionalNetwork, DenseNetwork
from astrd.taxonomy import Target

EPOCHS: Final = Recipe.epochs
MEMBERS: Final = 2
"""Networks whose probabilities a candidate for the registry averages."""

BASELINES: Final = ("nearest-neighbours", "nearest-template")
CANDIDATES: Final = ("bus-cnn", "bus-cnn-tuned", "bus-ensemble")
"""Models that answer the Bus class, and so all that the served model promises, in one graph."""
NETWORKS_ALONE: Final = ("bus-cnn", "bus-cnn-tuned")
"""Those of them that are convolutional networks and nothing else."""


@dataclass(frozen=True)
class Settings:
    """What a run may change in any model. `params` are those that a search found, for the tuned ones."""

    seed: int = 0
    epochs: int = EPOCHS
    params: Mapping[str, Any] | None = None


def recipe(settings: Settings) -> Recipe:
    """The networks' recipe with the run's number of epochs."""
    return Recipe(epochs=settings.epochs)


def _network(name: str, target: Target, architecture: Architecture, settings: Settings, **changes: Any) -> NetworkModel:
    members = changes.pop("members", 1)
    changed = replace(recipe(settings), **changes)
    return NetworkModel(name, target, architecture, changed, members, settings.seed)


def _dense(settings: Settings) -> Model:
    patient = {"epochs": 4 * settings.epochs, "patience": 40}  # its epochs are short and its layers narrow
    return _network("main-dense", "main_group", DenseNetwork((25, 10)), settings, balanced=True, **patient)


def _main_cnn(settings: Settings) -> Model:
    architecture = ConvolutionalNetwork(filters=(32, 48), kernel_sizes=(7, 5), downsampling="max-pooling")
    return _network("main-cnn", "main_group", architecture, settings)


def _bus_cnn(settings: Settings) -> NetworkModel:
    return _network("bus-cnn", "bus_class", ConvolutionalNetwork(), settings, members=MEMBERS)


def _tuned_bus_cnn(settings: Settings) -> Model:
    if settings.params is None:
        raise ValueError("the tuned network needs the hyperparameters that a search found: tune before you train it")
    architecture, tuned = cnn_of(settings.params, recipe(settings))
    changes = {"members": MEMBERS, "learning_rate": tuned.learning_rate}
    return _network("bus-cnn-tuned", "bus_class", architecture, settings, **changes)


def _tuned_main_svm(settings: Settings) -> Model:
    if settings.params is None:
        raise ValueError("the tuned machine needs the hyperparameters that a search found: tune before you train it")
    return svm_of(settings.params, "main_group", "main-svm-tuned")


MODELS: Final[Mapping[str, Callable[[Settings], Model]]] = {
    "nearest-neighbours": lambda settings: nearest_neighbours(),
    "nearest-template": lambda settings: nearest_template(),
    "x-svm": lambda settings: svm("x_vs_rest", "x-svm"),
    "x-svm-grid": lambda settings: svm_grid("x_vs_rest", "x-svm-grid"),
    "main-extra-trees": lambda settings: extra_trees("main_group", "main-extra-trees", seed=settings.seed),
    "main-dense": _dense,
    "main-cnn": _main_cnn,
    "bus-cnn": _bus_cnn,
    "bus-ensemble": lambda settings: EnsembleModel("bus-ensemble", _bus_cnn(settings)),
    "main-svm-tuned": _tuned_main_svm,
    "bus-cnn-tuned": _tuned_bus_cnn,
}
"""Every model, cheap ones first; the last two need the result of a search."""

TUNED: Final = {"main-svm-tuned": "svm", "bus-cnn-tuned": "cnn"}
"""Models that are built from a search, and which search that is."""


def model(name: str, settings: Settings) -> Model:
    """The model of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in MODELS:
        raise ValueError(f"expected a model of {', '.join(MODELS)}; got {name!r}")
    return MODELS[name](settings)

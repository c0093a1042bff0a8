"""Every model has one name, and says what it lacks."""

from __future__ import annotations

import pytest

from astrd.catalogue import BASELINES, CANDIDATES, MEMBERS, MODELS, TUNED, Settings, model, recipe

CNN = {
    "convolutions": 2, "filters": 16, "filter_growth": 1.5, "first_kernel_size": 7, "kernel_size": 3, "units": 48,
    "dropout": 0.1, "learning_rate": 0.004,
}  # fmt: skip
SVM = {"kernel": "rbf", "C": 7.0, "gamma": 0.02, "scaling": "channel", "class_weight": None}
PARAMS = {"cnn": CNN, "svm": SVM}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_to_its_name(name: str) -> None:
    params = PARAMS[TUNED[name]] if name in TUNED else None
    assert model(name, Settings(params=params)).name == name


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"expected a model of nearest-neighbours, .*bus-cnn-tuned; got 'bus-cn'"):
        model("bus-cn", Settings())


@pytest.mark.parametrize("name", TUNED)
def test_a_tuned_model_needs_the_result_of_a_search(name: str) -> None:
    with pytest.raises(ValueError, match="tune before you train it"):
        model(name, Settings())


def test_candidates_for_the_registry_answer_the_bus_class_with_several_members() -> None:
    for name in CANDIDATES:
        candidate = model(name, Settings(params=CNN))
        assert candidate.target == "bus_class"
        assert candidate.params["members"] == MEMBERS


def test_baselines_answer_what_candidates_answer() -> None:
    assert {model(name, Settings()).target for name in BASELINES} == {"bus_class"}


def test_the_tuned_network_is_the_one_that_the_search_tried() -> None:
    params = model("bus-cnn-tuned", Settings(epochs=9, params=CNN)).params
    assert (params["filters"], params["kernel_sizes"]) == ((16, 24), (7, 3))
    assert (params["units"], params["dropout"], params["learning_rate"], params["epochs"]) == (48, 0.1, 0.004, 9)


def test_the_tuned_machine_is_the_one_that_the_search_tried() -> None:
    tuned = model("main-svm-tuned", Settings(params=SVM))
    assert tuned.params == SVM
    assert tuned.target == "main_group"


def test_a_run_chooses_seed_and_epochs() -> None:
    chosen = model("main-cnn", Settings(seed=3, epochs=7)).params
    assert (chosen["seed"], chosen["epochs"]) == (3, 7)
    assert recipe(Settings(epochs=7)).epochs == 7
    assert model("main-cnn", Settings()).params["epochs"] == recipe(Settings()).epochs

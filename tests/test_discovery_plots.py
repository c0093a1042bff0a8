"""Figures of latent spaces, clusters and labels in doubt show what they were given."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from astrd import discovery_plots as plots
from astrd.dataset import LabelledSpectra

Parts = tuple[LabelledSpectra, LabelledSpectra]

STABILITY = pd.DataFrame(
    {
        "components": [1, 2, 3], "bic": [30.0, 20.0, 25.0], "ari_seeds_mean": [1.0, 0.9, 0.5],
        "ari_seeds_sd": [0.0, 0.05, 0.1], "ari_bootstrap_mean": [1.0, 0.8, 0.4], "ari_bootstrap_sd": [0.0, 0.05, 0.1],
        "chosen": [False, True, False],
    }
)  # fmt: skip
COUNTS = pd.DataFrame({"cluster": [1, 2], "C": [30, 10], "S": [0, 5]})


def texts(figure: Figure) -> list[str]:
    figure.savefig(io.BytesIO(), dpi=40)
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_reconstructions_show_the_best_the_median_and_the_worst(simulated_parts: Parts) -> None:
    _, test = simulated_parts
    reconstructed = test.reflectance + np.linspace(0, 0.1, len(test))[:, None]
    said = texts(plots.reconstructions(test, reconstructed, "A network"))
    assert any(text.startswith(f"best: {test.designation[0]} (") for text in said)
    assert any(text.startswith(f"worst: {test.designation[-1]} (") and text.endswith("0.1000") for text in said)
    assert sum(text.startswith("median: ") for text in said) == 3


def test_the_map_counts_its_groups(simulated_parts: Parts) -> None:
    _, test = simulated_parts
    said = texts(plots.latent_map(test.reflectance[:, [0, 48]], test, "A map"))
    counts = np.bincount(test.codes("main_group"), minlength=4)
    assert {f"C ({counts[0]})", f"Other ({counts[3]})"} <= set(said)


def test_the_chosen_number_is_marked() -> None:
    figure = plots.bic_and_stability(STABILITY, 0.7, "A space")
    assert "chosen: 2" in texts(figure)
    assert "chosen: 3" not in texts(figure)
    upper, _ = figure.axes
    assert upper.lines[0].get_ydata().tolist() == [30, 20, 25]


def test_a_heat_map_writes_what_is_there_and_no_zeros() -> None:
    said = texts(plots.heat_map(COUNTS, "Clusters"))
    assert {"30", "10", "5"} <= set(said)
    assert "0" not in said


@pytest.mark.parametrize("number", [1, 5])
def test_each_cluster_has_a_panel(number: int) -> None:
    spectra = {i: (np.ones(49) * i, np.full(49, 0.1)) for i in range(1, number + 1)}
    figure = plots.cluster_spectra(spectra, {i: f"cluster {i}" for i in spectra}, "Clusters")
    assert sum(axes.get_visible() for axes in figure.axes) == number
    assert f"cluster {number}" in texts(figure)


def test_an_audit_draws_each_asteroid_over_both_classes(simulated_parts: Parts) -> None:
    train, _ = simulated_parts
    audit = pd.DataFrame(
        {
            "level": "main_group", "rank": [1, 2], "designation": train.designation[:2], "name": ["Ceres", ""],
            "catalogued": "C", "suggested": "S", "probability": [0.91, 0.8],
        }
    )  # fmt: skip
    said = texts(plots.label_audit(audit, train, "main_group"))
    assert f"1. {train.designation[0]} Ceres: 91% S" in said
    assert f"2. {train.designation[1]}: 80% S" in said
    assert said.count("catalogued: C") == said.count("suggested: S") > 0
    assert "no label is contradicted by every model" in texts(plots.label_audit(audit, train, "bus_class"))
    assert any("first 1 of 2" in text for text in texts(plots.label_audit(audit, train, "main_group", most=1)))

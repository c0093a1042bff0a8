"""Figures for a paper: what they show, how wide they are, and that their fonts are embedded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from astrd import dataset, figures
from astrd.findings import Findings
from astrd.taxonomy import MAIN_GROUPS
from exploration import findings

WIDTHS = {
    "class_means": 7.2, "confusion_main_group": 3.5, "confusion_bus_class": 7.2, "reliability": 7.2,
    "latent_space": 7.2, "bic_and_stability": 7.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def features(simulated_raw: pd.DataFrame) -> pd.DataFrame:
    return dataset.features(simulated_raw)


@pytest.fixture(scope="module")
def found(features: pd.DataFrame) -> Findings:
    return findings(features)


@pytest.fixture(scope="module")
def drawn(features: pd.DataFrame, found: Findings) -> dict[str, Figure]:
    return figures.all_of(features, found)


@pytest.fixture(scope="module")
def written(drawn: dict[str, Figure], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return figures.write(drawn, tmp_path_factory.mktemp("figures"))


def test_each_figure_is_as_wide_as_a_column_or_a_page_at_300_dpi(written: list[Path]) -> None:
    assert {path.name for path in written} == {f"{name}.{kind}" for name in WIDTHS for kind in ("png", "pdf")}
    for path in written:
        if path.suffix == ".png":
            assert imread(path).shape[1] == round(WIDTHS[path.stem] * 300), path.name


def test_pdfs_embed_their_fonts_as_truetype(written: list[Path]) -> None:
    for path in written:
        if path.suffix == ".pdf":
            content = path.read_bytes()
            assert b"/FontFile2" in content, path.name
            assert b"/Type3" not in content, path.name


@pytest.mark.parametrize("name", WIDTHS)
def test_type_is_neither_too_small_nor_too_large_for_a_paper(drawn: dict[str, Figure], name: str) -> None:
    sizes = {text.get_fontsize() for text in drawn[name].findobj(Text) if text.get_text().strip()}
    assert sizes and min(sizes) >= 7 and max(sizes) <= 9


def test_every_class_has_a_panel_with_its_number_and_its_mean(drawn: dict[str, Figure], features: pd.DataFrame) -> None:
    counts = features["bus_class"].value_counts()
    panels = {axes.texts[0].get_text(): axes for axes in drawn["class_means"].axes if axes.get_visible()}
    assert set(panels) == set(counts.index)
    for name, axes in panels.items():
        members = np.array(features[features["bus_class"] == name]["reflectance"].tolist())
        assert axes.texts[1].get_text() == f"n = {counts[name]}"
        assert len(axes.lines) == len(members) + 1
        np.testing.assert_allclose(axes.lines[-1].get_ydata(), members.mean(axis=0))


@pytest.mark.archive
def test_the_archive_fills_a_grid_of_five_by_five(raw_table: pd.DataFrame) -> None:
    axes = figures.class_means(dataset.features(raw_table)).axes
    assert [panel.get_visible() for panel in axes] == [True] * 25


def test_a_confusion_matrix_counts_every_asteroid_once(drawn: dict[str, Figure], found: Findings) -> None:
    assert found.judgement is not None
    for name in ("confusion_main_group", "confusion_bus_class"):
        axes = drawn[name].axes[0]
        assert sum(int(text.get_text()) for text in axes.texts) == len(found.judgement.designation)
    assert [label.get_text() for label in drawn["confusion_main_group"].axes[0].get_yticklabels()] == list(MAIN_GROUPS)


def test_the_latent_space_shows_every_asteroid_twice(drawn: dict[str, Figure], features: pd.DataFrame) -> None:
    for axes in drawn["latent_space"].axes:
        assert sum(len(points.get_offsets()) for points in axes.collections) == len(features)


def test_the_number_that_was_chosen_is_marked(drawn: dict[str, Figure]) -> None:
    (left, _) = drawn["bic_and_stability"].axes
    assert [line.get_xdata().tolist() for line in left.lines if line.get_markersize() == 8] == [[2], [2]]


def test_reliability_names_the_errors_before_and_after(drawn: dict[str, Figure]) -> None:
    for axes in drawn["reliability"].axes:
        words = [text.get_text() for text in axes.get_legend().get_texts()]
        assert re.match(r"before: error 0\.\d{3}", words[1])
        assert re.match(r"after \(temperature 0\.80\): error 0\.\d{3}", words[2])


def test_only_what_is_there_is_drawn(features: pd.DataFrame, found: Findings) -> None:
    assert set(figures.all_of(features)) == {"class_means"}
    part = replace(found, judgement=None, stability=None)
    assert set(figures.all_of(features, part)) == {"class_means", "latent_space"}


def test_the_settings_of_a_paper_do_not_stay(drawn: dict[str, Figure]) -> None:
    assert rcParams["pdf.fonttype"] != figures.PAPER["pdf.fonttype"]

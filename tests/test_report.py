"""The report: everything that was answered is on the page, and nothing of a file can act there."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from astrd import dataset, report, svg
from astrd.analogues import Archive
from astrd.answers import Provenance
from astrd.classifier import Classifier
from astrd.colours import GROUP_COLOURS, GROUP_COLOURS_ON_DARK
from astrd.dataset import LabelledSpectra
from astrd.spectrum import Spectrum
from astrd.taxonomy import MAIN_GROUPS
from templates import template_classifier

SOURCE = Provenance("models:/some@champion", "7", "0123abcd", "smass2", "feed" * 16)
EVIL = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def archive(simulated_raw: pd.DataFrame) -> Archive:
    return Archive.of(dataset.features(simulated_raw))


@pytest.fixture(scope="module")
def spectra(simulated_raw: pd.DataFrame) -> list[Spectrum]:
    rows = simulated_raw.head(8).itertuples()
    return [Spectrum.of(row.wavelength, row.reflectance, row.uncertainty, f"file {row.Index}") for row in rows]


@pytest.fixture(scope="module")
def classifier(simulated_parts: tuple[LabelledSpectra, LabelledSpectra], archive: Archive) -> Classifier:
    return template_classifier(simulated_parts[0], archive)


@pytest.fixture(scope="module")
def answers(spectra: list[Spectrum], classifier: Classifier) -> pd.DataFrame:
    return classifier.classify(spectra, explain=True)


def page(spectra: list[Spectrum], answers: pd.DataFrame, archive: Archive, draws: int = 0) -> str:
    return report.page_of(spectra, answers, archive, SOURCE, 0.9, draws)


class Seen(HTMLParser):
    """The text, tags, links and ids of a page; a tag that is not closed where it should be fails."""

    VOID = ("meta", "br", "path")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self.links, self.ids, self.open = "", [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_spectrum_has_a_panel_that_says_all_that_was_answered(spectra, answers, archive) -> None:
    seen = Seen(page(spectra, answers, archive))
    assert seen.tags.count("article") == len(spectra)
    for row in answers.itertuples():
        for text in (row.designation, f"{row.bus_class_probability:.3f}", row.analogue_designation[4]):
            assert text in seen.text
        assert f"slope {row.slope:.2f} ± {row.slope_uncertainty:.2f} % per 0.1 µm" in seen.text
        assert ", ".join(row.bus_prediction_set) in seen.text


def test_the_page_tells_where_its_answers_come_from(spectra, answers, archive) -> None:
    text = Seen(page(spectra, answers, archive)).text
    for known in (SOURCE.model, "version 7", SOURCE.run_id, SOURCE.data_source, SOURCE.data_sha256, "coverage 0.9"):
        assert known in text
    assert "no result about real asteroids" not in text
    simulated = replace(SOURCE, data_source="simulated", model_version="", run_id="")
    text = Seen(report.page_of(spectra, answers, archive, simulated, 0.9, 0)).text
    assert "no result about real asteroids" in text
    assert "unknown" in text


def test_the_page_needs_nothing_from_outside_and_its_links_lead_somewhere(spectra, answers, archive) -> None:
    text = page(spectra, answers, archive)
    seen = Seen(text)
    assert "script" not in seen.tags
    assert {link[0] for link in seen.links} == {"#"}
    assert {link[1:] for link in seen.links} <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert not re.search(r"url\(|@import|https?:", text)


def test_what_files_say_is_shown_and_never_acts(spectra, answers, archive) -> None:
    evil = answers.assign(designation=EVIL, note=f"column {EVIL} taken as reflectance")
    seen = Seen(page(spectra, evil, archive))
    assert "script" not in seen.tags
    assert seen.text.count(EVIL) >= 3 * len(spectra)


def test_plots_are_well_formed_and_named(spectra, answers, archive) -> None:
    plots = re.findall(r'<svg class="plot".*?</svg>\s*</svg>', page(spectra, answers, archive), flags=re.DOTALL)
    assert len(plots) == len(spectra)
    for plot, spectrum in zip(plots, spectra, strict=True):
        tree = ElementTree.fromstring(plot)
        assert tree.get("role") == "img"
        assert tree.get("aria-labelledby").split() == [tree.find("title").get("id"), tree.find("desc").get("id")]
        points = tree.find(".//path[@class='points']").get("d")
        assert 0.9 * len(spectrum.wavelength) <= points.count("M") <= len(spectrum.wavelength)


def test_the_points_lie_on_the_curve_at_whatever_level_the_file_is(spectra, answers, archive) -> None:
    row = next(answers.itertuples(index=False))
    plots = [
        svg.plot(replace(spectra[0], reflectance=spectra[0].reflectance * k), row, archive, None) for k in (1, 1.09)
    ]
    heights = [np.array(re.findall(r"M\d+ (-?\d+)h0", plot.points), dtype=int) for plot in plots]
    assert np.abs(heights[0] - heights[1]).max() <= 1


def test_what_is_not_in_the_data_is_dashed_and_said(spectra, classifier) -> None:
    kept = (spectra[0].wavelength > 0.5) & (spectra[0].wavelength < 0.86)
    cut = Spectrum.of(spectra[0].wavelength[kept], spectra[0].reflectance[kept], None, "cut")
    text = page([cut], classifier.classify([cut], explain=True), classifier.archive)
    assert 'class="line filled"' in text
    assert "depth at 0.9 µm not covered" in Seen(text).text
    whole = Spectrum.of(np.linspace(0.43, 0.93, 60), np.linspace(0.9, 1.1, 60), np.full(60, 0.01))
    assert 'class="line filled"' not in page([whole], classifier.classify([whole], explain=True), classifier.archive)


def test_outliers_are_told_in_words(spectra, answers, archive) -> None:
    strange = answers.assign(is_outlier=True, outlier_score=2.5)
    assert "Outlier: unlike the archive's spectra (score 2.50" in Seen(page(spectra, strange, archive)).text
    like_q = answers.assign(is_outlier=True, outlier_score=0.5)
    assert "Outlier: it resembles class Q" in Seen(page(spectra, like_q, archive)).text
    assert "Outlier" not in Seen(page(spectra, answers.assign(is_outlier=False), archive)).text


def test_draws_are_told_where_there_were_any(spectra, answers, archive, classifier) -> None:
    assert "draws, the group" not in Seen(page(spectra, answers, archive)).text
    drawn = Seen(page(spectra, classifier.classify(spectra, draws=4, explain=True), archive, draws=4)).text
    assert len(re.findall(r"the class stays in \d+% of 4 draws", drawn)) == len(spectra)


def test_a_thousand_spectra_stay_small(spectra, answers, archive) -> None:
    size = len(page(spectra, answers, archive).encode()) / len(spectra)
    assert size < 15_000


def test_a_report_is_written_whole_or_not_at_all(spectra, answers, archive, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report.write(path, spectra, answers, archive, SOURCE, 0.9, 0)
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(AttributeError):
        report.write(path, spectra, answers.drop(columns="analogue_name"), archive, SOURCE, 0.9, 0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("colours", "paper"), [(GROUP_COLOURS, 255), (GROUP_COLOURS_ON_DARK, 24)])
def test_groups_stand_out_from_the_page(colours: dict[str, str], paper: int) -> None:
    assert tuple(colours) == MAIN_GROUPS
    rgb = {name: np.array([int(value[i : i + 2], 16) for i in (1, 3, 5)]) for name, value in colours.items()}
    for name, colour in rgb.items():
        assert contrast(colour, np.full(3, paper)) > (2.5 if paper == 255 else 4.5), name


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """The contrast ratio of WCAG 2."""
    light = []
    for colour in (one, other):
        linear = np.where(colour / 255 <= 0.04045, colour / 255 / 12.92, ((colour / 255 + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(light) + 0.05) / (min(light) + 0.05)

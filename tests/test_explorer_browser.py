"""The explorer as a reader meets it: in a real browser, with the network off."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from astrd import dataset, explorer
from astrd.findings import Findings
from astrd.taxonomy import MAIN_GROUP_OF, MAIN_GROUPS
from exploration import CLUSTERS, findings

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
LAPTOP, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
COUNT_STROKES = """
window.strokes = 0;
const lines = CanvasRenderingContext2D.prototype;
const stroke = lines.stroke;
lines.stroke = function (...path) { window.strokes += 1; return stroke.apply(this, path); };
"""

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for this module alone: Playwright's loop would stand in the way of other modules' loops."""
    if CHROMIUM is None:
        reason = "there is no chromium here to show the page in: apt install chromium"
        if os.environ.get("ASTRD_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def raw(archive_or_none: Path | None, request: pytest.FixtureRequest) -> pd.DataFrame:
    """The archive where it is at hand, else the simulated survey with names for some."""
    if archive_or_none:
        return request.getfixturevalue("raw_table")
    survey: pd.DataFrame = request.getfixturevalue("simulated_raw")
    return survey.assign(name=[f"Body{place}" if place % 5 else None for place in range(len(survey))])


@pytest.fixture(scope="module")
def features(raw: pd.DataFrame) -> pd.DataFrame:
    return dataset.features(raw)


@pytest.fixture(scope="module")
def found(features: pd.DataFrame) -> Findings:
    return findings(features)


@pytest.fixture(scope="module")
def page_file(
    raw: pd.DataFrame, features: pd.DataFrame, found: Findings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    html = explorer.page(raw, features, "smass2", found)
    return explorer.write(html, tmp_path_factory.mktemp("explorer") / "explorer.html")


@pytest.fixture(scope="module")
def complaints() -> list[str]:
    """What the browser complained of, and addresses that a page asked for."""
    return []


@pytest.fixture(scope="module")
def show(browser: Browser, page_file: Path, complaints: list[str]) -> Open:
    """Show a page in a window of its own, with the network off."""

    def opened(file: Path = page_file, **options: Any) -> Page:
        page = browser.new_context(**{"viewport": LAPTOP, "offline": True, **options}).new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(COUNT_STROKES)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: None if re.match(r"file:|data:|blob:", r.url) else complaints.append(r.url))
        page.goto(file.as_uri())
        expect(page.get_by_role("tab", selected=True)).to_have_text("Spectra")
        return page

    return opened


@pytest.fixture(autouse=True)
def nothing_to_complain_of(complaints: list[str]) -> Iterator[None]:
    complaints.clear()
    yield
    assert complaints == []


@pytest.fixture(scope="module")
def shared_page(show: Open) -> Page:
    return show()


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page with all findings, as it is at the start."""
    if shared_page.locator("#clear").is_visible():
        if shared_page.get_by_label("raw points").is_enabled():
            shared_page.get_by_label("raw points").uncheck()
        shared_page.locator("#clear").click()
    open_tab(shared_page, "Spectra")
    family(shared_page, "all", "all").click()
    shared_page.get_by_role("radio", name="fixed").click()
    return shared_page


def family(page: Page, level: str, label: str) -> Locator:
    return page.locator(f'#view-spectra [data-level="{level}"][data-label="{label}"]')


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def listed(view: Locator) -> list[str]:
    """The asteroids that a list of members names."""
    return view.locator(".members li span").all_text_contents()


def called(rows: pd.DataFrame) -> set[str]:
    """Designation and name of asteroids, as the page has them."""
    names = zip(rows["designation"], rows["name"].fillna(""), strict=True)
    return {f"{designation} {name}".strip() for designation, name in names}


def panel_names(page: Page) -> list[str]:
    return page.locator("#panel-list .name").all_text_contents()


def mean_drawn(page: Page, chart: str, place: int = 2) -> np.ndarray:
    """The mean of a chart's band: its lower edge, its upper edge and its mean are three traces."""
    return np.array(page.evaluate(f"Array.from(document.querySelector('{chart} .plot').data[{place}].y)"))


def test_every_class_and_group_says_how_many_it_has(page: Page, features: pd.DataFrame) -> None:
    for level in ("bus_class", "main_group"):
        counts = features[level].value_counts()
        for label, count in counts.items():
            expect(family(page, level, str(label)).locator("small")).to_have_text(str(count))
    expect(page.locator('#view-spectra [data-level="all"] small')).to_have_text(str(len(features)))
    missing = [group_class for group_class in MAIN_GROUP_OF if group_class not in set(features["bus_class"])]
    assert "Q" in missing
    for name in missing:
        expect(family(page, "bus_class", name)).to_be_disabled()


@pytest.mark.parametrize(("level", "label"), [("bus_class", "S"), ("main_group", "Other"), ("bus_class", "V")])
def test_choosing_a_class_draws_every_spectrum_and_their_mean(
    page: Page, features: pd.DataFrame, level: str, label: str
) -> None:
    members = features[features[level] == label]
    page.evaluate("window.strokes = 0")
    family(page, level, label).click()
    expect(page.locator("#view-spectra h2")).to_have_text(
        f"{label} {'class' if level == 'bus_class' else 'group'}: {len(members)} asteroids"
    )
    assert page.evaluate("window.strokes") == len(members)
    expect(page.locator("#view-spectra .members li")).to_have_count(len(members))
    assert set(listed(page.locator("#view-spectra"))) == called(members)
    spectra = np.array(members["reflectance"].tolist())
    lower, upper, mean = (mean_drawn(page, "#view-spectra", place) for place in range(3))
    np.testing.assert_allclose(mean, spectra.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose((upper - lower) / 2, spectra.std(axis=0, ddof=1), atol=1e-4)


def test_the_axis_is_the_same_for_all_classes_until_it_is_set_free(page: Page) -> None:
    span = "document.querySelector('#view-spectra .plot').layout.yaxis.range"
    fixed = page.evaluate(span)
    family(page, "bus_class", "B").click()
    assert page.evaluate(span) == fixed
    page.get_by_role("radio", name="free").click()
    low, high = page.evaluate(span)
    assert fixed[0] < low < high < fixed[1]


def test_a_click_on_a_line_chooses_its_asteroid(page: Page, features: pd.DataFrame) -> None:
    family(page, "bus_class", "R").click()
    box = page.locator("#view-spectra .chart").bounding_box()
    assert box
    mean = np.array(features[features["bus_class"] == "R"]["reflectance"].tolist()).mean(axis=0)
    low, high = page.evaluate("document.querySelector('#view-spectra .plot').layout.yaxis.range")
    left, right = page.evaluate("document.querySelector('#view-spectra .plot').layout.xaxis.range")
    x = box["x"] + 54 + (0.7 - left) / (right - left) * (box["width"] - 64)
    y = box["y"] + 8 + (high - mean[26]) / (high - low) * (box["height"] - 50)
    page.mouse.move(x, y)
    expect(page.locator("#view-spectra .tip")).to_contain_text("· R")
    page.mouse.click(x, y)
    assert set(panel_names(page)) <= called(features[features["bus_class"] == "R"])
    assert len(panel_names(page)) == 1


def test_search_finds_by_name_and_by_number_and_says_when_there_is_none(page: Page, features: pd.DataFrame) -> None:
    row = features[features["name"].notna()].iloc[7]
    box = page.get_by_role("combobox")
    page.keyboard.press("/")
    expect(box).to_be_focused()
    for text in (row["name"].upper(), row["designation"]):
        box.fill(text)
        expect(page.get_by_role("option", selected=True).first).to_contain_text(f"{row['designation']} {row['name']}")
    box.press("Enter")
    assert panel_names(page) == [f"{row['designation']} {row['name']}"]
    expect(page.locator("#view-spectra h2")).to_contain_text(f"{row['bus_class']} class")
    box.fill("no such body")
    expect(page.locator("#matches")).to_have_text("no such asteroid here")
    box.press("Enter")
    assert len(panel_names(page)) == 1


def test_raw_points_come_with_their_error_bars_when_asked_for(page: Page, raw: pd.DataFrame) -> None:
    row = raw.iloc[3]
    page.get_by_role("combobox").fill(row["designation"])
    page.keyboard.press("Enter")
    traces = "document.querySelector('#panel-chart .plot').data"
    assert page.evaluate(f"{traces}.filter((trace) => trace.mode === 'markers').length") == 0
    page.get_by_label("raw points").check()
    for axis, column in (("x", "wavelength"), ("y", "reflectance"), ("error_y.array", "uncertainty")):
        drawn = page.evaluate(f"Array.from({traces}.at(-1).{axis})")
        np.testing.assert_allclose(drawn, row[column], atol=1e-4)


def box_of_latent(page: Page) -> dict[str, float]:
    box = page.locator("#view-latent .chart").bounding_box()
    assert box
    return {"left": box["x"] + 56, "right": box["x"] + box["width"] - 12, "top": box["y"] + 10,
            "bottom": box["y"] + box["height"] - 44}  # fmt: skip


def drag(page: Page, points: list[tuple[float, float]]) -> None:
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def test_a_lasso_in_the_latent_space_draws_what_it_holds(page: Page, found: Findings) -> None:
    assert found.latent_space is not None
    open_tab(page, "Latent space")
    box = box_of_latent(page)
    middle = (box["left"] + box["right"]) / 2
    left, right = page.evaluate("document.querySelector('#view-latent .plot').layout.xaxis.range")
    at = (left + right) / 2
    inside = found.latent_space[found.latent_space["latent_1"] < at]
    page.evaluate("window.strokes = 0")
    top, bottom = box["top"] - 1, box["bottom"] + 1
    drag(page, [(box["left"], top), (middle, top), (middle, bottom), (box["left"], bottom), (box["left"], top)])
    expect(page.locator("#panel-title")).to_have_text(re.compile(r"^\d+ chosen$"))
    chosen = int(page.locator("#panel-title").text_content().split()[0])  # type: ignore[union-attr]
    near = (found.latent_space["latent_1"] - at).abs() < 0.01 * (right - left)  # less than a pixel's doubt
    assert abs(chosen - len(inside)) <= near.sum()
    assert 0 < chosen < len(found.latent_space)
    assert page.evaluate("window.strokes") >= chosen
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#panel-title")).to_have_text("Nothing chosen yet")


def test_the_latent_space_tells_who_a_point_is_and_takes_whole_classes(page: Page, found: Findings) -> None:
    assert found.latent_space is not None
    open_tab(page, "Latent space")
    (words,) = page.evaluate("document.querySelector('#view-latent .plot').data.map((trace) => trace.text[0])")
    first = found.latent_space.iloc[0]
    assert re.match(rf"<b>{re.escape(first['designation'])}\b", words)
    assert words.endswith(f"cluster {first['cluster']}")
    page.get_by_role("radio", name="cluster").click()
    page.get_by_role("button", name="choose Cluster 2").click()
    size = (found.latent_space["cluster"] == 2).sum()
    expect(page.locator("#panel-title")).to_have_text(f"{size} chosen")
    page.get_by_role("radio", name="Bus class").click()
    page.get_by_role("button", name="choose V class").click()
    looks = page.locator("#view-latent polygon").evaluate_all(
        "all => all.map((each) => each.getAttribute('fill') + each.getAttribute('points'))"
    )
    assert len(set(looks)) == len(looks) > 20  # no two classes look the same, and shapes tell those of one colour apart


def test_a_cell_of_the_clusters_holds_the_asteroids_of_both(
    page: Page, features: pd.DataFrame, found: Findings
) -> None:
    assert found.latent_space is not None
    open_tab(page, "Clusters")
    table = pd.crosstab(found.latent_space["cluster"].to_numpy(), features["main_group"].to_numpy())
    for cluster in range(1, CLUSTERS + 1):
        for group in MAIN_GROUPS:
            shown = page.locator(f'#view-clusters td[data-row="{cluster}"][data-column="{group}"]').text_content()
            assert int(shown or 0) == table.loc[cluster, group]
    page.locator('#view-clusters td[data-row="3"][data-column="S"]').click()
    expect(page.locator("#panel-title")).to_have_text(f"{table.loc[3, 'S']} chosen")
    size = table.loc[3].sum()
    expect(page.locator("#view-clusters h2")).to_have_text(f"Cluster 3: {size} asteroids")
    expect(page.locator("#panel-legend")).to_contain_text(f"Cluster 3 ({size})")
    expect(page.locator("#panel-legend")).to_contain_text("S group")


def test_a_row_of_the_audit_shows_the_spectrum_over_both_class_means(
    page: Page, features: pd.DataFrame, found: Findings
) -> None:
    assert found.label_audit is not None
    open_tab(page, "Label audit")
    rows = page.locator("#view-audit tbody tr")
    expect(rows).to_have_count(len(found.label_audit))
    for place in (0, 1):
        row = found.label_audit.iloc[place]
        if place == 0:
            rows.nth(0).click()
        else:
            page.keyboard.press("ArrowDown")
        expect(rows.nth(place)).to_have_attribute("aria-selected", "true")
        assert set(panel_names(page)) == called(found.label_audit.iloc[[place]])
        legend = page.locator("#panel-legend span").all_text_contents()
        assert [text.split(": ")[1].split(" ")[0] for text in legend] == [row["catalogued"], row["suggested"]]
        for trace, group in ((2, row["catalogued"]), (5, row["suggested"])):
            spectra = np.array(features[features["main_group"] == group]["reflectance"].tolist())
            np.testing.assert_allclose(mean_drawn(page, "#panel-chart", trace), spectra.mean(axis=0), atol=1e-4)
        expect(page.locator("#panel-note")).to_contain_text(f"Nearest neighbours: {row['neighbours']}")


@pytest.mark.parametrize("level", ["main_group", "bus_class"])
def test_a_cell_of_the_confusion_matrix_lists_its_asteroids(
    page: Page, features: pd.DataFrame, found: Findings, level: str
) -> None:
    judgement = found.judgement
    assert judgement is not None
    open_tab(page, "Confusion")
    if level == "bus_class":
        page.locator("#view-confusion").get_by_role("radio", name="Bus class").click()
    truth, predicted = judgement.truth(level), judgement.predicted(level)  # type: ignore[arg-type]
    cells: dict[tuple[str, str], set[str]] = {}
    for designation, row, column in zip(judgement.designation, truth, predicted, strict=True):
        cells.setdefault((row, column), set()).add(designation)
    shown = page.locator("#view-confusion td").evaluate_all(
        "cells => cells.map((cell) => [cell.dataset.row, cell.dataset.column, Number(cell.textContent)])"
    )
    assert {(row, column): count for row, column, count in shown if count} == {at: len(m) for at, m in cells.items()}
    row, column = max((at for at in cells if at[0] != at[1]), key=lambda at: len(cells[at]))
    page.locator(f'#view-confusion td[data-row="{row}"][data-column="{column}"]').click()
    expect(page.locator("#view-confusion .members li")).to_have_count(len(cells[row, column]))
    assert set(listed(page.locator("#view-confusion"))) == called(
        features[features["designation"].isin(cells[row, column])]
    )
    expect(page.locator("#panel-title")).to_have_text(f"{len(cells[row, column])} chosen")


def test_the_keyboard_alone_reaches_classes_members_and_cells(page: Page) -> None:
    page.get_by_role("tab", name="Spectra").focus()
    page.keyboard.press("Tab")
    expect(family(page, "all", "all")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-spectra h2")).to_contain_text("C group")
    page.locator("#view-spectra .members li").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert len(panel_names(page)) == 1
    page.get_by_role("tab", name="Spectra").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="Confusion")).to_have_attribute("aria-selected", "true")
    page.locator("#view-confusion").get_by_role("radio", checked=True).focus()
    page.keyboard.press("Home")
    cell = page.locator("#view-confusion td").first
    cell.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#view-confusion h2")).to_contain_text("S predicted as S")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(show: Open, system: str) -> None:
    page = show(color_scheme=system)
    backgrounds = []
    for theme in (system, "dark" if system == "light" else "light"):
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        backgrounds.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        page.get_by_role("button", name="Switch between light and dark").click()
    assert backgrounds[0] != backgrounds[1]


def test_a_phone_shows_every_view_without_scrolling_sideways(show: Open) -> None:
    page = show(viewport=PHONE, has_touch=True, is_mobile=True)
    for name in page.get_by_role("tab").all_text_contents():
        page.get_by_role("tab", name=name).tap()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("combobox").fill("1")
    page.get_by_role("option").first.tap()
    expect(page.locator("#panel-list")).to_be_visible()
    page.get_by_role("button", name="Hide").tap()
    expect(page.locator("#panel-list")).to_be_hidden()


def test_what_is_not_there_is_said_and_not_shown(
    show: Open, page: Page, raw: pd.DataFrame, features: pd.DataFrame, tmp_path: Path
) -> None:
    bare = show(explorer.write(explorer.page(raw, features, "simulated"), tmp_path / "bare.html"))
    assert bare.get_by_role("tab").all_text_contents() == ["Spectra"]
    for missing in ("latent space and clusters", "label audit", "confusion matrix"):
        expect(bare.locator("#absent")).to_contain_text(missing)
    expect(bare.locator("#simulated")).to_be_visible()
    expect(page.locator("#absent")).to_be_empty()
    expect(page.locator("#simulated")).to_be_hidden()


def test_a_name_is_text_and_never_markup(
    show: Open, raw: pd.DataFrame, features: pd.DataFrame, found: Findings, tmp_path: Path
) -> None:
    wicked = "</script><img src=x onerror='window.harmed = 1'><b>Bold"
    named = raw.assign(name=[wicked, *raw["name"].iloc[1:]])
    page = show(explorer.write(explorer.page(named, features, "smass2", found), tmp_path / "wicked.html"))
    page.get_by_role("combobox").fill("onerror")
    page.keyboard.press("Enter")
    assert panel_names(page) == [f"{raw['designation'].iloc[0]} {wicked}"]
    page.get_by_label("raw points").check()
    open_tab(page, "Latent space")
    words = page.evaluate("document.querySelector('#view-latent .plot').data[0].text[0]")
    assert "&lt;img src=x" in words and "<img" not in words
    assert page.evaluate("window.harmed") is None
    assert page.locator("img").count() == 0

"""The scaling benchmark: what it measures stands in its tables, and these in the page."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from astrd.classifier import Classifier
from benchmarks import scaling, scaling_report
from benchmarks.reporting import Machine, PageError
from benchmarks.scaling_report import Results, Scored

RESULTS = Results(
    Machine("Abacus", 2, (0.0, 0.1, 0.2), "Linux", {"numpy": "2"}),
    workers=2,
    repeats=3,
    surveys=(
        Scored("channels", 10_000, 0.25, 0.5, 280.0, 4_000_000, 2_700_000),
        Scored("channels", 1_000_000, 16.0, 25.0, 320.0, 400_000_000, 270_000_000),
        Scored("raw", 10_000, 2.0, 3.0, 380.0, 5_600_000, 2_700_000),
    ),
    network_a_second=150_000.0,
    network_a_core=90_000.0,
    parts={"channels": {"network": 10.0, "whole": 18.0}, "raw": {"smoothing": 21.0, "network": 10.5, "whole": 62.0}},
)
PAGE = "before\n" + "".join(
    f"<!-- begin: {part} -->\nold\n<!-- end: {part} -->\n" for part in ("surveys", "parts", "estimate")
)


def test_targets_are_held_against_the_largest_survey() -> None:
    lines = scaling_report.tables(RESULTS)["surveys"].splitlines()
    assert "| 10,000 on the channels | 0.2 | 40,000 | 20,000 | 100% | 280 MB | |" in lines
    assert "| 1,000,000 on the channels | 16.0 | 62,500 | 40,000 | 78% | 320 MB | ≥ 50,000 met |" in lines
    assert "| 10,000 raw | 2.0 | 5,000 | 3,333 | 75% | 380 MB | ≥ 8,000 not met |" in lines
    assert "| the network alone | | 150,000 | 90,000 | 83% | | ≥ 100,000 met |" in lines
    assert "2 workers, each survey 3 times" in lines[-1] and "load before 0.0, 0.1, 0.2" in lines[-1]


def test_parts_that_one_layout_lacks_are_left_open() -> None:
    lines = scaling_report.tables(RESULTS)["parts"].splitlines()
    assert lines[2:] == ["| smoothing | | 21.0 |", "| network | 10.0 | 10.5 |", "| whole | 18.0 | 62.0 |"]


def test_a_hundred_million_spectra_are_reckoned_from_the_largest_survey() -> None:
    table = scaling_report.tables(RESULTS)["estimate"]
    assert "10⁸ / 40,000 = 2,500 s = 0.7 core hours | 10⁸ / 3,333 = 30,000 s = 8.3 core hours" in table
    assert "| on 2 cores | 21 minutes | 250 minutes |" in table
    assert "400 bytes each: 40 GB" in table and "67 GB in 39 s = 1.7 GB/s" in table


def test_the_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    page.write_text(PAGE)
    scaling_report.check(page)
    scaling_report.write(RESULTS, page)
    text = page.read_text()
    assert text.startswith("before\n") and "old" not in text
    assert all(table in text for table in scaling_report.tables(RESULTS).values())
    page.write_text("nothing of the kind")
    with pytest.raises(PageError, match="begin: surveys"):
        scaling_report.check(page)


def test_our_own_page_has_the_marks() -> None:
    scaling_report.check(Path(__file__).parents[1] / "docs" / "scaling.md")


def test_the_least_of_each_cost_counts() -> None:
    quick = RESULTS.surveys[0]
    frugal = replace(quick, seconds=9.0, processor_seconds=0.4)
    assert scaling.least([quick, frugal]) == replace(quick, processor_seconds=0.4)


@pytest.mark.parametrize("sizes", ["ten", "10,0", "-5", "1.5"])
def test_sizes_are_whole_numbers(sizes: str) -> None:
    with pytest.raises(ValueError, match="expected sizes such as 10000,100000"):
        scaling._sizes(sizes)


def test_surveys_of_both_layouts_are_measured(tmp_path: Path, template_classifier: Classifier) -> None:
    said: list[str] = []
    results = scaling.run(
        template_classifier, {"channels": [400], "raw": [100]}, workers=1, repeats=1, tell=said.append
    )
    assert [(one.layout, one.spectra) for one in results.surveys] == [("channels", 400), ("raw", 100)]
    for one in results.surveys:
        assert min(one.seconds, one.processor_seconds, one.peak_megabytes, one.read_bytes, one.written_bytes) > 0
    assert results.workers == 1
    assert "smoothing" in results.parts["raw"] and "smoothing" not in results.parts["channels"]
    assert "raw: 100 of 100 spectra simulated" in said
    scaling_report.draw(replace(results, surveys=RESULTS.surveys), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert json.loads(json.dumps(asdict(results)))["network_a_second"] == results.network_a_second

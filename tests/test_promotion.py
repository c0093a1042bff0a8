"""Who becomes champion, and who does not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrd.promotion import SELECTION_SCORE, TIE_SCORE, Contender, best_candidate, decide, outranks

BASELINES = {"nearest-neighbours": 0.90, "nearest-template": 0.70}
SCORES = st.floats(0, 1)
SOURCES = st.sampled_from(["smass2", "simulated"])


def real(score: float, name: str = "bus-cnn") -> Contender:
    return Contender(name, "smass2", score)


def simulated(score: float, name: str = "bus-cnn") -> Contender:
    return Contender(name, "simulated", score)


def scored(main_f1: float, bus_accuracy: float, sd: float = 0.0) -> dict[str, float]:
    return {SELECTION_SCORE: main_f1, f"{SELECTION_SCORE}_sd": sd, TIE_SCORE: bus_accuracy}


@pytest.mark.parametrize(
    ("other", "chosen"),
    [
        (scored(0.972, 0.88, sd=0.05), "other"),  # within 0.0045 of the best, and better at classes
        (scored(0.972, 0.86, sd=0.05), "best"),
        (scored(0.970, 0.99, sd=0.05), "best"),  # farther off: its own uncertainty does not count
        (scored(0.975, 0.87), "best"),
    ],
)
def test_of_candidates_that_the_folds_cannot_tell_apart_the_better_at_classes_is_chosen(
    other: dict[str, float], chosen: str
) -> None:
    best = scored(0.976, 0.87, sd=0.01)
    assert best_candidate({"best": best, "other": other}) == chosen
    assert best_candidate({"other": other, "best": best}) == chosen


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=5))
def test_without_scatter_over_the_folds_the_best_main_group_score_wins(scores: list[tuple[float, float]]) -> None:
    candidates = {str(number): scored(*pair) for number, pair in enumerate(scores)}
    assert candidates[best_candidate(candidates)][SELECTION_SCORE] == max(main for main, _ in scores)


@pytest.mark.parametrize("score", [0.89, 0.90])
def test_a_candidate_that_beats_no_baseline_is_not_promoted(score: float) -> None:
    for champion in (None, real(0.1, "version 1"), simulated(0.1, "version 1")):
        found = decide(real(score), BASELINES, champion, None)
        assert not found.promoted
        assert "bus-cnn scores" in found.reason
        assert "not above the baseline nearest-neighbours with 0.9000" in found.reason


def test_every_baseline_must_be_beaten() -> None:
    assert not decide(real(0.8), {"low": 0.5, "high": 0.9}, None, None).promoted
    assert not decide(real(0.8), {"high": 0.9, "low": 0.5}, None, None).promoted
    assert decide(real(0.8), {"low": 0.5, "lower": 0.4}, None, None).promoted


@pytest.mark.parametrize("candidate", [real(0.95), simulated(0.95)])
def test_the_first_that_beats_the_baselines_is_champion(candidate: Contender) -> None:
    found = decide(candidate, BASELINES, None, None)
    assert found.promoted
    assert found.challenger
    assert found.reason == "bus-cnn beats the baselines, and there was no champion"


@pytest.mark.parametrize("kind", [real, simulated])
def test_among_equals_in_data_the_higher_score_wins_and_a_draw_keeps_the_champion(kind) -> None:
    champion = kind(0.95, "version 7")
    better, equal, worse = (decide(kind(score), BASELINES, champion, None) for score in (0.96, 0.95, 0.94))
    assert [found.promoted for found in (better, equal, worse)] == [True, False, False]
    assert better.reason == "bus-cnn with 0.9600 beats the champion version 7 with 0.9500"
    assert equal.reason == "bus-cnn with 0.9500 equals the champion version 7 with 0.9500"
    assert worse.reason == "bus-cnn with 0.9400 is below the champion version 7 with 0.9500"


def test_real_takes_the_place_of_simulated_with_any_score_above_the_baselines() -> None:
    found = decide(real(0.91), BASELINES, simulated(0.99, "version 2"), "simulated")
    assert found.promoted
    assert found.challenger
    assert found.reason == "bus-cnn learned from real spectra, the champion version 2 from simulated ones"
    assert not decide(real(0.89), BASELINES, simulated(0.99), None).promoted


def test_simulated_never_takes_the_place_of_real() -> None:
    found = decide(simulated(0.99), BASELINES, real(0.91, "version 2"), None)
    assert not found.promoted
    assert found.reason == "the champion version 2 learned from real spectra, bus-cnn from simulated ones"


@pytest.mark.parametrize(
    ("candidate", "holder", "named"),
    [
        (real(0.95), None, True),
        (real(0.95), "smass2", True),
        (real(0.95), "simulated", True),
        (simulated(0.95), None, True),
        (simulated(0.95), "simulated", True),
        (simulated(0.95), "smass2", False),
    ],
)
@pytest.mark.parametrize("champion", [None, real(0.99), simulated(0.99), simulated(0.5)])
@pytest.mark.parametrize("baselines", [BASELINES, {"unbeaten": 1.0}])
def test_a_real_challenger_keeps_its_name_before_a_simulated_one(
    candidate: Contender, holder: str | None, named: bool, champion: Contender | None, baselines: dict[str, float]
) -> None:
    assert decide(candidate, baselines, champion, holder).challenger == named


@given(score=SCORES, source=SOURCES, champion=st.none() | st.builds(Contender, st.just("v"), SOURCES, SCORES))
def test_no_promotion_goes_down(score: float, source, champion: Contender | None) -> None:
    candidate = Contender("new", source, score)
    found = decide(candidate, BASELINES, champion, None)
    if found.promoted:
        assert score > max(BASELINES.values())
        assert champion is None or not outranks(champion.data_source, source)
        assert champion is None or score > champion.score or outranks(source, champion.data_source)
    assert found.reason
    assert not decide(candidate, BASELINES, candidate, None).promoted


def test_only_real_outranks_simulated_and_both_outrank_the_unknown() -> None:
    kinds = ("smass2", "simulated", "unknown")
    assert {pair for pair in itertools.product(kinds, kinds) if outranks(*pair)} == {
        ("smass2", "simulated"),
        ("smass2", "unknown"),
        ("simulated", "unknown"),
    }

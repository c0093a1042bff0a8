"""What a step computes is told apart from what it records, and from what other threads do."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from astrd.effort import computed_seconds, computing, recording

WORK = 0.05


def work(seconds: float = WORK) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def computed_by(step: object) -> float:
    before = computed_seconds()
    assert callable(step)
    step()
    return computed_seconds() - before


def test_what_is_computed_counts_and_what_is_recorded_does_not() -> None:
    @recording()
    def record() -> None:
        work(10 * WORK)

    def step() -> None:
        record()  # of no step
        with computing():
            work()
            record()
            work()
            record()

    assert 2 * WORK <= computed_by(step) < 4 * WORK


def test_waiting_does_not_count() -> None:
    def step() -> None:
        with computing():
            time.sleep(2 * WORK)

    assert computed_by(step) < WORK


def test_threads_are_counted_together() -> None:
    def step() -> None:
        with computing():
            work()

    def steps() -> None:
        with ThreadPoolExecutor(2) as threads:
            for _ in range(4):
                threads.submit(step)

    assert 4 * WORK <= computed_by(steps) < 6 * WORK


def test_a_step_that_fails_has_computed_too() -> None:
    def step() -> None:
        with pytest.raises(ValueError, match="in vain"), computing():
            work()
            raise ValueError("in vain")

    assert computed_by(step) >= WORK

"""Spectra by the channels that they lack."""

from __future__ import annotations

import numpy as np

from astrd.partial import by_pattern


def test_rows_that_lack_the_same_channels_are_together_whichever_these_are() -> None:
    random = np.random.default_rng(0)
    kinds = random.random((7, 49)) < 0.3
    kinds[0], kinds[1], kinds[2] = False, True, np.arange(49) == 48  # none, all, and the last one alone
    kind = random.integers(0, 7, 500)
    found = by_pattern(kinds[kind])
    assert len(found) == 6  # those that lack none are in no pattern
    for pattern, rows in found:
        number = int((kinds == pattern).all(axis=1).argmax())
        np.testing.assert_array_equal(pattern, kinds[number])
        np.testing.assert_array_equal(rows, np.flatnonzero(kind == number))


def test_no_rows_have_no_patterns() -> None:
    assert by_pattern(np.zeros((0, 49), dtype=bool)) == []

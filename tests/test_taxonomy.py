"""The Bus taxonomy: 26 classes in four main groups, always in the same order."""

from __future__ import annotations

import numpy as np
import pytest

from astrd import taxonomy


def test_there_are_26_classes_each_in_one_of_four_groups() -> None:
    assert len(taxonomy.BUS_CLASSES) == len(set(taxonomy.BUS_CLASSES)) == 26
    assert list(taxonomy.BUS_CLASSES) == sorted(taxonomy.BUS_CLASSES)
    assert set(taxonomy.MAIN_GROUP_OF.values()) == set(taxonomy.MAIN_GROUPS)
    assert taxonomy.MAIN_GROUP_OF["Q"] == "Other"


def test_bus_probabilities_roll_up_without_loss() -> None:
    assert taxonomy.ROLL_UP.shape == (26, 4)
    assert (taxonomy.ROLL_UP.sum(axis=1) == 1).all()


def test_codes_lead_from_classes_to_groups_and_to_x() -> None:
    groups = taxonomy.main_groups_of_bus(taxonomy.bus_codes(["Ch", "Sq", "Xk", "V"]))
    assert [taxonomy.MAIN_GROUPS[code] for code in groups] == ["C", "S", "X", "Other"]
    np.testing.assert_array_equal(groups, taxonomy.main_group_codes(["C", "S", "X", "Other"]))
    assert taxonomy.x_of_main_groups(groups).tolist() == [0, 0, 1, 0]


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected a Bus class of .*; got Zz"):
        taxonomy.bus_codes(["C", "Zz"])
    with pytest.raises(ValueError, match=r"expected a main group of .*; got Q"):
        taxonomy.main_group_codes(["Q"])

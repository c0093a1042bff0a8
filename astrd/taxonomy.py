"""The Bus taxonomy: 26 feature-based classes in four main groups.

Source: Bus & Binzel 2002, Icarus 158, 146, doi:10.1006/icar.2002.6856.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

MAIN_GROUPS: Final = ("C", "S", "X", "Other")
"""Carbonaceous, silicaceous, metallic, and all that is none of these, in this fixed order."""

CLASSES_BY_GROUP: Final[dict[str, tuple[str, ...]]] = {
    "C": ("B", "C", "Cb", "Cg", "Cgh", "Ch"),
    "S": ("S", "Sa", "Sk", "Sl", "Sq", "Sr"),
    "X": ("X", "Xc", "Xe", "Xk"),
    "Other": ("A", "D", "K", "L", "Ld", "O", "Q", "R", "T", "V"),
}

BUS_CLASSES: Final = tuple(sorted(sum(CLASSES_BY_GROUP.values(), ())))
"""The 26 classes in alphabetical order; column `i` of any probability array is `BUS_CLASSES[i]`."""

MAIN_GROUP_OF: Final = {bus_class: group for group, classes in CLASSES_BY_GROUP.items() for bus_class in classes}

ROLL_UP: Final[NDArray[np.float64]] = np.array(
    [[float(MAIN_GROUP_OF[bus_class] == group) for group in MAIN_GROUPS] for bus_class in BUS_CLASSES]
)
"""(26, 4) membership: Bus probabilities times this are main-group probabilities, which so cannot contradict them."""

X_OR_REST: Final = ("rest", "X")

Target = Literal["x_vs_rest", "main_group", "bus_class"]
LABELS: Final[dict[Target, tuple[str, ...]]] = {
    "x_vs_rest": X_OR_REST,
    "main_group": MAIN_GROUPS,
    "bus_class": BUS_CLASSES,
}
"""What a classifier can be asked, and the labels of its answer in their fixed order."""


def bus_codes(classes: Sequence[str]) -> NDArray[np.int64]:
    """Positions in `BUS_CLASSES` of the classes named, shape (n,).

    Raises
    ------
    ValueError
        If a name is not one of the 26 classes.
    """
    return _codes(classes, BUS_CLASSES, "Bus class")


def main_group_codes(groups: Sequence[str]) -> NDArray[np.int64]:
    """Positions in `MAIN_GROUPS` of the groups named, shape (n,).

    Raises
    ------
    ValueError
        If a name is not one of the four groups.
    """
    return _codes(groups, MAIN_GROUPS, "main group")


def main_groups_of_bus(bus: NDArray[np.integer]) -> NDArray[np.int64]:
    """Main-group codes of Bus class codes, same shape."""
    return ROLL_UP.argmax(axis=1)[bus].astype(np.int64)


def x_of_main_groups(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """1 where the main group is X, 0 for the rest, same shape: positions in `X_OR_REST`."""
    return (np.asarray(groups) == MAIN_GROUPS.index("X")).astype(np.int64)


def _codes(names: Sequence[str], known: Sequence[str], what: str) -> NDArray[np.int64]:
    position = {name: i for i, name in enumerate(known)}
    if unknown := sorted({str(name) for name in names} - position.keys()):
        raise ValueError(f"expected a {what} of {', '.join(known)}; got {', '.join(unknown)}")
    return np.array([position[name] for name in names], dtype=np.int64)

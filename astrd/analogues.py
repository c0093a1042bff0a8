"""The archive's own spectra: the asteroids most like a spectrum, and what each class looks like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import BUS_CLASSES, bus_codes

Array = NDArray[np.float64]

ANALOGUES: Final = 5
_CHUNK: Final = 1000  # spectra compared with the whole archive at once


@dataclass(frozen=True)
class Archive:
    """Classified asteroids: `designation`, `name` ("" where there is none), `bus` codes (n,), `reflectance` (n, 49)."""

    designation: NDArray[np.str_]
    name: NDArray[np.str_]
    bus: NDArray[np.int64]
    reflectance: Array

    @classmethod
    def of(cls, features: pd.DataFrame) -> Archive:
        """All asteroids of a features table, those of its test part too: nothing is scored by them."""
        return cls(
            np.array(features["designation"].tolist(), dtype=np.str_),
            np.array(features["name"].fillna("").tolist(), dtype=np.str_),
            bus_codes(features["bus_class"].tolist()),
            np.array(features["reflectance"].tolist()).reshape(len(features), len(WAVELENGTH)),
        )

    @classmethod
    def load(cls, path: Path) -> Archive:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            bus = bus_codes(file["bus_class"].tolist())
            return cls(file["designation"], file["name"], bus, file["reflectance"])

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        bus_class = np.array(BUS_CLASSES)[self.bus]
        np.savez_compressed(
            path, designation=self.designation, name=self.name, bus_class=bus_class, reflectance=self.reflectance
        )

    def nearest(
        self, reflectance: Array, seen: NDArray[np.bool_], count: int = ANALOGUES
    ) -> tuple[NDArray[np.int64], Array]:
        """The asteroids most like each spectrum, the nearest first, and how far they are.

        Parameters
        ----------
        reflectance, seen
            Spectra (m, 49), and the channels (m, 49) by which they are compared.

        Returns
        -------
        rows, distance
            Both (m, count), or fewer columns if the archive holds fewer: rows of the archive, and the root mean square
            difference of reflectance over the seen channels.
        """
        chunks = (slice(i, i + _CHUNK) for i in range(0, len(seen), _CHUNK))
        parts = [self._nearest(reflectance[chunk], seen[chunk], count) for chunk in chunks]
        if not parts:
            return np.empty((0, count), dtype=np.int64), np.empty((0, count))
        rows, distance = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(distance)

    def _nearest(self, reflectance: Array, seen: NDArray[np.bool_], count: int) -> tuple[NDArray[np.int64], Array]:
        weight = seen / seen.sum(axis=1, keepdims=True)
        # |a - b|^2 less the |a|^2 that is the same for all of the archive: two products of matrices
        squared = weight @ (self.reflectance**2).T - 2 * (weight * reflectance) @ self.reflectance.T
        few = min(count, len(self.bus))
        rows = np.argpartition(squared, few - 1, axis=1)[:, :few]
        difference = self.reflectance[rows] - reflectance[:, None]
        distance = np.sqrt((weight[:, None] * difference**2).sum(axis=2))
        order = np.argsort(distance, axis=1, kind="stable")
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distance, order, axis=1)

    def class_mean(self, bus_class: str) -> Array | None:
        """Mean reflectance (49,) of a class; None if the archive has none of it."""
        return self._classes[bus_class][0]

    def class_deviation(self, bus_class: str) -> Array | None:
        """Standard deviation (49,) within a class; None with fewer than two members."""
        return self._classes[bus_class][1]

    def class_size(self, bus_class: str) -> int:
        """Number of asteroids of a class."""
        return int((self.bus == BUS_CLASSES.index(bus_class)).sum())

    @cached_property
    def _classes(self) -> dict[str, tuple[Array | None, Array | None]]:
        members = [self.reflectance[self.bus == code] for code in range(len(BUS_CLASSES))]
        return {
            name: (own.mean(axis=0) if len(own) else None, own.std(axis=0, ddof=1) if len(own) > 1 else None)
            for name, own in zip(BUS_CLASSES, members, strict=True)
        }


def full_name(designation: str, name: str) -> str:
    """An asteroid as it is called, such as `4 Vesta`."""
    return f"{designation} {name}".rstrip()

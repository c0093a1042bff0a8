"""How much less sure an answer is to be where a spectrum is shorter or noisier than the archive's.

A network says of such spectra what it says of good ones: it is too sure. Its answers are flattened by a temperature
that grows with what is missing at either end and with the noise, fitted to out-of-fold answers for the training part
made worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astrd.calibration import at_temperature, fit_temperature
from astrd.degraded import AS_OBSERVED, SIGNAL_TO_NOISE, Degraded, cut_name, noise_name
from astrd.partial import TRUSTED_EXTRAPOLATION
from astrd.smoothing import WAVELENGTH
from astrd.spectrum import NEEDED_RANGE, SLACK
from astrd.taxonomy import ROLL_UP

Array = NDArray[np.float64]

_ORDINARY: Final = 0.75  # share of the archive whose noise calls for no temperature
_BLUE: Final = NEEDED_RANGE[0] - TRUSTED_EXTRAPOLATION - SLACK > WAVELENGTH
_RED: Final = NEEDED_RANGE[1] + TRUSTED_EXTRAPOLATION + SLACK < WAVELENGTH
_LOW, _HIGH = NEEDED_RANGE
_CORNERS: Final = {
    (0, 1): cut_name(WAVELENGTH[0], _HIGH), (1, 0): cut_name(_LOW, WAVELENGTH[-1]), (1, 1): cut_name(_LOW, _HIGH)
}  # fmt: skip


@dataclass(frozen=True)
class Widening:
    """Temperatures for what is missing and for noise, which multiply.

    `ends` (2, 2) are logarithms where nothing (0) or as much as may be (1) is missing at the blue end (first index) and
    at the red end (second). `noise` (knots,) and `of_noise` (knots,) are the logarithms of a channel's noise, the first
    that below which most of the archive lies, and of the temperature there.
    """

    ends: Array = field(default_factory=lambda: np.zeros((2, 2)))
    noise: Array = field(default_factory=lambda: np.zeros(1))
    of_noise: Array = field(default_factory=lambda: np.zeros(1))

    @classmethod
    def fit(
        cls, bus: NDArray[np.int64], degraded: Sequence[Degraded], rows: NDArray[np.bool_] | None = None
    ) -> Widening:
        """Learn from the training part made worse.

        Parameters
        ----------
        bus
            Codes of the right classes, shape (n,).
        rows
            Which spectra to learn from, shape (n,); None: all.
        """
        chosen = np.ones(len(bus), dtype=bool) if rows is None else rows
        by_name = {one.condition: one for one in degraded}

        def logarithm(condition: str) -> float:
            return max(np.log(fit_temperature(by_name[condition].probabilities[chosen], bus[chosen], ROLL_UP)), 0.0)

        ends = np.zeros((2, 2))
        for corner, condition in _CORNERS.items():
            ends[corner] = logarithm(condition)
        names = [AS_OBSERVED, *(noise_name(ratio) for ratio in SIGNAL_TO_NOISE)]
        noise = [np.quantile(by_name[AS_OBSERVED].noise, _ORDINARY)]
        noise += [np.median(by_name[name].noise) for name in names[1:]]
        of_noise = np.maximum.accumulate([0.0, *(logarithm(name) for name in names[1:])])
        return cls(ends, np.maximum.accumulate(np.log(noise)), of_noise)

    def temperatures(self, missing: NDArray[np.bool_], noise: Array | None) -> Array:
        """The temperature (n,) for each spectrum's missing channels (n, 49) and noise of a channel (n,).

        Noise that is not known (None) counts as that of the archive.
        """
        blue, red = (np.minimum(missing[:, end].sum(axis=1) / end.sum(), 1) for end in (_BLUE, _RED))
        without, within = self.ends
        logarithm = (1 - blue) * (without[0] * (1 - red) + without[1] * red)
        logarithm += blue * (within[0] * (1 - red) + within[1] * red)
        if noise is not None:
            logarithm = logarithm + np.interp(np.log(noise), self.noise, self.of_noise)
        return np.asarray(np.exp(logarithm))

    def of_degraded(self, degraded: Degraded) -> tuple[Array, Array]:
        """The flattened probabilities (n, 26) of degraded spectra, and the temperatures (n,)."""
        temperatures = self.temperatures(degraded.missing, degraded.noise)
        return flattened(degraded.probabilities, temperatures), temperatures

    def to_dict(self) -> dict[str, Any]:
        """All of it as lists."""
        return {"ends": self.ends.tolist(), "noise": self.noise.tolist(), "of_noise": self.of_noise.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Widening:
        """Read what `to_dict` wrote."""
        return cls(**{name: np.array(content[name]) for name in ("ends", "noise", "of_noise")})


def flattened(probabilities: Array, temperatures: Array) -> Array:
    """Probabilities (n, labels), each at its own temperature (n,); at 1 they stay as they are."""
    rows = temperatures != 1
    if not rows.any():
        return probabilities
    result = probabilities.copy()
    result[rows] = at_temperature(probabilities[rows], temperatures[rows, None])
    return result

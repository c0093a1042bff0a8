"""The training part made worse on purpose, shorter or noisier, and what a cross-validated network says of it.

Everything is out of fold: a spectrum is answered by the network, and filled from the space, that did not see its fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from astrd.calibration import at_temperature
from astrd.dataset import LabelledSpectra
from astrd.partial import TRUSTED_EXTRAPOLATION, averaged, filled
from astrd.spectra import channel_noise, channels_outside, checked, smoothed
from astrd.spectral_space import SpectralSpace
from astrd.spectrum import SLACK, Spectrum
from astrd.taxonomy import BUS_CLASSES
from astrd.workers import InTurn, Workers, each

if TYPE_CHECKING:
    from astrd.evaluation import Fitted

Array = NDArray[np.float64]

CUTS: Final = ((0.47, 0.92), (0.50, 0.92), (0.44, 0.85), (0.44, 0.80), (0.50, 0.85))
"""Ends (µm) to which spectra are cut. What ends at 0.80 µm is less than the classifier takes; this is why."""

SIGNAL_TO_NOISE: Final = (100, 50, 30, 20, 10)
"""Of each raw point near 0.55 µm, to which noise is added."""

AS_OBSERVED: Final = "as observed"
_SEED: Final = 0
_WAYS: Final = 8  # in which missing channels are filled: fewer than for an answer, as means of many spectra ask for


@dataclass(frozen=True)
class Degraded:
    """The training part under one condition.

    `probabilities` (n, 26) at the temperature of whole spectra, `missing` (n, 49) channels, `noise` (n,) of a channel,
    and the `outlier_score` (n,).
    """

    condition: str
    probabilities: Array
    missing: NDArray[np.bool_]
    noise: Array
    outlier_score: Array


def degrade(
    train: LabelledSpectra,
    raw: Sequence[Spectrum],
    fitted: Sequence[Fitted],
    temperature: float,
    workers: Workers = InTurn(),  # noqa: B008
) -> list[Degraded]:
    """Answer the training part as observed, cut at each of `CUTS`, and at each of `SIGNAL_TO_NOISE`.

    Parameters
    ----------
    raw
        The raw spectra of the training part, in its order.
    fitted
        The models of the folds.
    temperature
        Of the calibration.
    """
    parts = [train[train.fold != fold] for fold in range(len(fitted))]
    spaces = [SpectralSpace.fit(part.reflectance, part.fold) for part in parts]
    answer = partial(_answer, train, raw, fitted, spaces, temperature)
    return each(workers, answer, _conditions())


def _answer(
    train: LabelledSpectra,
    raw: Sequence[Spectrum],
    fitted: Sequence[Fitted],
    spaces: Sequence[SpectralSpace],
    temperature: float,
    condition: str,
    worsened: Callable[[Sequence[Spectrum]], Sequence[Spectrum]],
) -> Degraded:
    """What the models of the folds make of the training part under one condition."""
    spectra = worsened(raw)
    reflectance = smoothed(spectra)
    missing = channels_outside(spectra, TRUSTED_EXTRAPOLATION)
    probabilities, score = np.zeros((len(train), len(BUS_CLASSES))), np.zeros(len(train))
    for fold, (model, space) in enumerate(zip(fitted, spaces, strict=True)):
        rows = train.fold == fold

        def calibrated(spectra: Array, model: Fitted = model) -> Array:
            return at_temperature(model.probabilities(spectra), temperature)

        probabilities[rows] = averaged(calibrated, space, reflectance[rows], missing[rows], _WAYS)
        score[rows] = space.outlier_scores(filled(space, reflectance[rows], missing[rows]))
    return Degraded(condition, probabilities, missing, channel_noise(spectra), score)


def _conditions() -> list[tuple[str, Callable[[Sequence[Spectrum]], Sequence[Spectrum]]]]:
    """Their names, and what makes spectra so."""
    return [
        (AS_OBSERVED, list),
        *((cut_name(low, high), partial(_cut, low, high)) for low, high in CUTS),
        *((noise_name(ratio), partial(_noisier, ratio)) for ratio in SIGNAL_TO_NOISE),
    ]


def cut_name(low: float, high: float) -> str:
    """What a cut is called."""
    return f"{low:.2f} to {high:.2f} µm"


def noise_name(ratio: int) -> str:
    """What a signal-to-noise ratio is called."""
    return f"S/N {ratio}"


def _cut(low: float, high: float, spectra: Sequence[Spectrum]) -> list[Spectrum]:
    def cut(spectrum: Spectrum) -> Spectrum:
        kept = (spectrum.wavelength >= low - SLACK) & (spectrum.wavelength <= high + SLACK)
        # Without the checks of `Spectrum.of`, which refuses what reaches to 0.80 µm only.
        return replace(
            spectrum,
            wavelength=spectrum.wavelength[kept],
            reflectance=spectrum.reflectance[kept],
            uncertainty=spectrum.uncertainty[kept],
        )

    return [cut(spectrum) for spectrum in spectra]


def _noisier(ratio: int, spectra: Sequence[Spectrum]) -> list[Spectrum]:
    random = np.random.default_rng(_SEED)
    return checked(
        [spectrum.wavelength for spectrum in spectra],
        [spectrum.reflectance + random.standard_normal(len(spectrum.wavelength)) / ratio for spectrum in spectra],
        [np.hypot(spectrum.uncertainty, 1 / ratio) for spectrum in spectra],
    )

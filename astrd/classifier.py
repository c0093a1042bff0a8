"""The classifier that is served: raw spectra in; classes, probabilities, prediction sets and outlier scores out.

It needs ONNX Runtime and no TensorFlow, and does the smoothing itself, so that training and serving cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from astrd.analogues import Archive
from astrd.calibration import at_temperature, fit_temperature
from astrd.conformal import DEFAULT_COVERAGE, GradedSets, PredictionSets
from astrd.dataset import LabelledSpectra
from astrd.degraded import Degraded
from astrd.explanation import explanation
from astrd.onnx_network import OnnxNetwork
from astrd.partial import TRUSTED_EXTRAPOLATION, averaged, filled
from astrd.smoothing import WAVELENGTH, bus_smoothing
from astrd.spectral_space import SpectralSpace
from astrd.spectrum import Spectrum, channel_noise, channels_outside
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS, ROLL_UP
from astrd.unlearned import resembles_q
from astrd.widening import Widening, flattened

Array = NDArray[np.float64]

NETWORK_FILE: Final = "network.onnx"
CONSTANTS_FILE: Final = "classifier.json"
ARCHIVE_FILE: Final = "archive.npz"
FORMAT: Final = 2
"""Of the constants file; another number says that another version of this package has to read it."""

DEFAULT_DRAWS: Final = 0
_DRAW_SEED: Final = 0


class OtherVersionError(ValueError):
    """A classifier's files were written by a version of this package that this one does not understand."""


def fit_bus_temperature(train: LabelledSpectra, out_of_fold: Array) -> float:
    """The temperature of a Bus network's out-of-fold probabilities (n, 26), for classes and main groups together."""
    return fit_temperature(out_of_fold, train.bus, ROLL_UP)


@dataclass(frozen=True)
class Calibration:
    """What out-of-fold predictions teach about a network, and the space of its training spectra.

    `present` (26,) tells which classes it could learn; `widening` flattens the answers for partial spectra.
    """

    temperature: float
    present: NDArray[np.bool_]
    sets: GradedSets
    space: SpectralSpace
    widening: Widening

    @classmethod
    def fit(cls, train: LabelledSpectra, out_of_fold: Array, degraded: Sequence[Degraded] = ()) -> Calibration:
        """Fit to out-of-fold Bus probabilities, shape (n, 26), of the training part.

        Parameters
        ----------
        degraded
            Answers for the training part made worse, at the temperature of `fit_bus_temperature`; without them, answers
            for short and noisy spectra are too sure.
        """
        temperature = fit_bus_temperature(train, out_of_fold)
        if degraded:
            widening = Widening.fit(train.bus, degraded)
            answers = [widening.of_degraded(one) for one in degraded]
        else:
            widening = Widening()
            answers = [(at_temperature(out_of_fold, temperature), np.ones(len(train)))]
        return cls(
            temperature,
            np.isin(np.arange(len(BUS_CLASSES)), train.bus),
            GradedSets.fit(answers, train.bus),
            SpectralSpace.fit(train.reflectance, train.fold),
            widening,
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "temperature": self.temperature,
                "present": [name for name, here in zip(BUS_CLASSES, self.present, strict=True) if here],
                "thresholds": [grade.thresholds.tolist() for grade in self.sets.grades],
                "space": self.space.to_dict(),
                "widening": self.widening.to_dict(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what `to_json` wrote.

        Raises
        ------
        OtherVersionError
            If another version of this package wrote it.
        """
        content = json.loads(text)
        if content.get("format") != FORMAT:
            raise OtherVersionError(
                f"expected a classifier in format {FORMAT}, got {content.get('format')}: another version of "
                "astrd-spctra made it; train and promote anew, or serve it in its own environment"
            )
        return cls(
            content["temperature"],
            np.isin(BUS_CLASSES, content["present"]),
            GradedSets(tuple(PredictionSets(np.array(thresholds)) for thresholds in content["thresholds"])),
            SpectralSpace.from_dict(content["space"]),
            Widening.from_dict(content["widening"]),
        )


class Network(Protocol):
    """What turns (n, 49) normalised reflectance into (n, 26) Bus logits."""

    def __call__(self, reflectance: Array) -> Array: ...


@dataclass(frozen=True)
class Classifier:
    """A network with its calibration, and the archive for its why."""

    network: Network = field(repr=False)
    calibration: Calibration = field(repr=False)
    archive: Archive = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read what `save` wrote."""
        folder = Path(folder)
        calibration = Calibration.from_json((folder / CONSTANTS_FILE).read_text())
        network = OnnxNetwork((folder / NETWORK_FILE).read_bytes())
        return cls(network, calibration, Archive.load(folder / ARCHIVE_FILE))

    def save(self, folder: str | Path) -> None:
        """Write `network.onnx`, `classifier.json` and `archive.npz` into a folder.

        Raises
        ------
        TypeError
            If the network is in no form that a file can hold.
        """
        if not isinstance(self.network, OnnxNetwork):
            raise TypeError(f"expected an ONNX network to save, got {type(self.network).__name__}: use `to_onnx` first")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NETWORK_FILE).write_bytes(self.network.content)
        (folder / CONSTANTS_FILE).write_text(self.calibration.to_json())
        self.archive.save(folder / ARCHIVE_FILE)

    def bus_probabilities(self, reflectance: Array) -> Array:
        """(n, 49) normalised reflectance to (n, 26) calibrated probabilities; 0 for classes it could not learn."""
        logits = np.where(self.calibration.present, self.network(reflectance), -np.inf)
        return np.asarray(softmax(logits / self.calibration.temperature, axis=1))

    def widened_bus_probabilities(
        self, reflectance: Array, missing: NDArray[np.bool_], noise: Array
    ) -> tuple[Array, Array]:
        """The same where channels, (n, 49), are missing and a channel has noise, (n,): averaged, and flattened.

        Returns
        -------
        bus, temperatures
            Shapes (n, 26) and (n,): the probabilities, and by how much they were flattened.
        """
        averages = averaged(self.bus_probabilities, self.calibration.space, reflectance, missing)
        temperatures = self.calibration.widening.temperatures(missing, noise)
        return flattened(averages, temperatures), temperatures

    def classify(
        self,
        spectra: Sequence[Spectrum],
        coverage: float = DEFAULT_COVERAGE,
        draws: int = DEFAULT_DRAWS,
        explain: bool = False,
    ) -> pd.DataFrame:
        """Classify spectra.

        Parameters
        ----------
        coverage
            Share of prediction sets that hold the right class.
        draws
            How often to repeat the classification under each spectrum's own 1-sigma noise; above 0, each class's
            and group's share of the draws is told too.
        explain
            Whether to tell the archive's most similar asteroids, the class's mean, slope and band depths too.

        Returns
        -------
        DataFrame
            One row a spectrum, in the columns that `served_model.SIGNATURE` lists.

        Raises
        ------
        ValueError
            If the coverage is not between 0 and 1, or the number of draws is negative.
        """
        if draws < 0:
            raise ValueError(f"expected draws of 0 or more, got {draws}")
        reflectance, missing, notes = self._channels(spectra)
        bus, temperatures = self.widened_bus_probabilities(reflectance, missing, channel_noise(spectra))
        sets = self.calibration.sets.of(bus, coverage, temperatures)
        main = bus @ ROLL_UP
        best_bus, best_main = bus.argmax(axis=1), main.argmax(axis=1)
        rows = np.arange(len(spectra))
        bus_share, main_share = self._draw_shares(spectra, draws) if draws else (None, None)
        outlier = self.calibration.space.outlier_scores(reflectance)
        like_q = resembles_q(reflectance) & ~self.calibration.present[BUS_CLASSES.index("Q")]
        for row in np.flatnonzero(like_q):
            notes[row].append("near the published mean of class Q, of which the model saw no spectrum: it may be one")
        columns: Mapping[str, Any] = {
            "designation": [spectrum.designation for spectrum in spectra],
            "main_group": [MAIN_GROUPS[code] for code in best_main],
            "main_group_probability": main[rows, best_main],
            "bus_class": [BUS_CLASSES[code] for code in best_bus],
            "bus_class_probability": bus[rows, best_bus],
            "bus_prediction_set": [_by_probability(bus[row], sets[row]) for row in rows],
            "outlier_score": outlier,
            "is_outlier": (outlier > 1) | like_q,
            "main_group_draw_share": None if main_share is None else main_share[rows, best_main],
            "bus_class_draw_share": None if bus_share is None else bus_share[rows, best_bus],
            "note": ["; ".join(note) for note in notes],
            **_by_label("probability", bus, main),
            **({} if bus_share is None or main_share is None else _by_label("draw_share", bus_share, main_share)),
            **(explanation(spectra, reflectance, ~missing, best_bus, self.archive) if explain else {}),
        }
        return pd.DataFrame(columns, index=range(len(spectra)))

    def _channels(self, spectra: Sequence[Spectrum]) -> tuple[Array, NDArray[np.bool_], list[list[str]]]:
        """Reflectance (n, 49), the channels of it that were filled from the archive's space (n, 49), and the notes."""
        reflectance = bus_smoothing(
            [s.wavelength for s in spectra], [s.reflectance for s in spectra], [s.uncertainty for s in spectra]
        )
        notes = [list(spectrum.notes) for spectrum in spectra]
        missing = np.zeros(reflectance.shape, dtype=bool)
        for row, spectrum in enumerate(spectra):
            outside = channels_outside(spectrum, 0.0)
            missing[row] = channels_outside(spectrum, TRUSTED_EXTRAPOLATION)
            for how, channels in (
                ("extrapolated", outside & ~missing[row]),
                ("filled with what the archive's spectra have there", missing[row]),
            ):
                if channels.any():
                    share = f"{channels.sum()} of {len(WAVELENGTH)} channels"
                    notes[row].append(f"outside the data, {how}: {_ranges(channels)} µm ({share})")
        return filled(self.calibration.space, reflectance, missing), missing, notes

    def _draw_shares(self, spectra: Sequence[Spectrum], draws: int) -> tuple[Array, Array]:
        """Share of noise draws that give each Bus class (n, 26) and each main group (n, 4)."""
        bus, main = np.zeros((len(spectra), len(BUS_CLASSES))), np.zeros((len(spectra), len(MAIN_GROUPS)))
        noise = [np.random.default_rng(_DRAW_SEED) for _ in spectra]  # one each: the rows beside it change no answer
        rows = np.arange(len(spectra))
        for _ in range(draws):
            noisy = [
                replace(s, reflectance=s.reflectance + s.uncertainty * random.standard_normal(len(s.wavelength)))
                for s, random in zip(spectra, noise, strict=True)
            ]
            probabilities, _ = self.widened_bus_probabilities(*self._channels(noisy)[:2], channel_noise(noisy))
            bus[rows, probabilities.argmax(axis=1)] += 1
            main[rows, (probabilities @ ROLL_UP).argmax(axis=1)] += 1
        return bus / draws, main / draws


def _by_label(what: str, bus: Array, main: Array) -> dict[str, Array]:
    """Columns of numbers by main group (n, 4) and Bus class (n, 26)."""
    return {f"{what}_group_{name}": main[:, code] for code, name in enumerate(MAIN_GROUPS)} | {
        f"{what}_{name}": bus[:, code] for code, name in enumerate(BUS_CLASSES)
    }


def _by_probability(probabilities: Array, inside: NDArray[np.bool_]) -> list[str]:
    order = np.argsort(-probabilities, kind="stable")
    return [BUS_CLASSES[code] for code in order if inside[code]]


def _ranges(channels: NDArray[np.bool_]) -> str:
    """Runs of channels as text, such as `0.44-0.46 and 0.90-0.92`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], channels.astype(int), [0]))))
    ends = [(f"{WAVELENGTH[start]:.2f}", f"{WAVELENGTH[stop - 1]:.2f}") for start, stop in edges.reshape(-1, 2)]
    return " and ".join(first if first == last else f"{first}-{last}" for first, last in ends)

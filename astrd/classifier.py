"""The classifier that is served: raw spectra in; classes, probabilities, prediction sets and outlier scores out.

It needs ONNX Runtime and no TensorFlow, and does the smoothing itself, so that training and serving cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from astrd.calibration import at_temperature, fit_temperature
from astrd.conformal import PredictionSets
from astrd.dataset import LabelledSpectra
from astrd.smoothing import NORMALISATION_CHANNEL, WAVELENGTH, bus_smoothing
from astrd.spectra import channel_faults
from astrd.spectral_space import SpectralSpace
from astrd.spectrum import Spectrum, SpectrumError, channels_outside
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS, ROLL_UP
from astrd.unlearned import resembles_q

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.float64]

NETWORK_FILE: Final = "network.onnx"
CONSTANTS_FILE: Final = "classifier.json"
FORMAT: Final = 1
"""Of the constants file; another number says that another version of this package has to read it."""

DEFAULT_COVERAGE: Final = 0.9
DEFAULT_DRAWS: Final = 0
TRUSTED_EXTRAPOLATION: Final = 0.02
"""µm beyond a spectrum's ends that its own spline may fill, as in training; further out the archive's space does."""

_ROWS_A_CALL: Final = 1000  # larger batches fall out of the processor's cache and are slower
_DRAW_SEED: Final = 0
_COMPLETIONS: Final = 32


class OtherVersionError(ValueError):
    """A classifier's files were written by a version of this package that this one does not understand."""


@dataclass(frozen=True)
class Calibration:
    """What out-of-fold predictions teach about a network, and the space of its training spectra.

    `present` (26,) tells which classes it could learn.
    """

    temperature: float
    present: NDArray[np.bool_]
    sets: PredictionSets
    space: SpectralSpace

    @classmethod
    def fit(cls, train: LabelledSpectra, out_of_fold: Array) -> Calibration:
        """Fit to out-of-fold Bus probabilities, shape (n, 26), of the training part."""
        temperature = fit_temperature(out_of_fold, train.bus, ROLL_UP)
        return cls(
            temperature,
            np.isin(np.arange(len(BUS_CLASSES)), train.bus),
            PredictionSets.fit(at_temperature(out_of_fold, temperature), train.bus),
            SpectralSpace.fit(train.reflectance, train.fold),
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "temperature": self.temperature,
                "present": [name for name, here in zip(BUS_CLASSES, self.present, strict=True) if here],
                "thresholds": self.sets.thresholds.tolist(),
                "space": self.space.to_dict(),
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
            PredictionSets(np.array(content["thresholds"])),
            SpectralSpace.from_dict(content["space"]),
        )


@dataclass(frozen=True)
class Classifier:
    """An ONNX network, (n, 49) reflectance to (n, 26) Bus logits, with its calibration."""

    network: bytes = field(repr=False)
    calibration: Calibration = field(repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read what `save` wrote."""
        folder = Path(folder)
        constants = (folder / CONSTANTS_FILE).read_text()
        return cls((folder / NETWORK_FILE).read_bytes(), Calibration.from_json(constants))

    def save(self, folder: str | Path) -> None:
        """Write `network.onnx` and `classifier.json` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NETWORK_FILE).write_bytes(self.network)
        (folder / CONSTANTS_FILE).write_text(self.calibration.to_json())

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # these networks are too small to share out
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.network, options, providers=["CPUExecutionProvider"])

    def logits(self, reflectance: Array) -> Array:
        """(n, 49) normalised reflectance to (n, 26) Bus logits, as the network gives them."""
        rows = np.ascontiguousarray(reflectance, dtype=np.float32)
        name = self._session.get_inputs()[0].name
        parts = [
            self._session.run(None, {name: rows[i : i + _ROWS_A_CALL]})[0] for i in range(0, len(rows), _ROWS_A_CALL)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.empty((0, len(BUS_CLASSES)))

    def bus_probabilities(self, reflectance: Array) -> Array:
        """(n, 49) normalised reflectance to (n, 26) calibrated probabilities; 0 for classes it could not learn."""
        logits = np.where(self.calibration.present, self.logits(reflectance), -np.inf)
        return np.asarray(softmax(logits / self.calibration.temperature, axis=1))

    def classify(
        self, spectra: Sequence[Spectrum], coverage: float = DEFAULT_COVERAGE, draws: int = DEFAULT_DRAWS
    ) -> pd.DataFrame:
        """Classify spectra.

        Parameters
        ----------
        coverage
            Share of prediction sets that hold the right class.
        draws
            How often to repeat the classification under each spectrum's own 1-sigma noise.

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
        bus = self._bus_of_partial(reflectance, missing)
        shares = self._draw_shares(spectra, bus.argmax(axis=1), (bus @ ROLL_UP).argmax(axis=1), draws)
        return self._answers([spectrum.designation for spectrum in spectra], reflectance, bus, notes, shares, coverage)

    def classify_channels(
        self, reflectance: Array, designation: Sequence[str], coverage: float = DEFAULT_COVERAGE
    ) -> pd.DataFrame:
        """Classify spectra that lie on the 49 channels already, as smooth as `bus_smoothing` makes them.

        Parameters
        ----------
        reflectance
            Shape (n, 49), relative to any level; NaN in the channels at the ends that were not seen.
        designation
            One a spectrum; may be empty strings.
        coverage
            Share of prediction sets that hold the right class.

        Returns
        -------
        DataFrame
            As of `classify`, without draws.

        Raises
        ------
        SpectrumError
            If a spectrum cannot be classified; the message names the row, counted from 0, and the reason.
        ValueError
            If the coverage is not between 0 and 1.
        """
        for row, fault in enumerate(channel_faults(reflectance)):
            if fault:
                raise SpectrumError(f"row {row}: {fault}")
        normalised = reflectance / reflectance[:, [NORMALISATION_CHANNEL]]
        missing = np.isnan(reflectance)
        notes: list[list[str]] = [[] for _ in designation]
        completed = self._completed(normalised, missing, missing, notes)
        nothing = [None] * len(notes)
        bus = self._bus_of_partial(completed, missing)
        return self._answers(designation, completed, bus, notes, (nothing, nothing), coverage)

    def _answers(
        self,
        designation: Sequence[str],
        reflectance: Array,
        bus: Array,
        notes: list[list[str]],
        shares: tuple[Array | list[None], Array | list[None]],
        coverage: float,
    ) -> pd.DataFrame:
        main = bus @ ROLL_UP
        best_bus, best_main = bus.argmax(axis=1), main.argmax(axis=1)
        bus_share, main_share = shares
        rows = np.arange(len(bus))
        outlier = self.calibration.space.outlier_scores(reflectance)
        like_q = resembles_q(reflectance) & ~self.calibration.present[BUS_CLASSES.index("Q")]
        for row in np.flatnonzero(like_q):
            notes[row].append("near the published mean of class Q, of which the model saw no spectrum: it may be one")
        columns: Mapping[str, Any] = {
            "designation": list(designation),
            "main_group": [MAIN_GROUPS[code] for code in best_main],
            "main_group_probability": main[rows, best_main],
            "bus_class": [BUS_CLASSES[code] for code in best_bus],
            "bus_class_probability": bus[rows, best_bus],
            "bus_prediction_set": _by_probability(bus, self.calibration.sets.of(bus, coverage)),
            "outlier_score": outlier,
            "is_outlier": (outlier > 1) | like_q,
            "main_group_draw_share": main_share,
            "bus_class_draw_share": bus_share,
            "note": ["; ".join(note) for note in notes],
            **{f"probability_group_{name}": main[:, code] for code, name in enumerate(MAIN_GROUPS)},
            **{f"probability_{name}": bus[:, code] for code, name in enumerate(BUS_CLASSES)},
        }
        return pd.DataFrame(columns)

    def _channels(self, spectra: Sequence[Spectrum]) -> tuple[Array, NDArray[np.bool_], list[list[str]]]:
        """Reflectance (n, 49), the channels of it that were filled from the archive's space (n, 49), and the notes."""
        reflectance = bus_smoothing(
            [s.wavelength for s in spectra], [s.reflectance for s in spectra], [s.uncertainty for s in spectra]
        )
        notes = [list(spectrum.notes) for spectrum in spectra]
        outside, missing = (channels_outside(spectra, margin) for margin in (0.0, TRUSTED_EXTRAPOLATION))
        return self._completed(reflectance, outside, missing, notes), missing, notes

    def _completed(
        self, reflectance: Array, outside: NDArray[np.bool_], missing: NDArray[np.bool_], notes: list[list[str]]
    ) -> Array:
        """Reflectance (n, 49) with the missing channels filled; what lies outside the data is added to the notes."""
        completed = reflectance.copy()
        for rows, pattern in _alike(missing):
            completed[rows] = self.calibration.space.completed(reflectance[rows], pattern)
        for how, channels in (
            ("extrapolated", outside & ~missing),
            ("filled with what the archive's spectra have there", missing),
        ):
            for rows, pattern in _alike(channels):
                share = f"{pattern.sum()} of {len(WAVELENGTH)} channels"
                for row in rows:
                    notes[row].append(f"outside the data, {how}: {_ranges(pattern)} µm ({share})")
        return completed

    def _bus_of_partial(self, reflectance: Array, missing: NDArray[np.bool_]) -> Array:
        """Bus probabilities (n, 26), averaged over what the missing channels may have been."""
        bus = self.bus_probabilities(reflectance)
        partial = np.flatnonzero(missing.any(axis=1))
        if len(partial):
            space = self.calibration.space
            filled = [space.completions(reflectance[row], missing[row], _COMPLETIONS) for row in partial]
            answers = self.bus_probabilities(np.concatenate(filled))
            bus[partial] = answers.reshape(len(partial), _COMPLETIONS, -1).mean(axis=1)
        return bus

    def _draw_shares(
        self, spectra: Sequence[Spectrum], bus: NDArray[np.int64], main: NDArray[np.int64], draws: int
    ) -> tuple[Array | list[None], Array | list[None]]:
        """Share of noise draws that give the same Bus class and main group; None without draws."""
        if draws == 0:
            return [None] * len(spectra), [None] * len(spectra)
        bus_agree, main_agree = np.zeros(len(spectra)), np.zeros(len(spectra))
        noise = [np.random.default_rng(_DRAW_SEED) for _ in spectra]  # one each: the rows beside it change no answer
        for _ in range(draws):
            noisy = [
                replace(s, reflectance=s.reflectance + s.uncertainty * random.standard_normal(len(s.wavelength)))
                for s, random in zip(spectra, noise, strict=True)
            ]
            probabilities = self._bus_of_partial(*self._channels(noisy)[:2])
            bus_agree += probabilities.argmax(axis=1) == bus
            main_agree += (probabilities @ ROLL_UP).argmax(axis=1) == main
        return bus_agree / draws, main_agree / draws


def _by_probability(probabilities: Array, inside: NDArray[np.bool_]) -> list[list[str]]:
    """The labels inside each set, the likeliest first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(inside, order, axis=1)
    names = np.array(BUS_CLASSES, dtype=object)[order[ordered]].tolist()
    ends = ordered.sum(axis=1).cumsum().tolist()
    return [names[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _alike(channels: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """The rows that have the same channels marked, and these channels; rows without any are left out."""
    marked = np.flatnonzero(channels.any(axis=1))
    patterns, pattern_of = np.unique(channels[marked], axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield marked[pattern_of == number], pattern


def _ranges(channels: NDArray[np.bool_]) -> str:
    """Runs of channels as text, such as `0.44-0.46 and 0.90-0.92`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], channels.astype(int), [0]))))
    ends = [(f"{WAVELENGTH[start]:.2f}", f"{WAVELENGTH[stop - 1]:.2f}") for start, stop in edges.reshape(-1, 2)]
    return " and ".join(first if first == last else f"{first}-{last}" for first, last in ends)

"""The classifier that is served: raw spectra in; classes, probabilities, prediction sets and outlier scores out.

It needs ONNX Runtime and no TensorFlow, and does the smoothing itself, so that training and serving cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import softmax

from astrd.analogues import Archive
from astrd.answer_table import ANSWER_LABELS, Answers
from astrd.calibrated import Calibration
from astrd.channels import channel_faults
from astrd.conformal import DEFAULT_COVERAGE
from astrd.explanation import explanation
from astrd.onnx_network import OnnxNetwork
from astrd.partial import TRUSTED_EXTRAPOLATION, averaged, by_pattern, filled
from astrd.smoothing import NORMALISATION_CHANNEL, WAVELENGTH
from astrd.spectra import Spectra, channel_noise, channels_outside, smoothed
from astrd.spectrum import Spectrum, SpectrumError, noisy
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS, ROLL_UP
from astrd.unlearned import resembles_q
from astrd.widening import flattened
from astrd.workers import cores

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NETWORK_FILE: Final = "network.onnx"
CONSTANTS_FILE: Final = "classifier.json"
ARCHIVE_FILE: Final = "archive.npz"

DEFAULT_DRAWS: Final = 0
_DRAW_SEED: Final = 0
_AT_ONCE: Final = 2000  # spectra of a survey: their arrays stay in the processor's cache; ten times as many do not
_MAY_BE_Q: Final = "near the published mean of class Q, of which the model saw no spectrum: it may be one"


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
            How often to repeat the classification under each spectrum's own 1-sigma noise.
        explain
            Whether to say why: analogues, the mean and 1 sigma of the class, slope and depths of bands.

        Returns
        -------
        DataFrame
            One row a spectrum, in the columns that `served_model.SIGNATURE` lists.

        Raises
        ------
        ValueError
            If the coverage is not between 0 and 1, or the number of draws is negative.
        """
        return self.answers(spectra, coverage, draws, explain).frame()

    def answers(
        self,
        spectra: Sequence[Spectrum],
        coverage: float = DEFAULT_COVERAGE,
        draws: int = DEFAULT_DRAWS,
        explain: bool = False,
    ) -> Answers:
        """What `classify` puts into a table, as arrays."""
        if draws < 0:
            raise ValueError(f"expected draws of 0 or more, got {draws}")
        together = Spectra.of(spectra)
        seen = self._seen(together)
        answers = self._answers(together.designation, seen, coverage)
        if draws:
            answers = replace(answers, shares=self._draw_shares(spectra, draws))
        if explain:
            bus = answers.bus.argmax(axis=1)
            why = explanation(spectra, seen.reflectance, ~seen.missing, bus, self.archive)
            answers = replace(answers, why=why)
        return answers

    def classify_channels(
        self, reflectance: Array, designation: Sequence[str], coverage: float = DEFAULT_COVERAGE, threads: int = 0
    ) -> pa.Table:
        """Classify spectra that lie on the 49 channels already, as smooth as `bus_smoothing` makes them.

        Parameters
        ----------
        reflectance
            Shape (n, 49), relative to any level; NaN in the channels at the ends that were not seen.
        designation
            One a spectrum; may be empty strings.
        coverage
            Share of prediction sets that hold the right class.
        threads
            How many share the spectra out; 0: as many as there are cores. No answer depends on them.

        Returns
        -------
        Table
            Of Arrow, in which lists of classes are no objects: as of `classify`, without draws.

        Raises
        ------
        SpectrumError
            If a spectrum cannot be classified; the message names the row, counted from 0, and the reason.
        ValueError
            If the coverage is not between 0 and 1.
        """
        starts = range(0, max(len(reflectance), 1), _AT_ONCE)

        def table(start: int) -> pa.Table:
            rows = slice(start, start + _AT_ONCE)
            for row, fault in enumerate(channel_faults(reflectance[rows]), start):
                if fault:
                    raise SpectrumError(f"row {row}: {fault}")
            return self.channel_answers(reflectance[rows], designation[rows], coverage).table()

        with ThreadPoolExecutor(min(threads or cores(), len(starts))) as pool:
            return pa.concat_tables(pool.map(table, starts))

    def channel_answers(
        self, reflectance: Array, designation: Sequence[str], coverage: float = DEFAULT_COVERAGE
    ) -> Answers:
        """What `classify_channels` puts into a table, as arrays, for spectra in which `channel_faults` finds none."""
        normalised = reflectance / reflectance[:, [NORMALISATION_CHANNEL]]
        missing = np.isnan(reflectance)
        notes = [""] * len(designation)  # texts, not lists: so many lists keep the garbage collector busy
        return self._answers(designation, self._completed(normalised, missing, missing, None, notes), coverage)

    def _answers(self, designation: Sequence[str], seen: _Seen, coverage: float) -> Answers:
        bus, temperatures = self._widened_bus_probabilities(seen)
        sets = self.calibration.sets.of(bus, coverage, temperatures)
        outlier = self.calibration.space.outlier_scores(seen.reflectance)
        like_q = resembles_q(seen.reflectance) & ~self.calibration.present[BUS_CLASSES.index("Q")]
        notes = seen.notes
        for row in np.flatnonzero(like_q):
            notes[row] = _and(notes[row], _MAY_BE_Q)
        return Answers(designation, bus, sets, outlier, (outlier > 1) | like_q, notes)

    def _seen(self, spectra: Sequence[Spectrum]) -> _Seen:
        together = Spectra.of(spectra)
        outside, missing = (channels_outside(together, margin) for margin in (0.0, TRUSTED_EXTRAPOLATION))
        notes = ["; ".join(notes) for notes in together.notes]
        return self._completed(smoothed(together), outside, missing, channel_noise(together), notes)

    def _completed(
        self, reflectance: Array, outside: Mask, missing: Mask, noise: Array | None, notes: list[str]
    ) -> _Seen:
        """Fill the missing channels (n, 49); what lies outside the data is added to the notes."""
        for how, channels in (
            ("extrapolated", outside & ~missing),
            ("filled with what the archive's spectra have there", missing),
        ):
            for pattern, rows in by_pattern(channels):
                share = f"{pattern.sum()} of {len(WAVELENGTH)} channels"
                note = f"outside the data, {how}: {_ranges(pattern)} µm ({share})"
                for row in rows:
                    notes[row] = _and(notes[row], note)
        return _Seen(filled(self.calibration.space, reflectance, missing), missing, noise, notes)

    def _widened_bus_probabilities(self, seen: _Seen) -> tuple[Array, Array]:
        """Probabilities (n, 26), averaged over missing channels and flattened, and by which temperatures (n,)."""
        averages = averaged(self.bus_probabilities, self.calibration.space, seen.reflectance, seen.missing)
        temperatures = self.calibration.widening.temperatures(seen.missing, seen.noise)
        return flattened(averages, temperatures), temperatures

    def _draw_shares(self, spectra: Sequence[Spectrum], draws: int) -> Array:
        """Share of noise draws that give each main group and each Bus class, (n, 4 + 26)."""
        shares = np.zeros((len(spectra), len(ANSWER_LABELS)))
        noise = [np.random.default_rng(_DRAW_SEED) for _ in spectra]  # one each: the rows beside it change no answer
        rows = np.arange(len(spectra))
        for _ in range(draws):
            drawn = [noisy(spectrum, random) for spectrum, random in zip(spectra, noise, strict=True)]
            bus, _ = self._widened_bus_probabilities(self._seen(drawn))
            shares[rows, (bus @ ROLL_UP).argmax(axis=1)] += 1
            shares[rows, len(MAIN_GROUPS) + bus.argmax(axis=1)] += 1
        return shares / draws


@dataclass(frozen=True)
class _Seen:
    """Spectra as the network sees them: `reflectance` (n, 49), whose `missing` channels (n, 49) are filled.

    `noise` (n,) is that of a channel, None where it is not known. `notes` say what was done.
    """

    reflectance: Array
    missing: Mask
    noise: Array | None
    notes: list[str]


def _and(notes: str, note: str) -> str:
    return f"{notes}; {note}" if notes else note


def _ranges(channels: Mask) -> str:
    """Runs of channels as text, such as `0.44-0.46 and 0.90-0.92`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], channels.astype(int), [0]))))
    ends = [(f"{WAVELENGTH[start]:.2f}", f"{WAVELENGTH[stop - 1]:.2f}") for start, stop in edges.reshape(-1, 2)]
    return " and ".join(first if first == last else f"{first}-{last}" for first, last in ends)

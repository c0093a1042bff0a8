"""One spectrum as an observer has it, and what makes it one that can be classified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrd.smoothing import CHANNEL_WIDTH, NORMALISATION_WAVELENGTH

Array = NDArray[np.float64]

FEWEST_POINTS: Final = 10
NEEDED_RANGE: Final = (0.50, 0.85)
NEEDED_EDGES: Final = (NEEDED_RANGE[0] + CHANNEL_WIDTH, NEEDED_RANGE[1] - CHANNEL_WIDTH)
"""µm that the first and the last point have to reach: a channel's width less."""

WIDEST_GAP: Final = 0.1
MOST_TIMES_LEVEL: Final = 100.0
LEAST_SIGNAL: Final = 3.0
NORMALISED_WITHIN: Final = 0.1
"""Spectra whose level at 0.55 µm is this near to 1 are left at it, as those of the archive are in training."""

NEAR: Final = 0.02  # µm around 0.55 from which the level is taken
LONGEST: Final = 100.0  # µm; longer wavelengths are in another unit
COMMENTS: Final = ("#", "!", ";")
LARGEST: Final = 1e50  # beyond it, and below its inverse, squares and their ratios overflow
SLACK: Final = 1e-9  # wavelengths are decimal numbers: 0.85 may arrive as 0.8500000000000001
NOISE_RANGE: Final = (0.45, 0.90)
"""µm between which the scatter of neighbouring points is taken for the noise of a spectrum without uncertainties."""

_SMALLEST_NOISE: Final = 5e-4  # relative to the median reflectance


class SpectrumError(ValueError):
    """A spectrum that cannot be classified; the message says what was expected and what came.

    `wavelength` (µm) is that of the point at fault, if it is one.
    """

    def __init__(self, message: str, wavelength: float | None = None) -> None:
        super().__init__(message)
        self.wavelength = wavelength


@dataclass(frozen=True)
class Spectrum:
    """A visible reflectance spectrum.

    `wavelength` (µm, strictly increasing), `reflectance` (relative, about 1 at 0.55 µm) and `uncertainty` (1 sigma)
    have shape (n,). `notes` say what was assumed or changed on the way here. Make one with `Spectrum.of`, which checks.
    """

    wavelength: Array
    reflectance: Array
    uncertainty: Array
    designation: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, wavelength: ArrayLike, reflectance: ArrayLike, uncertainty: ArrayLike | None = None, designation: str = ""
    ) -> Spectrum:
        """Check and order the points of a spectrum.

        Parameters
        ----------
        wavelength
            µm, in any order. Points at the same wavelength are averaged.
        reflectance
            Relative to any level.
        uncertainty
            1 sigma. Without it (None or empty) the scatter of neighbouring points stands in.

        Raises
        ------
        SpectrumError
            If the lists differ in length or hold anything but finite numbers; if fewer than 10 points, no coverage
            of 0.50 to 0.85 µm or a gap wider than 0.1 µm in it leave the class open; if the reflectance near
            0.55 µm is not positive or an uncertainty is not; if the wavelengths are not in µm.
        """
        w, r = _numbers(wavelength, "wavelength"), _numbers(reflectance, "reflectance")
        u = None if uncertainty is None else _numbers(uncertainty, "uncertainty")
        if u is not None and len(u) == 0:
            u = None
        if len(w) != len(r) or (u is not None and len(u) != len(w)):
            lengths = f"{len(w)} wavelengths, {len(r)} reflectances" + (
                "" if u is None else f", {len(u)} uncertainties"
            )
            raise SpectrumError(f"expected lists of one length, got {lengths}")
        _check_points(w)
        if u is not None and (u < 1 / LARGEST).any():
            at = int((u < 1 / LARGEST).argmax())
            raise SpectrumError(
                f"expected uncertainties above 0, got {u[at]:g} at {w[at]:g} µm; leave such points out", float(w[at])
            )

        notes: list[str] = []
        if (np.diff(w) < 0).any():
            notes.append("points put in order of wavelength")
        order = np.argsort(w, kind="stable")
        w, r, u = w[order], r[order], None if u is None else u[order]
        if (np.diff(w) == 0).any():
            count = len(w)
            w, r, u = _averaged(w, r, u)
            notes.append(f"{count - len(w)} points at repeated wavelengths averaged")
            _check_points(w)
        given = u is not None
        if u is None:
            r_inside = r[(w > NOISE_RANGE[0]) & (w < NOISE_RANGE[1])]
            second = np.abs(np.diff(r_inside, 2))
            size = max(np.median(np.abs(r_inside)), np.median(np.abs(r)))
            u = np.full(len(w), noise_of(np.median(second) if len(second) else 0.0, size))
        level, doubt = _level(w, r, u)
        if level < 1 / LARGEST:
            raise SpectrumError(f"expected a reflectance above 0 at 0.55 µm, where it is normalised; got {level:g}")
        if level < LEAST_SIGNAL * doubt:
            raise SpectrumError(
                f"expected a reflectance at 0.55 µm, where it is normalised, of at least {LEAST_SIGNAL:g} times its "
                f"uncertainty; got {level:g} with {doubt:.2g}"
            )
        if (far := np.abs(r) > MOST_TIMES_LEVEL * level).any():
            at = int(far.argmax())
            raise SpectrumError(
                f"expected reflectances of the size of that at 0.55 µm, {level:g}; got {r[at]:g} at {w[at]:g} µm",
                float(w[at]),
            )
        if not given:
            notes.append(estimated_note(u[0] / level))
        if abs(level - 1) > NORMALISED_WITHIN:
            r, u = r / level, u / level
        return cls(w, r, u, str(designation), tuple(notes))

    @classmethod
    def read(cls, path: str | Path) -> Spectrum:
        """Read a file of text, CSV, ECSV, VOTable or FITS: `astrd.reading.read`."""
        from astrd.reading import read  # it makes spectra itself

        return read(path)


def noise_of(second_difference: Any, size: Any) -> Any:
    """1 sigma of independent noise, from the median absolute second difference of neighbours.

    It is no smaller than a share of the median absolute reflectance, `size`. Numbers or arrays.
    """
    return np.maximum(1.4826 * second_difference / np.sqrt(6), _SMALLEST_NOISE * size)


def estimated_note(sigma: float) -> str:
    """What is said of a spectrum without uncertainties; `sigma` is relative to its level at 0.55 µm."""
    return f"no uncertainty given: 1 sigma of {sigma:.2g} estimated from the scatter"


def _level(w: Array, r: Array, u: Array) -> tuple[float, float]:
    """Reflectance at 0.55 µm and its 1 sigma: the median of the points around it, else interpolated."""
    near = np.abs(w - NORMALISATION_WAVELENGTH) <= NEAR
    if not near.any():
        return float(np.interp(NORMALISATION_WAVELENGTH, w, r)), float(np.interp(NORMALISATION_WAVELENGTH, w, u))
    return float(np.median(r[near])), float(np.median(u[near]) / np.sqrt(near.sum()))


def covers(wavelength: Array) -> bool:
    """Whether wavelengths (µm) reach from 0.50 to 0.85 µm, to a channel's width, by which a class can be told."""
    low, high = NEEDED_RANGE
    edge = CHANNEL_WIDTH + SLACK
    return bool(wavelength.min() <= low + edge and wavelength.max() >= high - edge)


def noisy(spectrum: Spectrum, random: np.random.Generator) -> Spectrum:
    """The spectrum with another draw of its own 1-sigma noise added to every point."""
    noise = spectrum.uncertainty * random.standard_normal(len(spectrum.wavelength))
    return replace(spectrum, reflectance=spectrum.reflectance + noise)


def _numbers(values: Any, what: str) -> Array:
    try:
        array = np.asarray(values)
        words = array.dtype.kind in "USb" or (array.dtype.kind == "O" and any(isinstance(v, str) for v in array.flat))
        numbers = None if words else array.astype(np.float64)
    except (TypeError, ValueError):
        numbers = None
    if numbers is None:
        raise SpectrumError(f"expected numbers as {what}, got {shown(values)}")
    if numbers.ndim != 1:
        raise SpectrumError(f"expected a list of numbers as {what}, got {shown(values)}")
    if (wrong := ~(np.abs(numbers) < LARGEST)).any():
        at = int(wrong.argmax())
        raise SpectrumError(f"expected finite numbers as {what}, got {numbers[at]} at position {at + 1}; leave it out")
    return numbers


def shown(values: Any) -> str:
    """What was got, for an error; long lists and texts are cut."""
    text = repr(values.tolist() if isinstance(values, np.ndarray) else values)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_points(wavelength: Array) -> None:
    if len(wavelength) == 0:
        raise SpectrumError(f"expected at least {FEWEST_POINTS} points, got an empty list")
    if np.median(wavelength) > LONGEST:
        unit = "Å" if np.median(wavelength) > 2000 else "nm"
        raise SpectrumError(
            f"expected wavelengths in µm, got {wavelength.min():g} to {wavelength.max():g}: that looks like {unit}"
        )
    if wavelength.min() <= 0:
        raise SpectrumError(f"expected wavelengths above 0, got {wavelength.min():g}; leave such points out")
    low, high = NEEDED_RANGE
    span = f"{wavelength.min():g} to {wavelength.max():g} µm"
    if not covers(wavelength):
        raise SpectrumError(f"expected wavelengths that cover {low:.2f} to {high:.2f} µm, got {span}")
    used = np.unique(wavelength[(wavelength >= low - WIDEST_GAP) & (wavelength <= high + WIDEST_GAP)])
    if len(used) < FEWEST_POINTS:
        raise SpectrumError(f"expected at least {FEWEST_POINTS} points from 0.4 to 0.95 µm, got {len(used)} ({span})")
    gaps = np.diff(used)
    relevant = (used[1:] > low) & (used[:-1] < high)
    widest = int(np.where(relevant, gaps, 0).argmax())
    if gaps[widest] > WIDEST_GAP + SLACK:
        raise SpectrumError(
            f"expected no gap wider than {WIDEST_GAP} µm between {low:.2f} and {high:.2f} µm, "
            f"got one from {used[widest]:g} to {used[widest + 1]:g} µm"
        )


def _averaged(w: Array, r: Array, u: Array | None) -> tuple[Array, Array, Array | None]:
    unique, place = np.unique(w, return_inverse=True)
    weight = np.ones(len(w)) if u is None else 1 / u**2
    total = np.bincount(place, weight)
    mean = np.bincount(place, weight * r) / total
    return unique, mean, None if u is None else 1 / np.sqrt(total)

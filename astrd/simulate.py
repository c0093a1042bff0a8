"""The simulated survey: spectra that resemble SMASS II, in any number, without the archive.

A spectrum is the mean of its Bus class plus bounded normal scatter along the components that all classes share. It
is sampled, and made noisy, as the archive's raw spectra are. All that is known of the archive is a small file of
statistics, which `python -m astrd.simulate derive` makes again.

Source of the statistics: the spectra of Bus & Binzel 2002, Icarus 158, 106, doi:10.1006/icar.2002.6857.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import ndtr, ndtri

from astrd.dataset import RAW_SCHEMA
from astrd.smoothing import WAVELENGTH, bus_smoothing
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF

Array = NDArray[np.float64]

STATISTICS_PATH: Final = Path(__file__).parents[1] / "data" / "smass2_statistics.json"

RAW_WAVELENGTH: Final[Array] = np.round(np.linspace(0.435, 0.925, 197), 4)
"""Where the archive's raw spectra have their points, in micrometres."""

COMPONENTS: Final = 8
SCATTER_LIMIT: Final = 1.6
"""Scatter ends at this many standard deviations: classes are regions with borders, so none trails far into another."""

NOISE_LIMIT: Final = 2.5
"""A spectrum's noise stays within this many standard deviations of its log-normal, as in the archive."""

_SMALLEST_MEASURED: Final = 3  # members from which a class has a scatter of its own
_NOISE_DRAWS: Final = 4
_FILE: Final = 50_000  # spectra of a file of a written survey
_BLOCK: Final = 4096  # spectra drawn together: bounds the memory of the temporary arrays


@dataclass(frozen=True)
class SurveyStatistics:
    """What the simulation knows of an archive of k classes.

    `mean` (k, 49) and `component` (8, 49) are reflectances on the 49 channels, `scatter` (k, 8) the standard deviation
    along each component. On the points of `RAW_WAVELENGTH`, all of shape (197,): `uncertainty` is the typical 1 sigma,
    `lost_after_kept` and `lost_after_lost` are the probabilities that a point is missing after one that is there, and
    after one that is missing. `uncertainty_spread` is the standard deviation of the logarithm of a spectrum's 1 sigma
    relative to the typical one, and `noise_ratio` the true noise in units of the stated 1 sigma.
    """

    bus_class: tuple[str, ...]
    count: NDArray[np.int64]
    mean: Array
    component: Array
    scatter: Array
    uncertainty: Array
    lost_after_kept: Array
    lost_after_lost: Array
    uncertainty_spread: float
    noise_ratio: float

    def write(self, path: Path) -> None:
        """Write the statistics as JSON, rounded to what they are worth."""
        rounded = {name: _rounded(value) for name, value in dataclasses.asdict(self).items()}
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in rounded.items())
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    @classmethod
    def from_file(cls, path: Path = STATISTICS_PATH) -> SurveyStatistics:
        """Read what `write` wrote.

        Raises
        ------
        FileNotFoundError
            If it is not there; the message names the command that makes it.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no statistics at {path}: make them with `python -m astrd.simulate derive`")
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        arrays = {name: np.array(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **arrays, "bus_class": tuple(values["bus_class"])})


def reference_statistics(raw: pd.DataFrame) -> SurveyStatistics:
    """Measure the statistics of an archive.

    Parameters
    ----------
    raw
        A table in the columns of `dataset.RAW_SCHEMA`, with the sampling of the SMASS II archive.
    """
    wavelength, reflectance, uncertainty = (
        [np.asarray(values) for values in raw[c]] for c in ("wavelength", "reflectance", "uncertainty")
    )
    smoothed = bus_smoothing(wavelength, reflectance, uncertainty)
    labels = np.array(raw["bus_class"].tolist())
    classes = tuple(bus_class for bus_class in BUS_CLASSES if bus_class in labels)
    code = np.array([classes.index(label) for label in labels])
    count = np.bincount(code)
    mean = np.array([smoothed[code == k].mean(axis=0) for k in range(len(classes))])

    residual = smoothed - mean[code]
    component = np.linalg.svd(residual, full_matrices=False)[2][:COMPONENTS]
    component *= np.sign(component[np.arange(len(component)), np.abs(component).argmax(axis=1)])[:, None]

    stated, kept = _on_raw_grid(wavelength, uncertainty)
    noise_ratio = _noise_ratio(wavelength, reflectance, uncertainty, smoothed)
    noise = _smoothed_noise(wavelength, reflectance, uncertainty, noise_ratio, smoothed) @ component.T
    score = residual @ component.T
    pooled = (score**2).sum(axis=0) / (len(score) - len(classes))
    variance = np.array(
        [
            score[code == k].var(axis=0, ddof=1) - (noise[:, code == k] ** 2).mean(axis=(0, 1))
            if count[k] >= _SMALLEST_MEASURED
            else pooled - (noise**2).mean(axis=(0, 1))
            for k in range(len(classes))
        ]
    )

    level = np.nanmedian(stated, axis=1)
    before = np.pad(kept[:, :-1], ((0, 0), (1, 0)))
    return SurveyStatistics(
        bus_class=classes,
        count=count,
        mean=mean,
        component=component,
        scatter=np.sqrt(variance.clip(min=0.0)),
        uncertainty=np.nanmedian(stated / level[:, None], axis=0) * np.median(level),
        lost_after_kept=_share(~kept & before, before),
        lost_after_lost=_share(~kept & ~before, ~before),
        uncertainty_spread=float(np.log(level).std()),
        noise_ratio=noise_ratio,
    )


def survey(size: int, seed: int = 0, statistics: SurveyStatistics | None = None) -> pd.DataFrame:
    """Simulated raw spectra in the columns of `dataset.RAW_SCHEMA`.

    Parameters
    ----------
    size
        Number of spectra, at least 1. Classes are as frequent as in the archive, by largest remainder.
    seed
        Equal seeds and sizes give equal surveys.
    statistics
        What to resemble; the SMASS II archive by default.

    Returns
    -------
    pd.DataFrame
        One row a spectrum. `reference_reflectance` is the truth without noise on the 49 channels, as in `channels`.

    Raises
    ------
    ValueError
        If `size` is below 1.
    """
    known = statistics or _archive_statistics()
    truth, labels = channels(size, seed, known)
    random = np.random.default_rng([seed, 1])
    to_raw = CubicSpline(WAVELENGTH, np.eye(len(WAVELENGTH)))(RAW_WAVELENGTH).T
    spectra: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for start in range(0, size, _BLOCK):
        block = truth[start : start + _BLOCK]
        kept = _draw_sampling(len(block), known, random)
        scale = np.exp(known.uncertainty_spread * random.standard_normal(len(block)).clip(-NOISE_LIMIT, NOISE_LIMIT))
        # Four decimals, as in the archive; neither the reflectance nor its error can reach 0.
        uncertainty = (scale[:, None] * known.uncertainty).round(4).clip(min=1e-4)
        reflectance = block @ to_raw + known.noise_ratio * uncertainty * random.standard_normal(uncertainty.shape)
        reflectance = reflectance.round(4).clip(min=1e-4)
        ends = kept.sum(axis=1).cumsum().tolist()
        values = (np.broadcast_to(RAW_WAVELENGTH, kept.shape), reflectance, uncertainty)
        for column, flat in zip(spectra, (value[kept] for value in values), strict=True):
            column += [flat[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    nothing = pd.array([None] * size, dtype="str")
    return pd.DataFrame(
        {
            "designation": pd.array([f"SIM {i:06d}" for i in range(1, size + 1)], dtype="str"),
            "name": nothing,
            "tholen_class": nothing,
            "bus_class": pd.array(labels, dtype="str"),
            "main_group": pd.array([MAIN_GROUP_OF[label] for label in labels.tolist()], dtype="str"),
            "wavelength": spectra[0],
            "reflectance": spectra[1],
            "uncertainty": spectra[2],
            "rejected_rows": np.zeros(size, dtype=np.int64),
            "reference_reflectance": list(truth),
        },
        columns=RAW_SCHEMA.names,
    )


def channels(size: int, seed: int = 0, statistics: SurveyStatistics | None = None) -> tuple[Array, NDArray[np.str_]]:
    """The noise-free truth of `survey` on the 49 channels, and its Bus classes, without raw spectra.

    Returns
    -------
    tuple
        Reflectance of shape (size, 49), 1 at 0.55 µm, and class names of shape (size,).

    Raises
    ------
    ValueError
        If `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"expected a survey of at least 1 spectrum, got a size of {size}")
    known = statistics or _archive_statistics()
    random = np.random.default_rng([seed, 0])
    code = random.permutation(np.repeat(np.arange(len(known.count)), _apportioned(size, known.count)))
    border = ndtr(SCATTER_LIMIT)
    score = ndtri(random.uniform(1 - border, border, (size, len(known.component)))) * known.scatter[code]
    return known.mean[code] + score @ known.component, np.array(known.bus_class)[code]


def write(folder: Path, size: int, layout: Literal["channels", "raw"] = "channels", seed: int = 0) -> Iterator[int]:
    """Write a survey of any size as Parquet, some ten thousand spectra a file, to score it.

    Parameters
    ----------
    layout
        "channels": the truth without noise, as in `channels`. "raw": noisy spectra, as in `survey`.

    Yields
    ------
    int
        How many spectra have been written, after each file.

    Raises
    ------
    ValueError
        If `size` is below 1, or the folder holds something.
    """
    if size < 1:
        raise ValueError(f"expected a survey of at least 1 spectrum, got a size of {size}")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"expected a new or empty folder for the survey, got {folder}")
    for number, start in enumerate(range(0, size, _FILE)):
        rows = min(_FILE, size - start)
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        if layout == "raw":
            drawn = survey(rows, own_seed)
            columns = {
                name: pa.array(drawn[name]) for name in ("bus_class", "wavelength", "reflectance", "uncertainty")
            }
        else:
            reflectance, labels = channels(rows, own_seed)
            flat = pa.array(reflectance.ravel())
            spectra = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * len(WAVELENGTH), flat)
            columns = {"bus_class": pa.array(labels), "reflectance": spectra}
        columns["designation"] = pa.array([f"SIM {i:09d}" for i in range(start + 1, start + rows + 1)])
        unfinished = folder / f"_{number:05d}.part"
        pq.write_table(pa.table(columns), unfinished)
        unfinished.replace(folder / f"{number:05d}.parquet")
        yield start + rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the archive's statistics, or write a simulated survey: `python -m astrd.simulate --help`."""
    parser = argparse.ArgumentParser(prog="python -m astrd.simulate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    derive = commands.add_parser("derive", help="measure the archive's statistics")
    derive.set_defaults(run=_derive)
    derive.add_argument("--mirror", default="", help="folder or address that holds the archive's two files")
    derive.add_argument("--folder", type=Path, default=Path("data/raw"), help="where the archive's files belong")
    derive.add_argument("--output", type=Path, default=STATISTICS_PATH, help="the file of statistics to write")
    survey_of = commands.add_parser("survey", help="write a simulated survey as Parquet")
    survey_of.set_defaults(run=_write)
    survey_of.add_argument("output", type=Path, help="folder for its files")
    survey_of.add_argument("--size", type=int, required=True, help="number of spectra")
    survey_of.add_argument(
        "--layout", choices=["channels", "raw"], default="channels", help="49 channels, or raw lists"
    )
    survey_of.add_argument("--seed", type=int, default=0, help="equal seeds and sizes give equal surveys")
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


def _write(chosen: argparse.Namespace) -> None:
    for done in write(chosen.output, chosen.size, chosen.layout, chosen.seed):
        print(f"{done} of {chosen.size} spectra", flush=True)


def _derive(chosen: argparse.Namespace) -> None:
    from astrd import smass

    archive = smass.read(smass.fetch(chosen.folder, chosen.mirror))
    reference_statistics(archive.table).write(chosen.output)


@functools.cache
def _archive_statistics() -> SurveyStatistics:
    return SurveyStatistics.from_file()


def _apportioned(size: int, count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers in proportion to `count` whose sum is `size`: the largest remainders are rounded up."""
    whole, remainder = np.divmod(size * np.asarray(count, dtype=np.int64), count.sum())
    rounded_up = np.argsort(-remainder, kind="stable")[: size - whole.sum()]
    whole[rounded_up] += 1
    return np.asarray(whole)


def _draw_sampling(size: int, known: SurveyStatistics, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which points of `RAW_WAVELENGTH` are there: a walk along them, so that late starts, gaps and early ends occur."""
    chance = random.random((len(RAW_WAVELENGTH), size))
    kept = np.zeros(chance.shape, dtype=np.bool_)
    before = np.zeros(size, dtype=np.bool_)
    for i in range(len(chance)):
        before = chance[i] >= np.where(before, known.lost_after_kept[i], known.lost_after_lost[i])
        kept[i] = before
    return kept.T


def _on_raw_grid(wavelength: list[Array], values: list[Array]) -> tuple[Array, NDArray[np.bool_]]:
    """Values of each spectrum on `RAW_WAVELENGTH`, NaN where it has no point, and whether it has one."""
    placed = np.full((len(values), len(RAW_WAVELENGTH)), np.nan)
    for row, w, v in zip(placed, wavelength, values, strict=True):
        row[np.searchsorted(RAW_WAVELENGTH, w - 1e-6)] = v
    return placed, np.isfinite(placed)


def _noise_ratio(wavelength: list[Array], reflectance: list[Array], uncertainty: list[Array], smoothed: Array) -> float:
    """Median over the spectra of the RMS distance of raw points from their smooth curve, in stated sigmas."""
    ratios = []
    for w, r, u, curve in zip(
        wavelength, reflectance, uncertainty, CubicSpline(WAVELENGTH, smoothed.T)(RAW_WAVELENGTH).T, strict=True
    ):
        fitted = np.interp(w, RAW_WAVELENGTH, curve)
        level = ((r * fitted) / u**2).sum() / (fitted**2 / u**2).sum()  # the raw scale is not exactly 1 at 0.55 µm
        ratios.append(np.sqrt(np.mean(((r - level * fitted) / u) ** 2)))
    return float(np.median(ratios))


def _smoothed_noise(
    wavelength: list[Array], reflectance: list[Array], uncertainty: list[Array], ratio: float, smoothed: Array
) -> Array:
    """What the noise leaves in the smoothed spectra, shape (draws, n, 49): to tell it from scatter within classes."""
    random = np.random.default_rng(0)
    draws = []
    for _ in range(_NOISE_DRAWS):
        noisy = [r + ratio * u * random.standard_normal(len(r)) for r, u in zip(reflectance, uncertainty, strict=True)]
        draws.append(bus_smoothing(wavelength, noisy, uncertainty) - smoothed)
    return np.array(draws)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Array:
    """Share of the rows of `whole` that are in `part`, column by column; 1 where there are none."""
    of = whole.sum(axis=0)
    return np.asarray(np.where(of > 0, part.sum(axis=0) / np.maximum(of, 1), 1.0))


def _rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return (value.round(5) + 0.0).tolist()  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, np.ndarray):
        return value.tolist()
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

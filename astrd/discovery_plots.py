"""Figures of what no label taught: reconstructions, latent spaces, clusters, and of labels in doubt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrd.colours import GROUP_COLOURS
from astrd.dataset import LabelledSpectra
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import BUS_CLASSES, LABELS, MAIN_GROUPS, Target

Array = NDArray[np.float64]

_REFLECTANCE = "reflectance (1 at 0.55 µm)"


def reconstructions(spectra: LabelledSpectra, reconstructed: Array, title: str) -> Figure:
    """The best, the median and the worst reconstruction, three spectra of each."""
    rms = np.sqrt(((reconstructed - spectra.reflectance) ** 2).mean(axis=1))
    order = np.argsort(rms)
    middle = len(order) // 2
    chosen = {"best": order[:3], "median": order[middle - 1 : middle + 2], "worst": order[:-4:-1]}
    figure = Figure(figsize=(10, 8), layout="constrained")
    figure.suptitle(title)
    for line, (which, rows) in enumerate(chosen.items()):
        for column, row in enumerate(rows):
            axes = figure.add_subplot(3, 3, 3 * line + column + 1)
            axes.plot(WAVELENGTH, spectra.reflectance[row], ".", color="0.35", markersize=4, label="spectrum")
            axes.plot(WAVELENGTH, reconstructed[row], color=GROUP_COLOURS["S"], label="reconstruction")
            axes.set_title(
                f"{which}: {spectra.designation[row]} ({BUS_CLASSES[spectra.bus[row]]}), RMS {rms[row]:.4f}", fontsize=9
            )
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
            if line == column == 0:
                axes.legend(frameon=False, fontsize=8)
            if line == 2:
                axes.set_xlabel("wavelength (µm)", fontsize=9)
            if column == 0:
                axes.set_ylabel(_REFLECTANCE, fontsize=9)
    return figure


def latent_map(latent: Array, spectra: LabelledSpectra, title: str) -> Figure:
    """Two latent numbers of each spectrum, (n, 2), coloured by main group."""
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.add_subplot()
    for code, group in enumerate(MAIN_GROUPS):
        rows = spectra.codes("main_group") == code
        axes.scatter(
            latent[rows, 0],
            latent[rows, 1],
            s=10,
            alpha=0.75,
            linewidths=0,
            color=GROUP_COLOURS[group],
            label=f"{group} ({rows.sum()})",
        )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="latent 1", ylabel="latent 2", title=title)
    axes.legend(title="main group", frameon=False, fontsize=8, title_fontsize=8)
    return figure


def bic_and_stability(table: pd.DataFrame, threshold: float, title: str) -> Figure:
    """BIC, and below it the adjusted Rand index between seeds and to bootstraps, by the number of components."""
    figure = Figure(figsize=(6.4, 5.8), layout="constrained")
    figure.suptitle(title)
    upper, lower = figure.subplots(2, 1, sharex=True)
    chosen = table.loc[table["chosen"], "components"].item()
    upper.plot(table["components"], table["bic"], "o-", color="0.25", markersize=4)
    upper.set_ylabel("BIC (lower is better)")
    for name, label, group in (("seeds", "between seeds", "C"), ("bootstrap", "to bootstraps", "S")):
        mean, spread = table[f"ari_{name}_mean"], table[f"ari_{name}_sd"]
        lower.errorbar(
            table["components"], mean, spread, marker="o", markersize=4, capsize=2, color=GROUP_COLOURS[group],
            label=label,
        )  # fmt: skip
    lower.axhline(threshold, color="0.6", linewidth=1, linestyle="--", label="least to be stable")
    lower.set(xlabel="components", ylabel="adjusted Rand index", ylim=(0, 1.08), xticks=table["components"])
    lower.legend(frameon=False, fontsize=8, loc="lower left")
    for axes in (upper, lower):
        axes.axvline(chosen, color=GROUP_COLOURS["X"], linewidth=6, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    upper.annotate(f"chosen: {chosen}", (chosen, upper.get_ylim()[1]), xytext=(6, -10), textcoords="offset points")
    return figure


def heat_map(counts: pd.DataFrame, title: str) -> Figure:
    """Asteroids by cluster (rows) and catalogued class (columns), coloured by their share of the class."""
    values = counts.drop(columns="cluster")
    share = (values / values.sum(axis=0)).to_numpy(dtype=float)
    figure = Figure(figsize=(max(4.2, 0.36 * values.shape[1] + 2), 0.42 * len(values) + 1.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(values.to_numpy() > 0):
        axes.text(
            column, row, str(values.iat[row, column]), ha="center", va="center", fontsize=8,
            color="white" if share[row, column] > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks(range(values.shape[1]), values.columns, fontsize=9)
    axes.set_yticks(range(len(values)), counts["cluster"], fontsize=9)
    axes.set(xlabel="catalogued", ylabel="cluster", title=title)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label="share of the class")
    return figure


def cluster_spectra(spectra: Mapping[int, tuple[Array, Array]], titles: Mapping[int, str], title: str) -> Figure:
    """Mean spectrum and 1-sigma band of each cluster."""
    columns = min(4, len(spectra))
    lines = -(-len(spectra) // columns)
    figure = Figure(figsize=(2.7 * columns + 0.6, 2.4 * lines + 0.8), layout="constrained")
    figure.suptitle(title)
    every = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (number, (mean, spread)) in zip(every, spectra.items(), strict=False):
        axes.fill_between(WAVELENGTH, mean - spread, mean + spread, color=GROUP_COLOURS["C"], alpha=0.25, linewidth=0)
        axes.plot(WAVELENGTH, mean, color=GROUP_COLOURS["C"])
        axes.set_title(titles[number], fontsize=9)
        axes.tick_params(labelsize=8, labelbottom=True)
    for place, axes in enumerate(every):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_visible(place < len(spectra))
    figure.supxlabel("wavelength (µm)", fontsize=9)
    figure.supylabel(_REFLECTANCE, fontsize=9)
    return figure


def label_audit(audit: pd.DataFrame, train: LabelledSpectra, level: Target, most: int = 24) -> Figure:
    """Each contradicted spectrum over the mean and 1-sigma band of its catalogued and its suggested class."""
    contradicted = audit[audit["level"] == level]
    shown = contradicted.head(most)
    columns = 4
    lines = max(-(-len(shown) // columns), 1)
    figure = Figure(figsize=(12, 2.5 * lines + 1), layout="constrained")
    more = f" (first {most} of {len(contradicted)})" if len(contradicted) > most else ""
    figure.suptitle(f"Catalogued {level.replace('_', ' ')} contradicted by every model{more}")
    codes = train.codes(level)
    row_of = {designation: row for row, designation in enumerate(train.designation)}
    for place, entry in enumerate(shown.itertuples(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        for label, colour in ((entry.catalogued, "0.45"), (entry.suggested, GROUP_COLOURS["S"])):
            others = train.reflectance[(codes == LABELS[level].index(label))]
            mean, spread = others.mean(axis=0), others.std(axis=0)
            axes.fill_between(WAVELENGTH, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
            role = "catalogued" if label == entry.catalogued else "suggested"
            axes.plot(WAVELENGTH, mean, color=colour, linewidth=1, label=f"{role}: {label}")
        axes.plot(WAVELENGTH, train.reflectance[row_of[entry.designation]], color="black", linewidth=1.2)
        axes.set_title(f"{entry.rank}. {_called(entry)}: {entry.probability:.0%} {entry.suggested}", fontsize=9)
        axes.legend(frameon=False, fontsize=7, loc="best")
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("wavelength (µm); black: the asteroid; bands: 1 sigma of the class", fontsize=9)
    figure.supylabel(_REFLECTANCE, fontsize=9)
    if shown.empty:
        figure.text(0.5, 0.4, "no label is contradicted by every model", ha="center")
    return figure


def _called(entry: object) -> str:
    return " ".join(filter(None, (str(entry.designation), str(entry.name or ""))))  # type: ignore[attr-defined]

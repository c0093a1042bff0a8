"""Figures fit for a paper: column widths, 7 to 9 point type, embedded fonts; each as PNG at 300 dpi and as PDF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astrd import stress_figures
from astrd.calibration import at_temperature, expected_calibration_error
from astrd.colours import CLUSTER_COLOURS, GROUP_COLOURS
from astrd.dataset import written_whole
from astrd.metrics import levels
from astrd.plots import TARGET_TITLE, reliability_curve
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import CLASSES_BY_GROUP, LABELS, MAIN_GROUP_OF, MAIN_GROUPS, Target

if TYPE_CHECKING:
    from astrd.findings import Findings, Judgement

ONE_COLUMN: Final = 3.5
TWO_COLUMNS: Final = 7.2
"""Widths in inches of one column, and of a page of two, in the journals of the field."""

DPI: Final = 300
PAPER: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
}
MARKERS: Final = dict(zip(MAIN_GROUPS, "osD^", strict=True))
_ORDER: Final = tuple(name for group in MAIN_GROUPS for name in CLASSES_BY_GROUP[group])


def all_of(features: pd.DataFrame, findings: Findings | None = None) -> dict[str, Figure]:
    """Every figure that the data and findings allow, by the name of its file."""
    with rc_context(PAPER):
        figures = {"class_means": class_means(features)}
        if findings and findings.judgement:
            figures["confusion_main_group"] = confusion(findings.judgement, "main_group", ONE_COLUMN)
            figures["confusion_bus_class"] = confusion(findings.judgement, "bus_class", TWO_COLUMNS)
            figures["reliability"] = reliability(findings.judgement)
            figures |= stressed(findings.judgement)
        if findings and findings.latent_space is not None:
            figures["latent_space"] = latent_space(features, findings.latent_space)
        if findings and findings.stability is not None:
            figures["bic_and_stability"] = bic_and_stability(findings.stability)
        return figures


def stressed(judgement: Judgement) -> dict[str, Figure]:
    """How answers hold for shorter and noisier spectra, for each class, and where noise draws disagree."""
    drawing = {
        "conditions": (stress_figures.conditions, TWO_COLUMNS),
        "classes": (stress_figures.classes, TWO_COLUMNS),
        "draws": (stress_figures.draws, ONE_COLUMN),
    }
    tables = judgement.stress
    return {name: draw(tables[name], width=width) for name, (draw, width) in drawing.items() if name in tables}


def write(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as PNG and PDF, whole or not at all, and return the files."""
    written = []
    for name, figure in figures.items():
        for suffix in ("png", "pdf"):
            path = Path(folder) / f"{name}.{suffix}"
            with rc_context(PAPER), written_whole(path) as partial:
                figure.savefig(partial, format=suffix, dpi=DPI)
            written.append(path)
    return written


def class_means(features: pd.DataFrame) -> Figure:
    """Mean spectrum and 1-sigma band of every class that has members, over all of them, five in a row."""
    spectra = np.array(features["reflectance"].tolist())
    present = [name for name in _ORDER if (features["bus_class"] == name).any()]
    rows = -(-len(present) // 5)
    figure = Figure(figsize=(TWO_COLUMNS, 1.32 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, 5, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, present, strict=False):
        members = spectra[(features["bus_class"] == name).to_numpy()]
        colour, mean = GROUP_COLOURS[MAIN_GROUP_OF[name]], members.mean(axis=0)
        axes.plot(WAVELENGTH, members.T, color=colour, linewidth=0.25, alpha=max(0.08, 0.6 / np.sqrt(len(members))))
        if len(members) > 1:
            sigma = members.std(axis=0, ddof=1)
            axes.fill_between(WAVELENGTH, mean - sigma, mean + sigma, color=colour, alpha=0.3, linewidth=0)
        axes.plot(WAVELENGTH, mean, color="black", linewidth=1.1)
        axes.text(0.05, 0.93, name, transform=axes.transAxes, va="top", fontsize=9, fontweight="bold", color=colour)
        axes.text(0.05, 0.76, f"n = {len(members)}", transform=axes.transAxes, va="top", fontsize=7)
        axes.set_xticks([0.5, 0.7, 0.9])
        axes.tick_params(direction="in", top=True, right=True)
    for axes in panels[len(present) :]:
        axes.set_visible(False)
    low, high = np.quantile(spectra, [0.0005, 0.9995])
    panels[0].set(xlim=(0.43, 0.93), ylim=(low - 0.03, high + 0.05))
    figure.supxlabel("wavelength (µm)", fontsize=8)
    figure.supylabel("reflectance, 1 at 0.55 µm", fontsize=8)
    return figure


def confusion(judgement: Judgement, level: Target, width: float) -> Figure:
    """Catalogued against predicted class out of fold: counts, coloured by their share of the row."""
    order = MAIN_GROUPS if level == "main_group" else _ORDER
    truth, predicted = judgement.truth(level), judgement.predicted(level)
    labels = [name for name in order if name in {*truth, *predicted}]
    counts = pd.crosstab(pd.Series(truth), pd.Series(predicted)).reindex(index=labels, columns=labels, fill_value=0)
    share = counts.to_numpy() / np.maximum(counts.to_numpy().sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(width, 0.86 * width), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts.to_numpy() > 0):
        axes.text(
            column, row, str(counts.iat[row, column]), ha="center", va="center", fontsize=7,
            color="white" if share[row, column] > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel=f"predicted {TARGET_TITLE[level]}", ylabel=f"catalogued {TARGET_TITLE[level]}")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, label="share of the catalogued class")
    bar.outline.set_visible(False)
    return figure


def reliability(judgement: Judgement) -> Figure:
    """Accuracy against confidence out of fold, before and after the temperature, for main group and Bus class."""
    figure = Figure(figsize=(TWO_COLUMNS, 3.2), layout="constrained")
    kinds = {
        "before": judgement.probabilities,
        f"after (temperature {judgement.temperature:.2f})": at_temperature(
            judgement.probabilities, judgement.temperature
        ),
    }
    targets: tuple[Target, ...] = ("main_group", "bus_class")
    for place, target in enumerate(targets, start=1):
        axes = figure.add_subplot(1, 2, place)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--", label="perfect")
        truth = np.array([LABELS[target].index(name) for name in judgement.truth(target)])
        for (kind, probabilities), colour, marker in zip(kinds.items(), GROUP_COLOURS.values(), "os", strict=False):
            answer = levels("bus_class", probabilities)[target]
            confidence, accuracy, spread = reliability_curve(answer, truth)
            error = expected_calibration_error(answer, truth)
            axes.errorbar(
                confidence, accuracy, spread, color=colour, marker=marker, markersize=3, capsize=1.5, elinewidth=0.7,
                label=f"{kind}: error {error:.3f}",
            )  # fmt: skip
        _plain(axes)
        axes.set(xlabel="confidence", ylabel="accuracy", title=TARGET_TITLE[target], xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="lower right")
    return figure


def latent_space(features: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """The two latent dimensions, by main group and by cluster."""
    both = features[["designation", "main_group"]].merge(table, on="designation")
    figure = Figure(figsize=(TWO_COLUMNS, 3.5), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for group in MAIN_GROUPS:
        rows = both[both["main_group"] == group]
        panels[0].scatter(
            rows["latent_1"], rows["latent_2"], s=7, marker=MARKERS[group], color=GROUP_COLOURS[group], alpha=0.7,
            linewidths=0, label=f"{group} ({len(rows)})",
        )  # fmt: skip
    panels[0].legend(title="main group", title_fontsize=7, markerscale=1.6, handletextpad=0.1)
    for number, rows in both.groupby("cluster"):
        place = int(number) - 1
        colour = CLUSTER_COLOURS[place % len(CLUSTER_COLOURS)]
        x, y = rows["latent_1"], rows["latent_2"]
        panels[1].scatter(x, y, s=7, marker="osD^vP*X"[place % 8], color=colour, alpha=0.7, linewidths=0)
        panels[1].text(
            x.median(), y.median(), str(place + 1), fontsize=9, fontweight="bold", ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )  # fmt: skip
    for axes, title in zip(panels, ("main group", "cluster"), strict=True):
        _plain(axes)
        axes.set(xlabel="latent 1", title=f"by {title}")
    panels[0].set(ylabel="latent 2")
    return figure


def bic_and_stability(table: pd.DataFrame) -> Figure:
    """BIC of mixtures against their number of components, beside the agreement of repeated fits.

    A ring marks the number that was chosen in each space, by the column `chosen`.
    """
    figure = Figure(figsize=(TWO_COLUMNS, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (space, rows), colour, marker in zip(table.groupby("space"), GROUP_COLOURS.values(), "osD^", strict=False):
        k, title = rows["components"], str(space).replace("_", " ")
        bic = rows["bic"] - rows["bic"].min()  # spaces of different size have no common zero
        left.plot(k, bic, color=colour, marker=marker, markersize=3, label=title)
        left.plot(k[rows["chosen"]], bic[rows["chosen"]], "o", markersize=8, markerfacecolor="none", color=colour)
        right.errorbar(
            k, rows["ari_seeds_mean"], rows.get("ari_seeds_sd"), color=colour, marker=marker, markersize=3, capsize=1.5,
            elinewidth=0.7, label=f"{title}: seeds",
        )  # fmt: skip
        if "ari_bootstrap_mean" in rows:
            right.plot(
                k, rows["ari_bootstrap_mean"], color=colour, marker=marker, markersize=3, markerfacecolor="white",
                linestyle=":", label=f"{title}: bootstraps",
            )  # fmt: skip
    _plain(left)
    _plain(right)
    left.set(xlabel="components", ylabel="BIC above its least")
    right.set(xlabel="components", ylabel="adjusted Rand index between fits", ylim=(0, 1.05))
    left.legend()
    right.legend()
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)

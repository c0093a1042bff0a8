"""Figures of how answers hold for spectra that are worse than the archive's: see `astrd.stress`."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astrd.colours import GROUP_COLOURS
from astrd.degraded import AS_OBSERVED, CUTS, SIGNAL_TO_NOISE, cut_name, noise_name
from astrd.plots import TARGET_TITLE
from astrd.taxonomy import CLASSES_BY_GROUP, MAIN_GROUP_OF, MAIN_GROUPS

_SMALL: Final = 7  # point
_LINES: Final = (
    ("main_accuracy", "main group right", GROUP_COLOURS["C"], "-", "o"),
    ("main_confidence", "its probability", GROUP_COLOURS["C"], ":", ""),
    ("bus_accuracy", "Bus class right", GROUP_COLOURS["S"], "-", "o"),
    ("bus_confidence", "its probability", GROUP_COLOURS["S"], ":", ""),
    ("held_at_90%", "in the 90% set", GROUP_COLOURS["X"], "-", "s"),
)


def conditions(table: pd.DataFrame, title: str = "", width: float = 11) -> Figure:
    """Accuracy, mean probability and coverage of the sets against what was cut off, and against the noise.

    Parameters
    ----------
    table
        What `stress.by_condition` made.
    width
        Of the figure, in inches.
    """
    rows = table.set_index("condition")
    panels = (
        ("range that was seen", [cut_name(*ends) for ends in CUTS]),
        ("signal-to-noise ratio of a raw point", [noise_name(ratio) for ratio in SIGNAL_TO_NOISE]),
    )
    figure = Figure(figsize=(width, 0.42 * width), layout="constrained")
    if title:
        figure.suptitle(title)
    first: Axes | None = None
    for place, (label, names) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 2, place, sharey=first)
        first = first or axes
        names = [AS_OBSERVED, *names]
        places = np.arange(len(names))
        for column, says, colour, style, marker in _LINES:
            axes.plot(places, rows.loc[names, column], style, marker=marker, color=colour, label=says, markersize=4)
        axes.axhline(0.9, color="0.75", linewidth=0.8, zorder=0)
        short = [name.removesuffix(" µm").removeprefix("S/N ").replace(" to ", "–") for name in names]
        axes.set_xticks(places, [name.replace("as observed", "as\nobserved") for name in short], fontsize=_SMALL)
        axes.set(xlabel=label + (" (µm)" if place == 1 else ""), ylim=(0.5, 1.01))
        axes.spines[["top", "right"]].set_visible(False)
        for x, name in zip(places, names, strict=True):
            axes.text(
                float(x), 0.51, f"{rows.at[name, 'set_size_at_90%']:.1f}", ha="center", fontsize=_SMALL, color="0.35"
            )
    assert first is not None
    first.set_ylabel("share of the training part, out of fold")
    first.text(-0.2, 0.54, "classes in a 90% set:", fontsize=_SMALL, color="0.35", ha="left")
    first.legend(frameon=False, fontsize=_SMALL, loc="lower left", bbox_to_anchor=(0, 0.1), ncols=2)
    return figure


def classes(table: pd.DataFrame, title: str = "", width: float = 9) -> Figure:
    """Share of each Bus class that is answered rightly, and that its 90% sets hold.

    Parameters
    ----------
    table
        What `stress.by_class` made.
    width
        Of the figure, in inches.
    """
    rows = table.set_index("bus_class")
    order = [name for group in MAIN_GROUPS for name in CLASSES_BY_GROUP[group] if name in rows.index]
    figure = Figure(figsize=(width, 0.42 * width), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(order))
    axes.bar(places, rows.loc[order, "bus_accuracy"], color=[GROUP_COLOURS[MAIN_GROUP_OF[name]] for name in order])
    axes.plot(places, rows.loc[order, "held_at_90%"], "_", color="black", markersize=14, markeredgewidth=2)
    axes.axhline(0.9, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xticks(places, [f"{name}\n{rows.at[name, 'spectra']:.0f}" for name in order], fontsize=_SMALL)
    axes.plot([], [], "_", color="black", markersize=10, markeredgewidth=2, label="held by the 90% set")
    axes.bar([0], [0], color="0.6", label="Bus class right")
    axes.legend(frameon=False, fontsize=_SMALL, loc="upper right", bbox_to_anchor=(1, 1.16), ncols=2)
    axes.set(xlabel="Bus class, and how many there are", ylabel="share, out of fold", ylim=(0, 1.04))
    axes.set_title(title, loc="left")
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draws(table: pd.DataFrame, title: str = "", width: float = 6.4) -> Figure:
    """Share of right answers against how many noise draws agree with them.

    Parameters
    ----------
    table
        What `stress.by_draws` made.
    width
        Of the figure, in inches.
    """
    figure = Figure(figsize=(width, 0.7 * width), layout="constrained")
    axes = figure.add_subplot()
    agreeing = table.columns[0]
    for (level, rows), colour in zip(table.groupby("level", sort=False), GROUP_COLOURS.values(), strict=False):
        error = np.sqrt(rows["right"] * (1 - rows["right"]) / rows["spectra"])
        auc = rows["auc"].iat[0]
        axes.errorbar(
            rows[agreeing].astype(str), rows["right"], error, marker="o", capsize=2, color=colour,
            label=f"{TARGET_TITLE[level]} (area {auc:.2f})",
        )  # fmt: skip
    axes.set(xlabel=agreeing.replace("_", " "), ylabel="share of right answers, out of fold", ylim=(0, 1.04))
    axes.set_title(title)
    axes.legend(frameon=False, fontsize=_SMALL, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure

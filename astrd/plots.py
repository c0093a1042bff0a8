"""Figures: matplotlib for what is looked at in a run's page, Plotly for what is explored there.

Figures are made without pyplot, whose state is shared by all threads of a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from astrd.calibration import expected_calibration_error
from astrd.colours import GROUP_COLOURS
from astrd.taxonomy import CLASSES_BY_GROUP, LABELS, MAIN_GROUP_OF, MAIN_GROUPS, Target
from astrd.tuning import Trial

TARGET_TITLE: Final[dict[Target, str]] = {
    "x_vs_rest": "X or the rest",
    "main_group": "main group",
    "bus_class": "Bus class",
}


def class_counts(classes: Sequence[str], title: str) -> Figure:
    """Number of asteroids in each Bus class, in the order of the main groups."""
    counts = pd.Series(list(classes)).value_counts()
    order = [name for group in MAIN_GROUPS for name in CLASSES_BY_GROUP[group]]
    values = [int(counts.get(name, 0)) for name in order]
    figure, axes = _figure(9, 3.6)
    bars = axes.bar(order, values, color=[GROUP_COLOURS[MAIN_GROUP_OF[name]] for name in order])
    axes.bar_label(bars, fontsize=8)
    axes.margins(x=0.01, y=0.12)
    axes.set(ylabel="asteroids", xlabel="Bus class", title=title)
    for group in MAIN_GROUPS:
        total = sum(int(counts.get(name, 0)) for name in CLASSES_BY_GROUP[group])
        axes.bar([order[0]], [0], color=GROUP_COLOURS[group], label=f"{group} ({total})")
    axes.legend(title="main group", ncols=4, fontsize=8, title_fontsize=8, frameon=False)
    return figure


def confusion_matrix(counts: pd.DataFrame, title: str) -> Figure:
    """Catalogued class (rows) against predicted class (columns): counts, coloured by their share of the row."""
    share = _row_share(counts)
    size = max(3.6, 0.36 * len(counts) + 1.6)
    figure, axes = _figure(size + 0.6, size)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    small = len(counts) > 8
    for row, column in np.argwhere(counts.to_numpy() > 0):
        axes.text(
            column, row, str(counts.iat[row, column]), ha="center", va="center", fontsize=7 if small else 11,
            color="white" if share[row, column] > 0.55 else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(counts)), counts.columns, fontsize=8 if small else 10, rotation=90 if small else 0)
    axes.set_yticks(range(len(counts)), counts.index, fontsize=8 if small else 10)
    axes.set(xlabel="predicted", ylabel="catalogued", title=title)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label="share of the catalogued class")
    return figure


def confusion_page(
    target: Target, designations: Sequence[str], truth: NDArray[np.int64], predicted: NDArray[np.int64], title: str
) -> str:
    """The confusion matrix as a self-contained page, whose cells list their asteroids when pointed at."""
    import plotly.graph_objects as go

    labels = [LABELS[target][code] for code in np.union1d(truth, predicted)]
    members: dict[tuple[str, str], list[str]] = {}
    for designation, row, column in zip(designations, truth, predicted, strict=True):
        members.setdefault((LABELS[target][row], LABELS[target][column]), []).append(designation)
    counts = np.array([[len(members.get((row, column), ())) for column in labels] for row in labels])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    hover = [
        [
            f"<b>{row} predicted as {column}</b><br>{len(members.get((row, column), ()))} asteroids<br>"
            + _wrapped(members.get((row, column), ()))
            for column in labels
        ]
        for row in labels
    ]
    figure = go.Figure(
        go.Heatmap(
            z=share, x=labels, y=labels, text=np.where(counts > 0, counts.astype(str), ""), texttemplate="%{text}",
            customdata=hover, hovertemplate="%{customdata}<extra></extra>", colorscale="Blues", zmin=0, zmax=1,
            colorbar={"title": "share of<br>the class"},
        )
    )  # fmt: skip
    figure.update_layout(
        title=title, xaxis_title="predicted", yaxis_title="catalogued", template="plotly_white", margin={"t": 60}
    )
    figure.update_xaxes(type="category", showgrid=False, constrain="domain")
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed", scaleanchor="x", constrain="domain")
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def learning_curves(curves: pd.DataFrame, title: str) -> Figure:
    """Loss in training and validation, a pair of lines for each member, with the epoch whose weights were kept."""
    figure, axes = _figure(6.4, 3.8)
    kept = []
    for number, (_, member) in enumerate(curves.groupby("member")):
        epochs = np.arange(1, len(member) + 1)
        best = int(member["validation_loss"].to_numpy().argmin())
        kept.append(best + 1)
        first = number == 0
        axes.plot(epochs, member["loss"], color=GROUP_COLOURS["C"], alpha=0.8, label="training" if first else None)
        axes.plot(
            epochs, member["validation_loss"], color=GROUP_COLOURS["S"], alpha=0.8,
            label="validation" if first else None,
        )  # fmt: skip
        axes.plot(
            best + 1, member["validation_loss"].iat[best], "o", color=GROUP_COLOURS["S"], markersize=5,
            label="weights kept" if first else None,
        )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="loss", title=title)
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    return figure


def reliability(
    levels: Mapping[str, Mapping[str, NDArray[np.float64]]], truths: Mapping[str, NDArray[np.int64]], title: str
) -> Figure:
    """Accuracy against confidence, a panel for each level, a line for each kind of probabilities.

    Parameters
    ----------
    levels
        By level, by kind ("before", "after"): probabilities (n, labels) of spectra that were not trained on.
    truths
        By level: codes of the right labels, shape (n,).
    """
    figure = Figure(figsize=(4.4 * len(levels), 4.2), layout="constrained")
    figure.suptitle(title)
    for place, (level, kinds) in enumerate(levels.items(), start=1):
        axes = figure.add_subplot(1, len(levels), place)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfect")
        for colour, (kind, probabilities) in zip(GROUP_COLOURS.values(), kinds.items(), strict=False):
            x, y, spread = reliability_curve(probabilities, truths[level])
            error = expected_calibration_error(probabilities, truths[level])
            axes.errorbar(
                x, y, spread, marker="o", markersize=4, capsize=2, color=colour, label=f"{kind} (error {error:.3f})"
            )
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xlabel="confidence", ylabel="accuracy", title=level, xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def reliability_curve(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean confidence, accuracy and its binomial standard error in ten parts of rising confidence, each shape (10,)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    parts = np.array_split(np.argsort(confidence), 10)  # as many in each: a point of few would only be noise
    x, y = (np.array([values[part].mean() for part in parts]) for values in (confidence, right))
    return x, y, np.sqrt(y * (1 - y) / [len(part) for part in parts])


def optimisation_history(trials: Sequence[Trial], score: str, minimise: bool) -> Figure:
    """Each trial's score, the best so far, and which trials failed."""
    figure, axes = _figure(6.4, 3.8)
    scored = [(place, trial.score) for place, trial in enumerate(trials, start=1) if trial.score is not None]
    places, values = zip(*scored, strict=True) if scored else ((), ())
    best = (np.minimum if minimise else np.maximum).accumulate(values) if values else ()
    axes.plot(places, values, "o", color=GROUP_COLOURS["C"], markersize=4, label="trial")
    axes.step(places, best, where="post", color=GROUP_COLOURS["S"], label="best so far")
    for place in (place for place, trial in enumerate(trials, start=1) if trial.failed):
        axes.axvline(place, color="0.6", linewidth=1, linestyle=":")
    if failed := sum(trial.failed for trial in trials):
        axes.plot([], [], ":", color="0.6", label=f"failed ({failed})")
    axes.set(xlabel="trial", ylabel=score.replace("_", " "), title="Optimisation history")
    axes.legend(frameon=False, fontsize=8)
    return figure


def parameter_importances(importances: Mapping[str, float]) -> Figure:
    """Share of the scores' variance that each hyperparameter explains."""
    figure, axes = _figure(6.4, max(2.0, 0.36 * len(importances) + 1.2))
    names = list(importances)[::-1]
    bars = axes.barh([name.replace("_", " ") for name in names], [importances[name] for name in names], color="#0072B2")
    axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.set(xlabel="share of the scores' variance", title="Importance of the hyperparameters")
    axes.margins(x=0.12)
    if not names:
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", transform=axes.transAxes)
    return figure


def grid_scores(table: pd.DataFrame, title: str) -> Figure:
    """Mean score of a grid search against C, a line for each kernel (and its width, where it has one)."""
    figure, axes = _figure(6.4, 3.8)
    widths = table["gamma"] if "gamma" in table else pd.Series(np.nan, index=table.index)
    names = [
        kernel if pd.isna(width) else f"{kernel}, gamma {width:g}"
        for kernel, width in zip(table["kernel"], widths, strict=True)
    ]
    for name, rows in table.groupby(names):
        axes.errorbar(
            rows["C"], rows["weighted_f1"], rows["weighted_f1_sd"], marker="o", markersize=4, capsize=2, label=name
        )
    axes.set_xscale("log")
    axes.set(xlabel="C", ylabel="weighted F1, mean and sd over folds", title=title)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _row_share(counts: pd.DataFrame) -> NDArray[np.float64]:
    values = counts.to_numpy(dtype=float)
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


def _wrapped(names: Sequence[str], width: int = 10, most: int = 60) -> str:
    shown = list(names[:most])
    lines = [", ".join(shown[i : i + width]) for i in range(0, len(shown), width)]
    return "<br>".join(lines) + (f"<br>and {len(names) - most} more" if len(names) > most else "")

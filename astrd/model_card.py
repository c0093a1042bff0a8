"""What a registered version says of itself: data, split, scores, calibration, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from astrd.dataset import SMALLEST_CLASS, DatasetRef, LabelledSpectra
from astrd.taxonomy import BUS_CLASSES

_SCORES = {
    "main_weighted_f1": "main group, weighted F1",
    "main_accuracy": "main group, accuracy",
    "bus_accuracy": "Bus class, accuracy",
    "bus_macro_f1": "Bus class, macro F1",
    "x_f1": "X or the rest, F1 of X",
}


def model_card(
    name: str,
    features: DatasetRef,
    train: LabelledSpectra,
    test: LabelledSpectra,
    scores: Mapping[str, float],
    decision: str,
) -> str:
    """A model card in Markdown (Mitchell et al. 2019).

    Parameters
    ----------
    name
        Of the model in the catalogue.
    scores
        The metrics of its training run.
    decision
        Why it was promoted, or not.
    """
    warning = (
        ["**Trained on simulated spectra: no result about real asteroids.**", ""]
        if features.data_source == "simulated"
        else []
    )
    absent, few = _rare_classes(train)
    rows = [
        f"| {title} | {scores[f'cv_{score}']:.3f} ± {scores[f'cv_{score}_sd']:.3f} | {scores[f'test_{score}']:.3f}"
        f"{_interval(score, scores, len(test))} |"
        for score, title in _SCORES.items()
    ]
    lines = [
        *warning,
        f"**{name}**: visible reflectance spectra (0.44 to 0.92 µm) to Bus classes and main groups.",
        "",
        f"**Data**: {features.data_source}, SHA-256 {features.sha256}; {len(train)} spectra to train, {len(test)} to "
        "test, split by Bus class and fixed by a hash of the designation.",
        "",
        "| score | cross-validated (mean ± sd of 5 folds) | test part (95% interval) |",
        "|---|---|---|",
        *rows,
        "",
        f"**Calibration**: temperature {scores['temperature']:.2f}, fitted out of fold; expected calibration error "
        f"{scores['cv_calibration_error_main_group_after']:.3f} (main group), "
        f"{scores['cv_calibration_error_bus_class_after']:.3f} (Bus class).",
        "",
        f"**Limits**: cannot answer {', '.join(absent) or 'nothing'} (no training spectrum); saw fewer than "
        f"{SMALLEST_CLASS} of {', '.join(few) or 'none'}, which no score counts. Spectra must cover 0.50 to 0.85 µm.",
        "",
        f"**Decision**: {decision}.",
    ]
    return "\n".join(lines)


def _rare_classes(train: LabelledSpectra) -> tuple[list[str], list[str]]:
    counts = np.bincount(train.bus, minlength=len(BUS_CLASSES))
    absent = [name for name, count in zip(BUS_CLASSES, counts, strict=True) if count == 0]
    few = [name for name, count in zip(BUS_CLASSES, counts, strict=True) if 0 < count < SMALLEST_CLASS]
    return absent, few


def _interval(score: str, scores: Mapping[str, float], size: int) -> str:
    """Wilson's 95% interval of an accuracy; nothing for other scores."""
    if not score.endswith("accuracy"):
        return ""
    low, high = wilson(scores[f"test_{score}"], size)
    return f" ({low:.3f} to {high:.3f})"


def wilson(share: float, size: int, deviations: float = 1.96) -> Sequence[float]:
    """Interval of a share that was found among `size` (Wilson 1927)."""
    squared = deviations**2
    centre = (share + squared / (2 * size)) / (1 + squared / size)
    half = deviations / (1 + squared / size) * np.sqrt(share * (1 - share) / size + squared / (4 * size**2))
    return float(centre - half), float(centre + half)

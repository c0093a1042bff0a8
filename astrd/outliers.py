"""Spectra unlike all others: badly reconstructed for their noise, or where a latent space is all but empty."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from astrd.autoencoder import HeldOut, rms
from astrd.clusters import fit_mixture
from astrd.dataset import FOLDS, LabelledSpectra
from astrd.metrics import area_under_curve
from astrd.taxonomy import BUS_CLASSES

Array = NDArray[np.float64]

RARE_CLASSES: Final = ("O", "R", "A", "D", "V")
"""End members of the taxonomy: what a score of strangeness should find."""


def strangeness(left_over: Array, uncertainty: Array) -> Array:
    """What a reconstruction leaves over of spectra, in units of their own 1 sigma, both (n, 49), to (n,)."""
    return rms(left_over) / rms(uncertainty)


def held_out_log_density(held_out: HeldOut, train: LabelledSpectra, components: int) -> Array:
    """Log density of each spectrum in the latent space of the compression that had not seen it, shape (n,).

    The mixture is fitted to the spectra that the compression learned from.
    """
    density = np.empty(len(train))
    for fold in range(FOLDS):
        rows, encode = train.fold == fold, held_out.compressions[fold].encode
        mixture = fit_mixture(encode(train.reflectance[~rows]), components)
        density[rows] = mixture.log_density(encode(train.reflectance[rows]))
    return density


def rare_class_auc(scores: Array, spectra: LabelledSpectra) -> float:
    """How well scores (n,) rank spectra of the rare classes above all others: the area under the ROC curve.

    Returns
    -------
    float
        NaN where there is no spectrum of a rare class, or no other.
    """
    rare = np.isin(spectra.bus, [BUS_CLASSES.index(name) for name in RARE_CLASSES])
    return area_under_curve(scores, rare)

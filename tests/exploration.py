"""Findings of the shape that the steps log, made quickly and by rule, for tests of what shows them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from astrd.findings import Findings, Judgement
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUP_OF, bus_codes

CLUSTERS = 3
AUDIT = [
    "designation", "name", "catalogued", "suggested", "probability", "catalogued_probability", "models", "draw_share",
    "neighbours", "level",
]  # fmt: skip


def findings(features: pd.DataFrame) -> Findings:
    """Nearest class means as judgement, principal components as latent space, thirds of the first as clusters."""
    judgement = judged(features)
    return Findings(
        "f" * 32, "pipeline of a test", judgement, latent(features), stability(), audit(features, judgement)
    )


def judged(features: pd.DataFrame) -> Judgement:
    """Each asteroid of the training part, by its distance to the mean of every class."""
    train = features[features["split"] == "train"]
    spectra, codes = np.array(train["reflectance"].tolist()), bus_codes(train["bus_class"].tolist())
    distance = np.full((len(train), len(BUS_CLASSES)), np.inf)
    for code in np.unique(codes):
        distance[:, code] = np.sqrt(((spectra - spectra[codes == code].mean(axis=0)) ** 2).mean(axis=1))
    weight = np.exp(-distance / 0.01)
    return Judgement(
        "nearest-template", tuple(train["designation"]), tuple(train["bus_class"]),
        weight / weight.sum(axis=1, keepdims=True), 0.8,
    )  # fmt: skip


def latent(features: pd.DataFrame) -> pd.DataFrame:
    spectra = np.array(features["reflectance"].tolist())
    left, size, _ = np.linalg.svd(spectra - spectra.mean(axis=0), full_matrices=False)
    x, y = (left * size)[:, :2].T
    cluster = np.searchsorted(np.quantile(x, [1 / 3, 2 / 3]), x) + 1
    table = pd.DataFrame({"designation": features["designation"], "latent_1": x, "latent_2": y, "cluster": cluster})
    for number in range(1, CLUSTERS + 1):
        table[f"membership_{number}"] = np.where(cluster == number, 0.9, 0.05)
    return table.assign(reconstruction_error=0.002, outlier_score=np.abs(y))


def stability() -> pd.DataFrame:
    k = np.arange(1, 6)
    rows = {"components": k, "bic": (k - 3.0) ** 2, "ari_seeds_mean": 1 / k, "ari_seeds_sd": 0.01 * k, "chosen": k == 2}
    spaces = [pd.DataFrame({"space": space, **rows, "ari_bootstrap_mean": 0.9 / k}) for space in ("latent", "slope")]
    return pd.concat(spaces, ignore_index=True)


def audit(features: pd.DataFrame, judgement: Judgement) -> pd.DataFrame:
    names = dict(zip(features["designation"], features["name"], strict=True))
    rows = [
        {
            "designation": designation, "name": names[designation], "catalogued": MAIN_GROUP_OF[catalogued],
            "suggested": group, "probability": float(probabilities.max()), "catalogued_probability": 0.01,
            "models": "9 of 9", "draw_share": 0.95, "neighbours": "1 Ceres (C); 10 Hygiea (C)", "level": "main_group",
        }
        for designation, catalogued, group, probabilities in zip(
            judgement.designation, judgement.catalogued, judgement.predicted("main_group"), judgement.probabilities,
            strict=True,
        )
        if group != MAIN_GROUP_OF[catalogued]
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=AUDIT).sort_values("probability", ascending=False, ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table

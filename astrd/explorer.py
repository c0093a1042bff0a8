"""The explorer: one self-contained page on which every spectrum, and what was found out about it, can be looked at.

The page's own files lie in `astrd/pages`; here the data are packed, and all is put into one file that needs no network.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from astrd.colours import CLUSTER_COLOURS, GROUP_COLOURS
from astrd.dataset import DataSource, written_whole
from astrd.smoothing import WAVELENGTH
from astrd.taxonomy import CLASSES_BY_GROUP, MAIN_GROUPS, Target

if TYPE_CHECKING:
    from astrd.findings import Findings, Judgement

EXPLORER_PAGE: Final = "explorer.html"

_PAGES: Final = Path(__file__).parent / "pages"
_SCRIPTS: Final = (
    "data.js", "selection.js", "controls.js", "spectra_chart.js", "symbols.js", "matrix.js", "search.js",
    "view_spectra.js", "view_latent.js", "view_clusters.js", "view_audit.js", "view_confusion.js", "main.js",
)  # fmt: skip
_SCALE: Final = 1e-4  # the archive's files have four decimals, so nothing is lost
_LEVELS: Final[tuple[Target, ...]] = ("main_group", "bus_class")


def page(raw: pd.DataFrame, features: pd.DataFrame, data_source: DataSource, findings: Findings | None = None) -> str:
    """The explorer as HTML.

    Parameters
    ----------
    raw, features
        The tables of `dataset.RAW_SCHEMA` and `dataset.FEATURES_SCHEMA`, of the same asteroids.
    findings
        What a run found out about them. Without it, and where a part of it is missing, the page says so.

    Raises
    ------
    ValueError
        If the two tables are of different asteroids.
    """
    import plotly.offline

    if set(raw["designation"]) != set(features["designation"]):
        raise ValueError(
            f"expected spectra and features of the same asteroids, got {len(raw)} and {len(features)} that differ: "
            "make the features again with `python -m flows features`"
        )
    features = features.set_index("designation").loc[raw["designation"]].reset_index()
    data = json.dumps(_data(raw, features, data_source, findings), allow_nan=False, separators=(",", ":"))
    parts = {
        "style": (_PAGES / "explorer.css").read_text(),
        "plotly": plotly.offline.get_plotlyjs(),
        "data": data.replace("<", "\\u003c"),  # no name can end the script that holds it
        "script": "\n".join((_PAGES / name).read_text() for name in _SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], (_PAGES / "explorer.html").read_text())


def write(html: str, path: str | Path) -> Path:
    """Write a page, whole or not at all."""
    path = Path(path)
    with written_whole(path) as partial:
        partial.write_text(html, encoding="utf-8")
    return path


def _data(
    raw: pd.DataFrame, features: pd.DataFrame, data_source: DataSource, findings: Findings | None
) -> dict[str, Any]:
    designation = raw["designation"].tolist()
    return {
        "source": data_source,
        "run": {"id": findings.run_id, "name": findings.run_name} if findings else None,
        "groups": [
            {"name": group, "colour": GROUP_COLOURS[group], "classes": CLASSES_BY_GROUP[group]} for group in MAIN_GROUPS
        ],
        "cluster_colours": CLUSTER_COLOURS,
        "wavelength": WAVELENGTH.round(4).tolist(),
        "designation": designation,
        "name": [None if pd.isna(name) else name for name in raw["name"]],
        "bus_class": raw["bus_class"].tolist(),
        "part": features["split"].tolist(),
        "smoothed": _packed(np.array(features["reflectance"].tolist())),
        "raw": {
            "points": [len(wavelength) for wavelength in raw["wavelength"]],
            **{
                column: _packed(np.concatenate(raw[column].tolist()))
                for column in ("wavelength", "reflectance", "uncertainty")
            },
        },
        "judgement": _judged(findings.judgement, designation) if findings and findings.judgement else None,
        "latent": _latent(findings.latent_space, designation)
        if findings and findings.latent_space is not None
        else None,
        "audit": _audit(findings.label_audit, designation) if findings and findings.label_audit is not None else None,
    }


def _packed(values: NDArray[np.float64]) -> dict[str, Any]:
    """16-bit integers times a scale; where the values allow it, the scale of the archive's own decimals."""
    scale = max(_SCALE, float(np.abs(values).max(initial=0.0)) / np.iinfo(np.int16).max)
    integers = np.round(values / scale).astype("<i2")
    return {"scale": scale, "base64": base64.b64encode(integers.tobytes()).decode()}


def _judged(judgement: Judgement, designation: list[str]) -> dict[str, Any]:
    place = {name: i for i, name in enumerate(judgement.designation)}
    rows = [place.get(name) for name in designation]
    answers: dict[str, Any] = {"model": judgement.model}
    for level in _LEVELS:
        predicted = judgement.predicted(level)
        answers[level] = [None if row is None else predicted[row] for row in rows]
    return answers


def _latent(table: pd.DataFrame, designation: list[str]) -> dict[str, Any]:
    table = table.drop_duplicates("designation").set_index("designation").reindex(designation)
    member = table.filter(regex=r"^membership_\d+$").max(axis=1)
    columns = {
        "x": table["latent_1"], "y": table["latent_2"], "cluster": table["cluster"], "membership": member,
        "outlier_score": table.get("outlier_score", pd.Series(np.nan, index=table.index)),
    }  # fmt: skip
    return {name: [None if pd.isna(v) else round(float(v), 5) for v in values] for name, values in columns.items()}


def _audit(table: pd.DataFrame, designation: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table[table["designation"].isin(designation)].to_json(orient="records"))
    return rows

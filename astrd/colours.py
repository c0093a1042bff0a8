"""One colour a main group, told apart by the colour-blind too (Okabe & Ito 2008)."""

from __future__ import annotations

from typing import Final

GROUP_COLOURS: Final = {"C": "#0072B2", "S": "#D55E00", "X": "#009E73", "Other": "#CC79A7"}

GROUP_COLOURS_ON_DARK: Final = {"C": "#56B4E9", "S": "#F58A4B", "X": "#2FC99C", "Other": "#E6A5C8"}
"""The same hues, light enough for a dark page."""

CLUSTER_COLOURS: Final = (
    "#E69F00", "#56B4E9", "#332288", "#882255", "#999933", "#117733", "#767676", "#AA4499",
)  # fmt: skip
"""Of clusters, in turn: none is a main group's, which a cluster would be taken for (Okabe & Ito; Tol's muted)."""

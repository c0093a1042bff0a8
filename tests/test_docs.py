"""What the docs say of inputs and outputs is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from astrd import answers
from astrd.answers import Provenance
from astrd.explanation import MEASURES, NAME_LISTS, NUMBER_LISTS
from astrd.served_model import SIGNATURE
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS

OUTPUTS = (Path(__file__).parents[1] / "docs" / "outputs.md").read_text()
NAMED = set(re.findall(r"`([\w<>]+)`", OUTPUTS))


def general(field: str) -> str:
    """A field's name with what stands for all groups or classes, as the docs have it."""
    for kind in ("probability", "draw_share"):
        if field in {f"{kind}_group_{name}" for name in MAIN_GROUPS}:
            return f"{kind}_group_<group>"
        if field in {f"{kind}_{name}" for name in BUS_CLASSES}:
            return f"{kind}_<class>"
    return field


def test_every_field_and_column_is_told() -> None:
    fields = {general(name) for name in SIGNATURE.outputs.input_names()}
    assert fields <= NAMED
    assert set(SIGNATURE.inputs.input_names()) <= NAMED
    assert {*NAME_LISTS, *NUMBER_LISTS, *MEASURES} <= fields
    assert {"file", *Provenance.__dataclass_fields__} <= NAMED
    assert all(f"`{suffix}`" in OUTPUTS or f"answers{suffix}" in OUTPUTS for suffix in answers.FORMATS)


def test_no_field_is_told_that_is_not_there() -> None:
    told = {name for row in re.findall(r"(?m)^\| (`[^|]+`) \|", OUTPUTS) for name in re.findall(r"`([^`]+)`", row)}
    there = {general(name) for name in SIGNATURE.outputs.input_names()} | set(SIGNATURE.inputs.input_names())
    assert told == there | {param.name for param in SIGNATURE.params}


def test_params_have_the_defaults_that_are_told() -> None:
    for param in SIGNATURE.params:
        default = str(param.default).lower() if isinstance(param.default, bool) else f"{param.default:g}"
        assert f"| `{param.name}` | {default} |" in OUTPUTS

"""Schedule: run the flows by the clock, on a Prefect server that this command starts."""

from __future__ import annotations


def schedule() -> None:
    """placeholder"""

"""Which step's work goes first where several share the workers of a cluster."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """The greatest goes first."""

    OTHER = 0
    MUCH_AFTERWARDS = 1
    """The step goes on for long when its workers are done."""
    WAITED_FOR = 2
    """Another step cannot begin before."""
    SHORT = 3
    """Done within a second: others hardly wait for it."""

"""Seconds of the processor that the steps of a flow compute for in its process, apart from what recording them takes.

Steps run in threads, whose processor time Python tells; what their workers compute is counted by those.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

_thread = threading.local()
_lock = threading.Lock()
_computed = 0.0


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Count what this thread computes in the block, but for what it records."""
    global _computed
    before = time.thread_time() - _recorded()
    try:
        yield
    finally:
        spent = time.thread_time() - _recorded() - before
        with _lock:
            _computed += spent


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Count the block as recording; blocks are not within each other."""
    before = time.thread_time()
    try:
        yield
    finally:
        _thread.recorded = _recorded() + time.thread_time() - before


def computed_seconds() -> float:
    """What all threads of this process have computed so far."""
    return _computed


def _recorded() -> float:
    return float(getattr(_thread, "recorded", 0.0))

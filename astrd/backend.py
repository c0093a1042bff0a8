"""TensorFlow as this project needs it: set up for small networks, quiet, and imported when it is first asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final


def tensorflow() -> Any:
    """TensorFlow, set up for small networks, imported when first asked for.

    One thread an operation is faster than two for networks of this size, and makes the sums, and so the weights,
    the same in every run. A second one for other operations would only wait for work: it takes as much again of the
    processor, and spares nothing.
    """
    tf = imported()
    with contextlib.suppress(RuntimeError):  # raised where the process has used TensorFlow: it keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


@contextlib.contextmanager
def as_traced() -> Iterator[None]:
    """Run the graphs of small networks as they were traced, one operation after another.

    TensorFlow would look for a better graph first, and then take operations in any order that their inputs allow. The
    one takes as long as four epochs, the other a twentieth of each, and neither gains anything.
    """
    tf = tensorflow()
    optimizer, off = tf.config.optimizer, "disable_meta_optimizer"
    before = optimizer.get_experimental_options().get(off, False)
    optimizer.set_experimental_options({off: True})
    try:
        with tf.experimental.function_executor_type("SINGLE_THREADED_EXECUTOR"):
            yield
    finally:
        optimizer.set_experimental_options({off: before})


def imported() -> Any:
    """TensorFlow with the threads that it comes with."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    _keep_compiled()
    with _without_start_up_messages():
        import tensorflow as tf
    return tf


def _processor() -> str:
    """What the processor can do, as Linux says; nothing elsewhere."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return ""


def _keep_compiled() -> None:
    """Have XLA keep what it compiled, which takes longer than many trainings, for later processes of the same user.

    XLA does not ask which processor and which TensorFlow a file was made for, so each has a folder of its own.
    """
    with contextlib.suppress(OSError, RuntimeError):  # no home, or none to write to: it is compiled each time
        processor = _processor()
        made_for = hashlib.sha256(f"{version('tensorflow')} {platform.machine()} {processor}".encode()).hexdigest()
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = caches / "astrd-spctra" / f"xla-{made_for[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK) and not any(map(str.isspace, str(folder))):  # flags end at a space
            os.environ.setdefault("TF_XLA_FLAGS", f"--tf_xla_persistent_cache_directory={folder}")


_START_UP: Final = ("WARNING: All log messages before absl", "I0000 ", "E0000 ", "W0000 ")


@contextlib.contextmanager
def _without_start_up_messages() -> Iterator[None]:
    """TensorFlow writes of its hardware to the process's standard error before any setting of its log can apply."""
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            others = [line for line in kept if not line.decode(errors="replace").startswith(_START_UP)]
            os.write(2, b"".join(others))

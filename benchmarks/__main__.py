"""`python -m benchmarks [NAME ...]`: print how much faster our way is than the stock one, pair by pair."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.interpolate import make_smoothing_spline

from astrd import dataset, simulate
from astrd.backend import tensorflow
from astrd.network_models import NetworkModel, Recipe
from astrd.networks import ConvolutionalNetwork, build
from astrd.smoothing import NORMALISATION_CHANNEL, SMOOTHING_PENALTY, WAVELENGTH, bus_smoothing

Way = Callable[[], object]

SPECTRA = 1341
console = Console()


def smoothing() -> tuple[str, Way, Way]:
    """Smooth a survey's raw spectra: all at once, or one SciPy spline after the other."""
    raw = simulate.survey(SPECTRA)
    columns = [raw[name].tolist() for name in ("wavelength", "reflectance", "uncertainty")]

    def one_by_one() -> np.ndarray:
        smoothed = []
        for w, r, u in zip(*columns, strict=True):
            values = make_smoothing_spline(w, r, w=1 / u**2, lam=SMOOTHING_PENALTY)(WAVELENGTH)
            smoothed.append(values / values[NORMALISATION_CHANNEL])
        return np.array(smoothed)

    assert np.allclose(bus_smoothing(*columns), one_by_one(), rtol=0, atol=1e-6)
    return f"{SPECTRA} raw spectra, SciPy one by one", lambda: bus_smoothing(*columns), one_by_one


def epoch() -> tuple[str, Way, Way]:
    """Train a network for one epoch: in one compiled graph, or with `Model.fit`."""
    tf = tensorflow()
    import keras

    keras.config.disable_interactive_logging()
    train, _ = dataset.labelled(dataset.features(simulate.survey(SPECTRA)))
    recipe, outputs = Recipe(), 26
    x = ((train.reflectance - 1) / train.reflectance.std(axis=0).mean()).astype(np.float32)
    split = len(x) * 4 // 5
    compiled = NetworkModel("bus-cnn", "bus_class", ConvolutionalNetwork(), recipe)._training
    labels = tf.one_hot(train.bus, outputs)
    data = tf.constant(x[:split]), labels[:split], tf.ones(split), tf.constant(x[split:]), labels[split:]
    stock = build(ConvolutionalNetwork(), outputs, seed=0)
    stock.compile(
        keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return (
        f"{split} spectra in batches of {recipe.batch_size}, Model.fit with validation",
        lambda: compiled._epoch(*data, 0, 0),
        lambda: stock.fit(
            x[:split], train.bus[:split], batch_size=recipe.batch_size, verbose=0,
            validation_data=(x[split:], train.bus[split:]),
        ),
    )  # fmt: skip


BENCHMARKS = {"smoothing": smoothing, "epoch": epoch}


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHMARKS)}; none: all.")] = None,
    pairs: Annotated[int, typer.Option(help="How often both ways are measured in turn.", min=5)] = 5,
) -> None:
    """Measure our way against another one, in turn, and print the ratio of their times."""
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            console.print(f"expected a benchmark of {', '.join(BENCHMARKS)}; got {name}")
            raise typer.Exit(1)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("benchmark", "against", "ours (ms)", "theirs (ms)", "times faster", "least to most"):
        table.add_column(column)
    for name in names or BENCHMARKS:
        against, ours, theirs = BENCHMARKS[name]()
        ours(), theirs()
        times = [(_seconds(ours), _seconds(theirs)) for _ in range(pairs)]
        ratios = [other / own for own, other in times]
        own, other = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
        table.add_row(
            name, against, f"{own:.1f}", f"{other:.1f}", f"{statistics.median(ratios):.1f}",
            f"{min(ratios):.1f} to {max(ratios):.1f}",
        )  # fmt: skip
    console.print(table)
    packages = ", ".join(f"{package} {version(package)}" for package in ("numpy", "scipy", "tensorflow", "keras"))
    machine = f"{os.cpu_count()} x {platform.machine()}, {platform.system()}, Python {sys.version.split()[0]}"
    console.print(f"Medians of {pairs} pairs on {machine}; {packages}", highlight=False, soft_wrap=True)


def _seconds(way: Way) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)

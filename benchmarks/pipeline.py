"""The main job beside what its steps and their workers compute: the rest is starting, orchestrating and tracking."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mlflow

from astrd import smass, tracking
from astrd.tracking import Tag
from astrd.workers import cores
from benchmarks.measuring import SECONDS, Comparison, Reading, clocked
from benchmarks.setting import Setting

ROOT = Path(__file__).parents[1]
SHORT = ("--trials", "1", "--svm-trials", "1", "--epochs", "1")


def comparisons(setting: Setting) -> Iterator[Comparison]:
    """A short job first makes the databases, the tables and the caches that a warm one finds."""
    _, origin = setting.spectra
    job = MainJob(setting.folder / "main job", setting.amounts.job, setting.archive)
    job.run(SHORT)
    yield Comparison(
        "pipeline",
        f"`python -m flows pipeline` ({origin}), warm, {cores()} workers",
        "the processor time of what its steps compute, shared out between the cores",
        lambda: job.reading("whole"),
        lambda: job.reading("computing"),
        1.35,
        floor=True,
        unit=SECONDS,
        rehearsed=False,
    )


@dataclass
class MainJob:
    """The main job in a folder of its own, on the archive's files, or, without them, on the simulated survey.

    The readings of a pair are of one job, which the first to be asked runs.
    """

    folder: Path
    options: tuple[str, ...]
    archive: smass.ArchivePaths | None = None
    readings: dict[str, Reading] = field(default_factory=dict)

    def reading(self, kind: str) -> Reading:
        if kind not in self.readings:
            whole = clocked(lambda: self.run(self.options))()
            self.readings = {"whole": whole, "computing": Reading(self._computing() / cores())}
        return self.readings.pop(kind)

    def run(self, options: tuple[str, ...]) -> None:
        self.folder.mkdir(exist_ok=True)
        source = "smass2" if self.archive else "simulated"
        command = [sys.executable, "-m", "flows", "pipeline", *options, "--source", source]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": self.store}
        if self.archive:
            environment[smass.MIRROR_VARIABLE] = str(self.archive.spectra.parent.resolve())
        subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, check=True)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def _computing(self) -> float:
        """Seconds of processor."""
        client = mlflow.MlflowClient(self.store)
        experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
        last = client.search_runs(
            [experiment.experiment_id], f"tags.`{Tag.STEP}` = 'pipeline'", order_by=["start_time DESC"], max_results=1
        )
        metrics = last[0].data.metrics
        return float(metrics["worker_seconds"] + metrics["step_seconds"])

"""Score: a survey into answers, spread over workers; a run that was cut short goes on from its finished partitions."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL

from astrd import registry, tracking, workers
from astrd.classifier import Classifier
from astrd.model_folder import ModelName
from astrd.scoring import Counts, Scoring, Settings, begun_with
from astrd.storage import without_secrets
from astrd.survey import Partition, Survey
from astrd.tracking import REGISTERED_CNN, Alias, Tag
from tasks.progress import Step, step, tell

if TYPE_CHECKING:
    from distributed import Client

SHOWN_REJECTED = 1000
"""Rejected rows that the run in MLflow lists; all of them lie beside the answers."""


@dataclass(frozen=True)
class ScoredSurvey:
    """Where the answers are, how many, and how long they took; `resumed` spectra had been scored before."""

    output: str
    spectra: int
    classified: int
    rejected: int
    resumed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Spectra a second, of those that were scored now."""
        return (self.spectra - self.resumed) / max(self.seconds, 1e-9)


@task(name="score", cache_policy=NO_CACHE)
def score(
    parent_run_id: str, place: str, output: str, model: str, settings: Settings, scheduler: str, processes: int
) -> ScoredSurvey:
    """Score a survey into a folder.

    Parameters
    ----------
    place, output
        As `Survey.find` and `Scoring.begin` take them.
    model
        URI of the model; empty for the one that the output was begun with, and at first for the champion.
    scheduler, processes
        As `workers.dask_client` takes them.
    """
    survey = Survey.find(place, besides=output)
    named, classifier = _model(model, output)
    with (
        step("score", survey.rows) as shown,
        tracking.step_run(parent_run_id, "score", "score", {Tag.MODEL: REGISTERED_CNN}) as run,
    ):
        scoring = Scoring.begin(output, survey, classifier, settings, named)
        partitions = survey.partitions(settings.partition_rows)
        finished = scoring.finished(partitions)
        resumed = sum(counts.spectra for counts in finished.values())
        run.log_params(
            {
                "input": without_secrets(place),
                "output": scoring.output.url,
                "layout": survey.layout,
                "model": named.uri,
                "model_version": named.version or None,
                "model_sha256": scoring.model_sha256,
                "coverage": settings.coverage,
                "draws": settings.draws,
                "partition_rows": settings.partition_rows,
                "scheduler": scheduler or "local",
            }
        )
        left = {number: part for number, part in enumerate(partitions) if number not in finished}
        seconds = 0.0
        if left:
            shown.show(resumed, "waiting for workers" if scheduler else "starting workers")
            with workers.dask_client(scheduler, processes) as known, _with_tasks(known) as client:
                run.log_params({"workers": len(client.scheduler_info(n_workers=-1)["workers"])})
                seconds = spread(client, scoring, left, resumed, survey.rows, shown)
        counts = scoring.finish(survey)
        folder = scoring.output.url.removeprefix("file://")
        scored = ScoredSurvey(folder, counts.spectra, counts.classified, counts.rejected, resumed, seconds)
        run.log_metrics(
            {
                "spectra": scored.spectra,
                "classified": scored.classified,
                "rejected": scored.rejected,
                "resumed": scored.resumed,
                "seconds": scored.seconds,
                "spectra_per_second": scored.rate,
            }
        )
        run.log_table(scoring.rejected(SHOWN_REJECTED), "rejected.csv")
        shown.show(note=f"{counts.classified} classified, {counts.rejected} rejected, {scored.rate:,.0f} a second")
        return scored


def _model(uri: str, output: str) -> tuple[ModelName, Classifier]:
    """The model that is named; else the one that the output was begun with, else the champion."""
    tracking.connect()
    begun = None if uri else begun_with(output)
    if begun is not None:
        named, classifier = begun
        tell(f"{without_secrets(output)} goes on with the model that it was begun with: {named}")
        if classifier is not None:
            return named, classifier
        uri = named.uri
    if not uri:
        champion = registry.version_named(Alias.CHAMPION)
        if champion is None:
            raise LookupError(
                f"{REGISTERED_CNN} has no version aliased {Alias.CHAMPION!r}: make one with `python -m flows pipeline`,"
                " or name a model"
            )
        uri = f"models:/{REGISTERED_CNN}/{champion.version}"
    classifier = registry.load_classifier(uri)
    version = registry.provenance(uri).model_version
    name, _, alias = uri.partition("@")  # which may name another version by the time that the folder is gone on with
    return ModelName(f"{name}/{version}" if version and alias else uri, version), classifier


@task(name="score partition", task_run_name="score partition {number}", cache_policy=NO_CACHE)
def score_partition(scoring: Scoring, number: int, partition: Partition) -> Counts:
    """Score one partition, on a worker."""
    return scoring.score(number, partition)


def spread(
    client: Client, scoring: Scoring, partitions: Mapping[int, Partition], resumed: int, total: int, shown: Step
) -> float:
    """Score partitions on the workers, and show how it goes; returns the seconds that it took."""
    from distributed import KilledWorker, as_completed
    from prefect_dask.client import PrefectDaskClient

    started = time.perf_counter()
    done = Counts()
    work = (score_partition, [scoring] * len(partitions)) if isinstance(client, PrefectDaskClient) else (scoring.score,)
    futures = client.map(*work, *zip(*partitions.items(), strict=True), pure=False)
    numbers = dict(zip((future.key for future in futures), partitions, strict=True))
    for future in as_completed(futures, loop=client.loop):
        try:
            done += future.result()
        except KilledWorker as error:
            number = numbers[future.key]
            raise RuntimeError(
                f"{partitions[number]} which is partition {number}, was given up: {error.allowed_failures + 1} workers "
                f"died over it, most likely for want of memory. {resumed + done.spectra} of {total} spectra are "
                "finished and stay so: the same command goes on from them, with workers that have more memory "
                "(`dask worker ADDRESS --memory-limit 4GB`, then --scheduler ADDRESS). Fewer --partition-rows need "
                "less of it too, but begin anew in another output"
            ) from error
        future.release()
        seconds = time.perf_counter() - started
        rate = done.spectra / seconds
        left = (total - resumed - done.spectra) / rate
        shown.show(resumed + done.spectra, f"{rate:,.0f} a second, {_duration(left)} left")
    return time.perf_counter() - started


@contextmanager
def _with_tasks(client: Client) -> Iterator[Client]:
    """A client whose work can be tasks of Prefect, where a Prefect server is named; else the same one.

    The server that Prefect starts itself, where none is named, is a flow's own: each worker would start one more.
    """
    if not PREFECT_API_URL.value():
        yield client
        return
    from prefect_dask.client import PrefectDaskClient

    with PrefectDaskClient(client.scheduler.address, set_as_default=False) as own:
        yield own


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

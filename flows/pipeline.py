"""The main job: from the archive to a champion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from astrd import effort
from astrd import workers as spread
from astrd.catalogue import CANDIDATES, EPOCHS, MODELS, TUNED
from astrd.dataset import DataSource
from astrd.machine_search import SVM_TRIALS
from astrd.network_search import CNN_TRIALS
from astrd.tracking import Tag, flow_run, log_to_run, tag_run
from flows.ingest import SURVEY_SIZE, MirrorOption, SeedOption, SizeOption, SourceOption
from flows.stopping import take_signals_of_runner
from flows.train import EpochsOption, SchedulerOption, WorkersOption
from flows.tune import StorageOption, SvmTrialsOption, TrialsOption
from tasks.audit import Audit, audit
from tasks.cluster import Discovery, cluster
from tasks.explore import explore
from tasks.features import prepare_features
from tasks.ingest import ingest
from tasks.promote import Promotion, promote
from tasks.train import TrainedModel, train_model
from tasks.tune import tune

# Two searches, the discovery and three candidates take long, and one of these waits for a search; the rest are short.
_STEPS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class PipelineResult:
    """What the main job leaves behind: the run that holds all others, and what its steps hand on."""

    run_id: str
    data_source: DataSource
    models: tuple[TrainedModel, ...]
    promotion: Promotion
    discovery: Discovery
    audit: Audit


@flow(
    name="pipeline", on_running=[take_signals_of_runner], task_runner=ThreadPoolTaskRunner(max_workers=_STEPS_AT_ONCE)
)
def pipeline(
    source: SourceOption = "auto",
    mirror: MirrorOption = "",
    size: SizeOption = SURVEY_SIZE,
    seed: SeedOption = 0,
    trials: TrialsOption = CNN_TRIALS,
    svm_trials: SvmTrialsOption = SVM_TRIALS,
    epochs: EpochsOption = EPOCHS,
    storage: StorageOption = "",
    workers: WorkersOption = 0,
    scheduler: SchedulerOption = "",
) -> PipelineResult:
    """Ingest, prepare features, train, tune, cluster, audit the labels, promote the best network; show all of it."""
    with flow_run("pipeline") as run_id, spread.cluster(scheduler, workers) as address:
        started = spread.processor_seconds(address), effort.computed_seconds()
        raw = ingest(run_id, source, mirror, size, seed)
        tag_run(run_id, {Tag.DATA_SOURCE: raw.data_source})
        log_to_run(run_id, {"seed": seed, "trials": trials, "svm_trials": svm_trials, "epochs": epochs})
        features = prepare_features(run_id, raw)

        searches = {
            "cnn": tune.submit(run_id, "cnn", features, trials, epochs, storage, seed, address),
            "svm": tune.submit(run_id, "svm", features, svm_trials, epochs, storage, seed, address),
        }
        discovery = cluster.submit(run_id, features, raw, seed, epochs, address)
        trained = {
            name: train_model.submit(
                run_id, name, features, seed, epochs, searches[TUNED[name]] if name in TUNED else None, address
            )
            for name in sorted(MODELS, key=CANDIDATES.__contains__, reverse=True)  # those that take longest begin first
        }
        models = tuple(trained[name].result() for name in MODELS)

        log_to_run(run_id, metrics=_best_scores(models))
        audited = audit(run_id, run_id, features, raw)
        promotion = promote(run_id, run_id, features)
        found = discovery.result()
        explore(run_id, raw, features)
        by_workers, by_steps = spread.processor_seconds(address) - started[0], effort.computed_seconds() - started[1]
        log_to_run(run_id, metrics={"worker_seconds": by_workers, "step_seconds": by_steps})
        return PipelineResult(run_id, raw.data_source, models, promotion, found, audited)


def _best_scores(models: tuple[TrainedModel, ...]) -> dict[str, float]:
    """The best cross-validated score at each level: what one night is compared with another by."""
    wanted = ("cv_main_weighted_f1", "cv_bus_accuracy", "cv_x_f1")
    return {f"best_{score}": max(m.scores[score] for m in models if score in m.scores) for score in wanted}

"""The main job, run as a user runs it; what it leaves in MLflow; what a second promotion and a rollback do."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

from astrd import smass
from astrd.audit import LABEL_AUDIT_TABLE
from astrd.catalogue import CANDIDATES, MODELS, TUNED
from astrd.clusters import BUS_CLASS_TABLE, LATENT_SPACE_TABLE, MAIN_GROUP_TABLE, STABILITY_TABLE
from astrd.dataset import FEATURES_PATH, DatasetRef
from astrd.explorer import EXPLORER_PAGE
from astrd.promotion import GATE_SCORE
from astrd.smoothing import WAVELENGTH
from astrd.tracking import EXPERIMENT, REGISTERED_CNN, Alias, Tag
from conftest import SMALL_JOB, MainJob
from tasks import promote as promotion
from workplace import Workplace

NETWORKS = ("main-dense", "main-cnn", "bus-cnn", "bus-ensemble", "bus-cnn-tuned")
TRIALS = {"cnn": int(SMALL_JOB[1]), "svm": int(SMALL_JOB[3])}


def steps(job: MainJob, step: str) -> list[Run]:
    return [run for run in job.runs if run.data.tags[Tag.STEP] == step]


def the_step(job: MainJob, step: str) -> Run:
    (run,) = steps(job, step)
    return run


def training(job: MainJob, name: str) -> Run:
    (run,) = (run for run in steps(job, "train") if run.data.tags[Tag.MODEL] == name)
    return run


def artifacts(job: MainJob, run: Run) -> set[str]:
    return {file.path for file in job.place.client.list_artifacts(run.info.run_id)}


def text(job: MainJob, run: Run, path: str) -> str:
    return mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{path}")


def table(job: MainJob, run: Run, path: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text(job, run, path)))


@pytest.fixture
def at_the_place(main_job: MainJob, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """This process works in the clone of the main job, with its store."""
    monkeypatch.chdir(main_job.place.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", main_job.place.store)
    mlflow.set_tracking_uri(main_job.place.store)
    return main_job.place


class TestWhatItSays:
    def test_a_table_names_all_models_with_all_their_scores_even_in_80_columns(self, main_job: MainJob) -> None:
        lines = main_job.ended.output.split("Cross-validated in five folds")[1].splitlines()
        assert len(MODELS) == 11
        assert max(map(len, lines)) <= 80 or "Champion" in max(lines, key=len)
        for name in MODELS:
            row = next(i for i, line in enumerate(lines) if line.split()[:1] == [name])
            shown = re.findall(r"\d\.\d{3}", " ".join(lines[row : row + 2]))
            scores = training(main_job, name).data.metrics
            levels = [s for s in ("main_weighted_f1", "bus_accuracy", "x_f1") if f"cv_{s}" in scores]
            expected = [f"{scores[key.format(s)]:.3f}" for key in ("cv_{}", "cv_{}_sd", "test_{}") for s in levels]
            assert Counter(shown) == Counter(expected), name

    def test_it_names_the_champion_and_the_next_commands(self, main_job: MainJob) -> None:
        said = main_job.ended.output
        assert re.search(rf"Champion of {REGISTERED_CNN}: (version 1|none yet) \(\S.*\)", said)
        for command in ("make ui", f"serve models:/{REGISTERED_CNN}@{Alias.CHAMPION}", "astrd classify FILE"):
            assert command in said

    def test_only_simulated_data_are_called_simulated(self, main_job: MainJob) -> None:
        assert ("SIMULATED DATA" in main_job.ended.output) == (main_job.data_source == "simulated")

    def test_it_says_nothing_that_only_a_library_wants_said(self, main_job: MainJob) -> None:
        noise = r"Warning|Traceback|Successfully registered|Created version|site-packages|\bERROR\b|View run"
        assert [line for line in main_job.ended.output.splitlines() if re.search(noise, line)] == []


class TestTheTreeOfRuns:
    def test_one_parent_holds_every_step_and_each_search_its_trials(self, main_job: MainJob) -> None:
        parents = [run for run in main_job.runs if Tag.PARENT not in run.data.tags]
        assert [run.data.tags[Tag.STEP] for run in parents] == ["pipeline"]
        depth = {parents[0].info.run_id: 0}
        for _ in range(3):
            for run in main_job.runs:
                if (parent := run.data.tags.get(Tag.PARENT)) in depth:
                    depth[run.info.run_id] = depth[parent] + 1
        found = Counter((depth[run.info.run_id], run.data.tags[Tag.STEP]) for run in main_job.runs)
        assert found == {
            (0, "pipeline"): 1, (1, "ingest"): 1, (1, "features"): 1, (1, "tune"): 2, (1, "train"): 11,
            (1, "cluster"): 1, (1, "audit"): 1, (1, "promote"): 1, (1, "explore"): 1,
            (2, "trial"): sum(TRIALS.values()), (2, "autoencoder"): 2, (2, "mixture"): 2,
        }  # fmt: skip

    def test_all_runs_finished_in_the_one_experiment(self, main_job: MainJob) -> None:
        assert {run.info.status for run in main_job.runs} == {"FINISHED"}
        experiment = main_job.place.client.get_experiment_by_name(EXPERIMENT)
        assert {run.info.experiment_id for run in main_job.runs} == {experiment.experiment_id}

    def test_every_run_says_where_its_data_come_from(self, main_job: MainJob) -> None:
        assert {run.data.tags.get(Tag.DATA_SOURCE) for run in main_job.runs} == {main_job.data_source}

    def test_the_source_shown_is_the_flow_and_not_the_engine(self, main_job: MainJob) -> None:
        for run in main_job.runs:
            assert re.fullmatch(r"flows \w+", run.data.tags[Tag.SOURCE_NAME])

    def test_every_step_logs_the_data_that_it_used_with_their_digest(self, main_job: MainJob) -> None:
        written = {
            "raw": DatasetRef.of(main_job.place.folder / f"data/interim/{main_job.data_source}.parquet"),
            "features": DatasetRef.of(main_job.place.folder / FEATURES_PATH),
        }
        for run in main_job.runs:
            if run.data.tags[Tag.STEP] in ("pipeline", "trial"):
                continue
            both = ["raw", "features"]
            layers_of = {"ingest": ["raw"], "features": both, "cluster": both, "audit": both}
            layers = layers_of.get(run.data.tags[Tag.STEP], ["features"])
            logged = {entry.dataset.name: entry.dataset for entry in run.inputs.dataset_inputs}
            assert set(logged) == {f"{main_job.data_source}-{layer}" for layer in layers}
            for layer in layers:
                entry = logged[f"{main_job.data_source}-{layer}"]
                assert entry.digest == written[layer].sha256[:16]
                assert written[layer].path in entry.source
            assert run.data.tags[Tag.DATA_SHA256] == written[layers[-1]].sha256


class TestIngestAndFeatures:
    def test_ingest_logs_counts_of_classes_and_a_figure(self, main_job: MainJob) -> None:
        run = the_step(main_job, "ingest")
        counts = table(main_job, run, "class_counts.csv")
        metrics = run.data.metrics
        assert counts["asteroids"].sum() == metrics["spectra"]
        assert len(counts) == metrics["classes"]
        for name, count in counts.itertuples(index=False):
            assert metrics[f"count_{name}"] == count
        assert {"class_counts.png", "refused.csv"} <= artifacts(main_job, run)

    @pytest.mark.archive
    def test_ingest_of_the_archive_reports_24_rejected_rows(self, archive_folder: Path, main_job: MainJob) -> None:
        metrics = the_step(main_job, "ingest").data.metrics
        assert (metrics["spectra"], metrics["rejected_rows"], metrics["refused_files"]) == (1341, 24, 0)

    def test_features_logs_the_very_table_that_it_wrote(self, main_job: MainJob, tmp_path: Path) -> None:
        run = the_step(main_job, "features")
        logged = main_job.place.client.download_artifacts(run.info.run_id, "features.parquet", str(tmp_path))
        assert Path(logged).read_bytes() == (main_job.place.folder / FEATURES_PATH).read_bytes()
        assert run.data.metrics["train"] + run.data.metrics["test"] == run.data.metrics["spectra"]


class TestTraining:
    @pytest.mark.parametrize("name", MODELS)
    def test_a_model_is_logged_with_params_scores_tables_and_figures(self, main_job: MainJob, name: str) -> None:
        run = training(main_job, name)
        tags, metrics, files = run.data.tags, run.data.metrics, artifacts(main_job, run)
        assert run.data.params or name == "nearest-template"
        assert tags[Tag.TARGET] == {"x": "x_vs_rest", "main": "main_group"}.get(name.split("-")[0], "bus_class")
        assert tags[Tag.CANDIDATE] == str(name in CANDIDATES).lower()
        tested = {key.removeprefix("test_") for key in metrics if key.startswith("test_")}
        assert tested >= {"x_f1"} | ({"main_weighted_f1"} if not name.startswith("x-") else set())
        for score in tested:
            assert 0 <= metrics[f"cv_{score}"] <= 1
            assert metrics[f"cv_{score}_sd"] >= 0
        target = tags[Tag.TARGET]
        assert files >= {f"confusion_{target}.png", f"confusion_{target}.html", "test_per_class.csv", "out_of_fold.csv"}
        assert {"precision", "recall"} <= set(table(main_job, run, "test_per_class.csv").columns)
        assert "plotly" in text(main_job, run, f"confusion_{target}.html")[:100_000].lower()

    @pytest.mark.parametrize("name", MODELS)
    def test_networks_alone_have_learning_curves(self, main_job: MainJob, name: str) -> None:
        run = training(main_job, name)
        assert ("learning_curves.png" in artifacts(main_job, run)) == (name in NETWORKS)
        course = main_job.place.client.get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in course] == list(range(1, len(course) + 1))
        assert (len(course) > 1) == (name in NETWORKS)

    @pytest.mark.parametrize("name", MODELS)
    def test_a_model_has_a_signature_an_example_and_pinned_requirements(self, main_job: MainJob, name: str) -> None:
        outputs = training(main_job, name).outputs.model_outputs
        models = {}
        for output in outputs:
            logged = main_job.place.client.get_logged_model(output.model_id)
            folder = Path(logged.artifact_location.removeprefix("file://"))
            models[logged.name] = (mlflow.models.Model.load(folder), folder)
        assert set(models) == ({"model", "classifier"} if name in CANDIDATES else {"model"})
        for model, folder in models.values():
            assert model.signature.inputs and model.signature.outputs
            assert model.saved_input_example_info is not None
            requirements = (folder / "requirements.txt").read_text().split()
            assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in requirements)
        bare, _ = models["model"]
        assert bare.signature.inputs.inputs[0].shape == (-1, len(WAVELENGTH))

    @pytest.mark.parametrize("name", TUNED)
    def test_a_tuned_model_has_what_its_search_found_best(self, main_job: MainJob, name: str) -> None:
        found = search(main_job, TUNED[name]).data.params
        params = training(main_job, name).data.params
        assert (
            params["learning_rate" if TUNED[name] == "cnn" else "C"]
            == found["best_learning_rate" if TUNED[name] == "cnn" else "best_C"]
        )


def test_the_last_step_logs_a_page_of_what_the_others_found(main_job: MainJob) -> None:
    run = the_step(main_job, "explore")
    page = text(main_job, run, EXPLORER_PAGE)
    promoted = the_step(main_job, "promote").data.params["candidate_run_id"]
    (model,) = (r.data.tags[Tag.MODEL] for r in steps(main_job, "train") if r.info.run_id == promoted)
    assert f'"judgement":{{"model":"{model}"' in page
    assert run.data.tags[Tag.PARENT] in page


def search(job: MainJob, kind: str) -> Run:
    (run,) = (run for run in steps(job, "tune") if run.data.tags[Tag.MODEL] == kind)
    return run


@pytest.mark.parametrize("kind", TRIALS)
def test_a_search_logs_its_trials_its_history_and_what_matters(main_job: MainJob, kind: str) -> None:
    run = search(main_job, kind)
    assert artifacts(main_job, run) >= {"trials.csv", "optimisation_history.png", "parameter_importances.png"}
    trials = [t for t in steps(main_job, "trial") if t.data.tags[Tag.PARENT] == run.info.run_id]
    listed = table(main_job, run, "trials.csv")
    assert len(trials) == len(listed) == run.data.metrics["trials_done"] == TRIALS[kind]
    assert sorted(int(t.data.tags[Tag.TRIAL]) for t in trials) == sorted(listed["trial"])
    score = run.data.params["score"]
    assert sorted(t.data.metrics[score] for t in trials) == pytest.approx(sorted(listed[score]))
    best = listed[score].min() if kind == "cnn" else listed[score].max()
    assert run.data.metrics[f"best_{score}"] == pytest.approx(best)
    assert all(t.data.params for t in trials)


class TestDiscovery:
    def test_one_table_places_every_asteroid_in_the_latent_space(self, main_job: MainJob) -> None:
        run = the_step(main_job, "cluster")
        latent = table(main_job, run, LATENT_SPACE_TABLE)
        features = DatasetRef.of(main_job.place.folder / FEATURES_PATH).read()
        assert sorted(latent["designation"].astype(str)) == sorted(features["designation"])
        count = int(run.data.metrics["clusters"])
        named = [f"latent_{i}" for i in (1, 2)] + [f"latent5_{i}" for i in range(1, 6)]
        members = [f"membership_{i}" for i in range(1, count + 1)]
        rest = ["reconstruction_error", "outlier_score"]
        assert latent.columns.tolist() == ["designation", *named, "cluster", *members, *rest]
        np.testing.assert_allclose(latent[members].sum(axis=1), 1, atol=1e-4)
        np.testing.assert_array_equal(latent[members].to_numpy().argmax(axis=1) + 1, latent["cluster"])
        assert (latent["reconstruction_error"] > 0).all()

    def test_tables_of_clusters_count_every_asteroid(self, main_job: MainJob) -> None:
        run = the_step(main_job, "cluster")
        for path in (MAIN_GROUP_TABLE, BUS_CLASS_TABLE):
            counts = table(main_job, run, path)
            assert (
                counts.drop(columns="cluster").to_numpy().sum() == the_step(main_job, "ingest").data.metrics["spectra"]
            )
        stability = table(main_job, run, STABILITY_TABLE)
        assert stability.groupby("space")["components"].apply(list).tolist() == [list(range(1, 16))] * 2
        assert stability.groupby("space")["chosen"].sum().tolist() == [1, 1]

    @pytest.mark.parametrize("latent", [2, 5])
    def test_an_autoencoder_is_logged_beside_pca_and_the_noise(self, main_job: MainJob, latent: int) -> None:
        (run,) = (r for r in steps(main_job, "autoencoder") if r.data.params["latent"] == str(latent))
        scores = run.data.metrics
        assert scores["cv_rms_median"] < 1.1 * scores["cv_pca_rms_median"]
        assert scores["cv_noise_rms_median"] > 0
        assert artifacts(main_job, run) >= {"rms_by_class.csv", "reconstructions.png", "learning_curves.png"}
        (output,) = run.outputs.model_outputs
        logged = main_job.place.client.get_logged_model(output.model_id)
        model = mlflow.models.Model.load(logged.artifact_location.removeprefix("file://"))
        assert model.signature.inputs.inputs[0].shape == model.signature.outputs.inputs[0].shape == (-1, 49)
        assert model.saved_input_example_info is not None

    def test_the_audit_lists_labels_that_every_model_contradicts(self, main_job: MainJob) -> None:
        run = the_step(main_job, "audit")
        audit = table(main_job, run, LABEL_AUDIT_TABLE).astype({"designation": str})
        answers = {name: table(main_job, training(main_job, name), "out_of_fold.csv") for name in CANDIDATES}
        listed = audit[audit["level"] == "bus_class"]
        assert len(listed) == run.data.metrics["contradicted_bus_class"] > 0
        for entry in listed.itertuples():
            for answer in answers.values():
                row = answer[answer["designation"].astype(str) == entry.designation].iloc[0]
                assert row["predicted"] != row["catalogued"] == entry.catalogued != entry.suggested
        assert listed["probability"].is_monotonic_decreasing
        assert audit["draw_share"].between(0, 1).all()
        assert (audit["neighbours"].str.count(r"\(") == 5).all()
        assert artifacts(main_job, run) >= {"label_audit_main_group.png", "label_audit_bus_class.png"}


class TestPromotion:
    """These go from one to the next: a promotion, the same again, and back."""

    def test_the_gate_decides_by_the_test_part_alone(self, main_job: MainJob) -> None:
        run = the_step(main_job, "promote")
        gate = table(main_job, run, "gate.csv").set_index("role")[f"test_{GATE_SCORE}"]
        beaten = bool((gate.loc[["baseline"]] < gate["candidate"]).all())
        assert len(gate.loc[["baseline"]]) == 2
        assert run.data.params["promoted"] == str(beaten)
        versions = main_job.aliases
        assert versions[Alias.CHALLENGER] == 1
        assert versions.get(Alias.CHAMPION) == (1 if beaten else None)

    def test_the_version_says_what_it_is(self, main_job: MainJob) -> None:
        version = main_job.place.client.get_model_version(REGISTERED_CNN, "1")
        best = training(main_job, version.tags[Tag.MODEL])
        assert version.run_id == best.info.run_id
        assert version.tags[Tag.DATA_SOURCE] == main_job.data_source
        assert version.tags[Tag.DATA_SHA256] == best.data.tags[Tag.DATA_SHA256]
        scores = {name: training(main_job, name).data.metrics["cv_main_weighted_f1"] for name in CANDIDATES}
        assert version.tags[Tag.MODEL] == max(scores, key=lambda name: scores[name])
        assert ("simulated" in version.description) == (main_job.data_source == "simulated")

    def test_a_rollback_without_a_previous_champion_is_a_clear_error(
        self, champion: int, at_the_place: Workplace, call: Callable[..., tuple[int, str]]
    ) -> None:
        before = at_the_place.aliases()
        code, said = call("promote", "--rollback")
        assert code == 1
        assert f"LookupError: {REGISTERED_CNN} has no version aliased 'previous'" in said
        assert at_the_place.aliases() == before
        assert at_the_place.runs(step="promote")[-1].info.status == "FAILED"

    def test_an_equal_score_keeps_the_champion_and_makes_a_challenger(
        self, champion: int, at_the_place: Workplace, call: Callable[..., tuple[int, str]]
    ) -> None:
        versions = len(at_the_place.client.search_model_versions(f"name = '{REGISTERED_CNN}'"))
        code, said = call("promote")
        assert code == 0, said
        after = at_the_place.aliases()
        assert (after[Alias.CHAMPION], after[Alias.CHALLENGER]) == (champion, versions + 1)
        assert after[Alias.NETWORK] in (versions + 1, versions + 2)  # beside an ensemble it is a version of its own
        assert f"version {champion} (" in said
        promoted = at_the_place.runs(step="promote")[-1]
        assert promoted.data.params["promoted"] == "False"
        if "baseline" not in promoted.data.tags[Tag.DECISION]:
            assert f"equals the champion version {champion}" in promoted.data.tags[Tag.DECISION]

    def test_a_rollback_swaps_champion_and_previous_and_says_so(
        self, champion: int, at_the_place: Workplace, call: Callable[..., tuple[int, str]]
    ) -> None:
        later = at_the_place.client.search_model_versions(f"name = '{REGISTERED_CNN}'")[0]
        other = int(later.version)
        assert other != champion
        promotion.registry.name_version(Alias.PREVIOUS, champion)
        promotion.registry.name_version(Alias.CHAMPION, other)
        code, said = call("promote", "--rollback")
        assert code == 0, said
        assert f"rolled back from version {other} to version {champion}" in said
        after = at_the_place.aliases()
        assert (after[Alias.CHAMPION], after[Alias.PREVIOUS]) == (champion, other)
        tags = at_the_place.client.get_model_version(REGISTERED_CNN, str(champion)).tags
        assert tags[Tag.DECISION] == f"rolled back from version {other} to version {champion}"
        runs = at_the_place.runs(step="promote")[-2:]
        assert {run.info.status for run in runs} == {"FINISHED"}
        at_the_place.client.delete_registered_model_alias(REGISTERED_CNN, Alias.PREVIOUS)

    @pytest.mark.parametrize("run", ["0" * 32, "nonsense"])
    def test_promoting_a_run_that_is_not_there_says_so(
        self, at_the_place: Workplace, call: Callable[..., tuple[int, str]], run: str
    ) -> None:
        code, said = call("promote", "--run", run)
        assert code == 1
        assert run in said
        assert "Traceback" not in said


class TestWithoutTheArchive:
    def test_auto_goes_on_with_the_simulated_survey_and_says_so_loudly(
        self, empty_place: Workplace, call: Callable[..., tuple[int, str]]
    ) -> None:
        code, said = call("ingest", "--source", "auto", "--mirror", str(empty_place.folder / "nowhere"), "--size", "60")
        assert code == 0, said
        assert "GOING ON WITH THE SIMULATED SURVEY" in said
        assert "nowhere" in said
        assert [path.name for path in (empty_place.folder / "data/interim").iterdir()] == ["simulated.parquet"]
        assert {run.data.tags[Tag.DATA_SOURCE] for run in empty_place.runs()} == {"simulated"}
        assert len(empty_place.runs()) == 2

    def test_smass2_stops_names_the_three_ways_and_leaves_nothing_half_written(
        self, empty_place: Workplace, call: Callable[..., tuple[int, str]]
    ) -> None:
        code, said = call("ingest", "--source", "smass2", "--mirror", str(empty_place.folder / "nowhere"))
        assert code == 1
        for way in ("data/raw", "--mirror", smass.MIRROR_VARIABLE, smass.OFFICIAL_ADDRESS, "--source simulated"):
            assert way in said
        assert [path for path in (empty_place.folder / "data").rglob("*") if path.is_file()] == []
        assert {run.info.status for run in empty_place.runs()} == {"FAILED"}

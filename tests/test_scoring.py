"""Scoring a survey: the rows of the library, each once, whatever breaks on the way."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alike import assert_same_answers
from astrd import model_folder, scoring, simulate, survey
from astrd.answer_table import Answers
from astrd.classifier import Classifier
from astrd.model_folder import ModelName
from astrd.scoring import FORMAT, Counts, Scoring, Settings, begun_with
from astrd.spectrum import Spectrum
from astrd.storage import Place
from astrd.survey import Survey, SurveyError
from astrd.survey_batch import classified_schema, score_batch

SETTINGS = Settings(coverage=0.9, draws=0, partition_rows=100)
RAW = simulate.survey(450, seed=9)
CHANNELS = simulate.channels(450, seed=9)[0]


def raw_table(rows: pd.DataFrame = RAW) -> pa.Table:
    names = ("designation", "wavelength", "reflectance", "uncertainty")
    return pa.table({name: pa.array(rows[name]) for name in names})


def channel_table(values: np.ndarray = CHANNELS) -> pa.Table:
    return pa.table({"reflectance": pa.array(list(values)), "designation": [f"c{row}" for row in range(len(values))]})


@pytest.fixture
def raw_survey(tmp_path: Path) -> Path:
    path = tmp_path / "survey" / "raw.parquet"
    path.parent.mkdir()
    pq.write_table(raw_table(), path)
    return path


def run(place: Path, output: Path, classifier: Classifier, settings: Settings = SETTINGS) -> tuple[Scoring, Counts]:
    """Score what is left of a survey, without workers."""
    found = Survey.find(str(place))
    begun = Scoring.begin(str(output), found, classifier, settings)
    partitions = found.partitions(settings.partition_rows)
    finished = begun.finished(partitions)
    for number, partition in enumerate(partitions):
        if number not in finished:
            begun.score(number, partition)
    return begun, begun.finish(found)


def table(output: Path, name: str = "classified") -> pd.DataFrame:
    return pd.read_parquet(output / name)


@pytest.mark.parametrize("draws", [0, 2])
def test_raw_spectra_get_the_answers_of_the_library(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, draws: int
) -> None:
    _, counts = run(raw_survey, tmp_path / "out", template_classifier, replace(SETTINGS, draws=draws))
    spectra = [Spectrum.of(r.wavelength, r.reflectance, r.uncertainty, r.designation) for r in RAW.itertuples()]
    found = table(tmp_path / "out")
    assert_same_answers(found, template_classifier.classify(spectra, draws=draws))
    assert found["row"].tolist() == list(range(len(RAW)))
    assert set(found["file"]) == {raw_survey.as_uri()}
    assert counts == Counts(len(RAW), 0)
    assert len(table(tmp_path / "out", "rejected")) == 0
    assert found["main_group"].nunique() == 4


def test_spectra_on_the_channels_get_the_answers_of_the_library(
    tmp_path: Path, template_classifier: Classifier
) -> None:
    partial = CHANNELS.copy()
    partial[::3, 44:] = np.nan
    pq.write_table(channel_table(partial), tmp_path / "survey.parquet", row_group_size=64)
    run(tmp_path / "survey.parquet", tmp_path / "out", template_classifier)
    names = [f"c{row}" for row in range(len(partial))]
    assert_same_answers(table(tmp_path / "out"), template_classifier.classify_channels(partial, names).to_pandas())


def test_the_answers_have_the_columns_of_the_served_model() -> None:
    from astrd.served_model import SIGNATURE

    served = [column.name for column in SIGNATURE.outputs]
    of_draws = [name for name in served if name.startswith("draw_share_")]
    always = served[: served.index(of_draws[0])]
    assert classified_schema(with_draws=False).names == ["file", "row", *always]
    assert classified_schema(with_draws=True).names == ["file", "row", *always, *of_draws]


def test_a_broken_row_goes_aside_with_its_reason_and_costs_nothing_else(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    run(raw_survey, tmp_path / "whole", template_classifier)
    columns = {name: RAW[name].tolist() for name in ("designation", "wavelength", "reflectance", "uncertainty")}
    columns["reflectance"][7] = [float("nan")] * len(columns["reflectance"][7])
    columns["wavelength"][100] = columns["wavelength"][100] * 1000
    columns["uncertainty"][101] = columns["uncertainty"][101][1:]
    columns["wavelength"][449] = None
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), raw_survey)
    _, counts = run(raw_survey, tmp_path / "out", template_classifier)
    assert counts == Counts(446, 4)
    rejected = table(tmp_path / "out", "rejected")
    assert rejected["row"].tolist() == [7, 100, 101, 449]
    assert rejected["designation"].tolist() == [RAW["designation"][row] for row in (7, 100, 101, 449)]
    for reason, words in zip(rejected["reason"], ("finite numbers", "nm", "one length", "got None"), strict=True):
        assert words in reason
    whole = table(tmp_path / "whole")
    assert_same_answers(table(tmp_path / "out"), whole.drop(index=[7, 100, 101, 449]).assign(
        bus_prediction_set=[list(names) for names in whole.drop(index=[7, 100, 101, 449])["bus_prediction_set"]]
    ))  # fmt: skip


def test_a_row_over_which_the_library_stumbles_is_found(template_classifier: Classifier) -> None:
    """As one whose spline is below 0 at 0.55 µm, though its points are not."""

    class Stumbling(Classifier):
        def answers(self, spectra: Any, *settings: Any) -> Answers:
            for row, spectrum in enumerate(spectra):
                if spectrum.designation in ("SIM 000042", "SIM 000300"):
                    raise ValueError(f"row {row}: expected better, got {spectrum.designation}")
            return super().answers(spectra, *settings)

    stumbling = Stumbling(template_classifier.network, template_classifier.calibration, template_classifier.archive)
    (batch,) = raw_table().to_batches()
    classified, rejected = score_batch(batch, "raw", stumbling, coverage=0.9, draws=0)
    assert rejected["row"].to_pylist() == [41, 299]
    assert rejected["reason"].to_pylist() == [f"expected better, got SIM 000{n}" for n in ("042", "300")]
    assert classified["row"].to_pylist() == [row for row in range(len(RAW)) if row not in (41, 299)]
    assert classified["designation"].to_pylist() == [RAW["designation"][row] for row in classified["row"].to_pylist()]


def test_a_batch_of_broken_rows_alone_has_no_answers(template_classifier: Classifier) -> None:
    (batch,) = channel_table(np.full((3, 49), np.nan)).to_batches()
    classified, rejected = score_batch(batch, "channels", template_classifier, coverage=0.9, draws=0)
    assert (len(classified), len(rejected)) == (0, 3)


def test_finished_partitions_are_not_done_again(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    output, found = tmp_path / "out", Survey.find(str(raw_survey))
    begun = Scoring.begin(str(output), found, template_classifier, SETTINGS)
    partitions = found.partitions(100)
    assert begun.finished(partitions) == {}
    begun.score(1, partitions[1])
    begun.score(3, partitions[3])
    (output / "rejected" / "part-000003.parquet").unlink()  # killed between the two files of a partition
    (output / "classified" / "_part-000000.parquet.1f").write_bytes(b"PAR1")  # killed as it wrote
    assert begun.finished(partitions) == {1: Counts(100, 0)}
    before = (output / "classified" / "part-000001.parquet").stat()
    _, counts = run(raw_survey, output, template_classifier)
    after = (output / "classified" / "part-000001.parquet").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert counts == Counts(len(RAW), 0)
    assert table(output)["row"].tolist() == list(range(len(RAW)))
    assert sorted(path.name for path in (output / "classified").iterdir()) == [
        f"part-00000{n}.parquet" for n in range(5)
    ]
    assert json.loads((output / "survey.json").read_text())["counts"] == {"classified": 450, "rejected": 0}


@pytest.mark.parametrize("left", [b"", b"PAR1", b"PAR1" + bytes(50) + b"PAR1"])
@pytest.mark.parametrize("name", ["classified", "rejected"])
def test_a_part_that_a_power_loss_left_empty_or_damaged_is_done_again(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, name: str, left: bytes
) -> None:
    begun, counts = run(raw_survey, tmp_path / "out", template_classifier)
    (tmp_path / "out" / name / "part-000002.parquet").write_bytes(left)
    assert begun.finished(Survey.find(str(raw_survey)).partitions(100)).keys() == {0, 1, 3, 4}
    assert run(raw_survey, tmp_path / "out", template_classifier)[1] == counts


@pytest.mark.parametrize("name", ["survey.json", "model/network.onnx"])
def test_what_a_power_loss_left_empty_beside_the_answers_is_written_again(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, name: str
) -> None:
    run(raw_survey, tmp_path / "out", template_classifier)
    answers = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "classified").iterdir()}
    (tmp_path / "out" / name).write_bytes(b"")
    _, counts = run(raw_survey, tmp_path / "out", template_classifier)
    assert counts == Counts(len(RAW), 0)
    assert answers == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "classified").iterdir()}
    found = begun_with(str(tmp_path / "out"))
    assert found is not None and found[1] is not None


def test_a_survey_that_is_not_whole_is_not_finished(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    begun, _ = run(raw_survey, tmp_path / "out", template_classifier)
    (tmp_path / "out" / "classified" / "part-000002.parquet").unlink()
    with pytest.raises(RuntimeError, match=r"expected 450 spectra .* got 350 classified and 0 rejected"):
        begun.finish(Survey.find(str(raw_survey)))


def test_a_folder_goes_on_with_its_own_survey_model_and_settings_alone(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    output, found = str(tmp_path / "out"), Survey.find(str(raw_survey))
    first = Scoring.begin(output, found, template_classifier, SETTINGS)
    assert Scoring.begin(output, found, template_classifier, SETTINGS) == first
    other = replace(template_classifier, calibration=replace(template_classifier.calibration, temperature=3.0))
    for arguments, difference in (
        ((found, other, SETTINGS), r"model \(without a name\)"),
        (
            (found, template_classifier, replace(SETTINGS, coverage=0.95)),
            rf"coverage \({SETTINGS.coverage}, now 0.95\): give the former",
        ),
        (
            (found, template_classifier, replace(SETTINGS, draws=3, partition_rows=5)),
            rf"draws \({SETTINGS.draws}, now 3\), partition-rows \({SETTINGS.partition_rows}, now 5\)",
        ),
    ):
        with pytest.raises(SurveyError, match=f"was begun with another {difference}.*name another output"):
            Scoring.begin(output, *arguments)
    with pytest.raises(SurveyError, match="expected a new folder as output, got a file"):
        Scoring.begin(str(raw_survey), found, template_classifier, SETTINGS)
    pq.write_table(raw_table(RAW[:-1]), raw_survey)
    with pytest.raises(SurveyError, match="was begun with another input"):
        Scoring.begin(output, Survey.find(str(raw_survey)), template_classifier, SETTINGS)


def test_a_folder_keeps_the_model_it_was_begun_with_and_its_name(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    output, found = str(tmp_path / "out"), Survey.find(str(raw_survey))
    assert begun_with(output) is None
    first = Scoring.begin(output, found, template_classifier, SETTINGS, ModelName("models:/cnn/3", "3"))
    named, classifier = begun_with(output) or (None, None)
    assert named == ModelName("models:/cnn/3", "3") and classifier is not None
    assert Scoring.begin(output, found, classifier, SETTINGS) == first  # by whatever name
    assert begun_with(output) == (named, classifier)
    other = replace(template_classifier, calibration=replace(template_classifier.calibration, temperature=3.0))
    reason = r"was begun with another model \(models:/cnn/3, version 3\): leave --model out to go on with that one"
    with pytest.raises(SurveyError, match=reason):
        Scoring.begin(output, found, other, SETTINGS, ModelName("models:/cnn/4", "4"))
    (tmp_path / "out" / "model" / "network.onnx").unlink()  # killed before it wrote the model
    model_folder.load.cache_clear()
    assert begun_with(output) == (named, None)


def test_a_folder_of_another_version_is_left_alone(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    output = tmp_path / "out"
    Scoring.begin(str(output), Survey.find(str(raw_survey)), template_classifier, SETTINGS)
    manifest = json.loads((output / "survey.json").read_text())
    (output / "survey.json").write_text(json.dumps({**manifest, "format": FORMAT - 1}))
    with pytest.raises(SurveyError, match="was begun with another format: name another output"):
        Scoring.begin(str(output), Survey.find(str(raw_survey)), template_classifier, SETTINGS)
    assert begun_with(str(output)) is None


def test_of_two_runs_that_begin_at_once_with_other_settings_one_is_told(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, found = str(tmp_path / "out"), Survey.find(str(raw_survey))
    write = Place.write

    def overtaken(self: Place, content: bytes) -> None:
        write(self, content)
        if self.path.endswith("survey.json"):
            monkeypatch.setattr(Place, "write", write)
            write(self, content.replace(b"0.9", b"0.5"))  # the other run had not seen ours either

    monkeypatch.setattr(Place, "write", overtaken)
    with pytest.raises(SurveyError, match="was begun with another coverage"):
        Scoring.begin(output, found, template_classifier, SETTINGS)
    Scoring.begin(output, found, template_classifier, replace(SETTINGS, coverage=0.5))


def test_parts_of_another_run_are_not_taken_for_finished(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    begun, counts = run(raw_survey, tmp_path / "out", template_classifier)
    found = Survey.find(str(raw_survey))
    run(raw_survey, tmp_path / "other", template_classifier, replace(SETTINGS, coverage=0.5))
    for name in ("classified", "rejected"):
        foreign = tmp_path / "other" / name / "part-000002.parquet"
        (tmp_path / "out" / name / "part-000002.parquet").write_bytes(foreign.read_bytes())
    assert begun.finished(found.partitions(100)).keys() == {0, 1, 3, 4}
    with pytest.raises(RuntimeError, match="got 350 classified and 0 rejected, 450 with those of other runs"):
        begun.finish(found)
    assert run(raw_survey, tmp_path / "out", template_classifier)[1] == counts
    assert begun.finished(found.partitions(100)).keys() == set(range(5))


def test_parts_beyond_those_of_the_survey_are_noticed(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    begun, _ = run(raw_survey, tmp_path / "out", template_classifier)
    part = tmp_path / "out" / "classified" / "part-000004.parquet"
    part.with_name("part-000005.parquet").write_bytes(part.read_bytes())
    with pytest.raises(RuntimeError, match="got 450 classified and 0 rejected, 500 with those of other runs"):
        begun.finish(Survey.find(str(raw_survey)))


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_run_beside_one_that_finishes_loses_nothing(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The one that finishes removes what killed runs left, and takes what the other is writing for it."""
    output = str(tmp_path / "out") if place == "local" else "memory://beside/out"
    found = Survey.find(str(raw_survey))
    first, second = (Scoring.begin(output, found, template_classifier, SETTINGS) for _ in range(2))
    partitions = found.partitions(100)
    for number, partition in enumerate(partitions):
        first.score(number, partition)
    system = type(Place.of(output).system)
    pipe = system.pipe_file

    def finished_meanwhile(self: Any, path: str, value: bytes, *rest: Any, **options: Any) -> None:
        pipe(self, path, value, *rest, **options)
        if "classified/_part" in path:
            monkeypatch.setattr(system, "pipe_file", pipe)
            assert first.finish(found) == Counts(450, 0)
            assert not self.exists(path)

    monkeypatch.setattr(system, "pipe_file", finished_meanwhile)
    assert second.score(2, partitions[2]) == Counts(100, 0)
    assert second.finish(found) == Counts(450, 0)


def test_a_part_that_cannot_be_written_is_told(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Survey.find(str(raw_survey))
    begun = Scoring.begin(str(tmp_path / "out"), found, template_classifier, SETTINGS)
    monkeypatch.setattr(type(Place.of(str(tmp_path)).system), "pipe_file", lambda *_: None)
    with pytest.raises(FileNotFoundError):
        begun.score(0, found.partitions(100)[0])


def test_a_folder_that_was_left_as_it_was_begun_goes_on(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "_survey.json.1f").write_text("{")  # killed as it wrote what the folder belongs to
    Scoring.begin(str(output), Survey.find(str(raw_survey)), template_classifier, SETTINGS)
    (output / "model" / "network.onnx").unlink()  # killed before it wrote the model
    _, counts = run(raw_survey, output, template_classifier)
    assert counts == Counts(len(RAW), 0)
    assert sorted(path.name for path in output.iterdir()) == ["classified", "model", "rejected", "survey.json"]


def test_a_folder_that_holds_something_else_is_left_alone(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    with pytest.raises(SurveyError, match="expected a new or empty folder"):
        Scoring.begin(str(raw_survey.parent), Survey.find(str(raw_survey)), template_classifier, SETTINGS)
    assert [path.name for path in raw_survey.parent.iterdir()] == [raw_survey.name]


def test_a_model_that_was_exchanged_is_noticed(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier
) -> None:
    found = Survey.find(str(raw_survey))
    begun = Scoring.begin(str(tmp_path / "out"), found, template_classifier, SETTINGS)
    (tmp_path / "out" / "model" / "classifier.json").write_text("{}")
    with pytest.raises(RuntimeError, match=r"the model in .* changed"):
        begun.score(0, found.partitions(100)[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(SETTINGS, coverage=1.0), "coverage between 0 and 1"),
        (replace(SETTINGS, draws=-1), "draws of 0 or more"),
        (replace(SETTINGS, partition_rows=0), "at least 1 row"),
        (replace(SETTINGS, draws=5), "expected raw spectra with their uncertainty for noise draws, got channels"),
    ],
)
def test_settings_are_checked_before_anything_is_written(
    tmp_path: Path, template_classifier: Classifier, settings: Settings, message: str
) -> None:
    pq.write_table(channel_table(), tmp_path / "survey.parquet")
    with pytest.raises(SurveyError, match=message):
        Scoring.begin(str(tmp_path / "out"), Survey.find(str(tmp_path)), template_classifier, settings)
    assert not (tmp_path / "out").exists()


def test_a_survey_may_lie_and_go_anywhere(tmp_path: Path, template_classifier: Classifier) -> None:
    memory = fsspec.filesystem("memory")
    pq.write_table(channel_table(), tmp_path / "survey.parquet")
    memory.pipe_file("/far/away/survey.parquet", (tmp_path / "survey.parquet").read_bytes())
    found = Survey.find("memory://far/away/*.parquet")
    begun = Scoring.begin("memory://far/out", found, template_classifier, SETTINGS)
    for number, partition in enumerate(found.partitions(100)):
        there, part = pickle.loads(pickle.dumps((begun, partition)))  # as it goes to a worker
        assert there == begun
        assert there.score(number, part).spectra == len(part)
    assert begun.finished(found.partitions(100)).keys() == set(range(5))
    assert begun.finish(found) == Counts(450, 0)


def test_what_workers_wrote_is_seen_in_a_storage_that_remembers_its_lists(
    raw_survey: Path, template_classifier: Classifier
) -> None:
    """As those of object stores do; the answers come from other processes."""
    output, found = "remembering://lists", Survey.find(str(raw_survey))
    begun = Scoring.begin(output, found, template_classifier, SETTINGS)
    partitions = found.partitions(100)
    begun.score(0, partitions[0])
    assert begun.finished(partitions).keys() == {0}
    for name, content in _others_answers(found, template_classifier).items():
        Remembering.store[f"/lists/{name}"] = content
    assert begun.finish(found) == Counts(len(RAW), 0)


def _others_answers(found: Survey, classifier: Classifier) -> dict[str, Any]:
    begun = Scoring.begin("memory://others", found, classifier, SETTINGS)
    for number, partition in enumerate(found.partitions(100)):
        begun.score(number, partition)
    store = fsspec.get_filesystem_class("memory").store
    return {name.removeprefix("/others/"): file for name, file in store.items() if "part-" in name}


class Remembering(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """A storage that lists a folder once."""

    protocol = "remembering"
    store: dict[str, Any] = {}  # noqa: RUF012
    lists: dict[str, Any] = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("remembering://", "memory://"))

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path not in self.lists:
            self.lists[path] = super().ls(path, detail=True, **options)
        return self.lists[path] if detail else [info["name"] for info in self.lists[path]]

    def find(self, *arguments: Any, **options: Any) -> Any:
        return fsspec.AbstractFileSystem.find(self, *arguments, **options)

    def invalidate_cache(self, path: str | None = None) -> None:
        self.lists.clear()


fsspec.register_implementation("remembering", Remembering, clobber=True)


def test_a_partition_is_held_in_batches(
    raw_survey: Path, tmp_path: Path, template_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of a worker is that of a batch and of a partition's answers, however large the survey's files are."""
    largest = []

    def measured(batch: pa.RecordBatch, *rest: Any) -> Any:
        largest.append(batch.num_rows)
        return score_batch(batch, *rest)

    monkeypatch.setattr(survey, "BATCH_ROWS", 32)
    monkeypatch.setattr(scoring, "score_batch", measured)
    run(raw_survey, tmp_path / "out", template_classifier)
    assert sum(largest) == len(RAW) and max(largest) <= 32
    assert table(tmp_path / "out")["row"].tolist() == list(range(len(RAW)))

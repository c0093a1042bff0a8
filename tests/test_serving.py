"""The champion behind a real server: its answers, and what it refuses."""

from __future__ import annotations

import io
import json
import math
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import mlflow
import numpy as np
import pandas as pd
import pytest

from astrd import registry
from astrd.classifier import Classifier
from astrd.spectrum import Spectrum
from astrd.taxonomy import BUS_CLASSES, MAIN_GROUPS
from astrd.tracking import REGISTERED_CNN, Alias
from conftest import MainJob
from workplace import SCRIPTS, free_port, wait_until

URI = f"models:/{REGISTERED_CNN}@{Alias.CHAMPION}"
ASKED = ("1", "2", "4", "16", "20")
"""Ceres (C), Pallas (B), Vesta (V), Psyche (X), Massalia (S)."""

DRAW_SHARES = {"main_group_draw_share", "bus_class_draw_share"}
"""Fields that may be null: they are always there, and say nothing without draws."""

Answer = tuple[int, Any]


@pytest.fixture(scope="module", autouse=True)
def store(main_job: MainJob, champion: int) -> Iterator[None]:
    """MLflow in this process speaks to the main job's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", main_job.place.store)
        mlflow.set_tracking_uri(main_job.place.store)
        yield


@pytest.fixture(scope="module")
def rows(main_job: MainJob) -> list[dict[str, Any]]:
    """Raw spectra as a client would send them: of known asteroids, or the first ones where these are simulated."""
    table = pd.read_parquet(main_job.place.folder / f"data/interim/{main_job.data_source}.parquet")
    known = table[table["designation"].isin(ASKED)]
    chosen = known if len(known) > 3 else table.head(len(ASKED))
    columns = ["designation", "wavelength", "reflectance", "uncertainty"]
    return [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        for row in chosen[columns].to_dict(orient="records")
    ]


SERVERS = {
    "mlflow": [SCRIPTS / "mlflow", *f"models serve -m {URI} --env-manager local -h 127.0.0.1 -w 1 -p".split()],
    "astrd": [SCRIPTS / "astrd", "serve", "--port"],
}
"""Commands that the port is put after; both answer the same."""


@pytest.fixture(scope="module", params=SERVERS)
def url(main_job: MainJob, champion: int, request: pytest.FixtureRequest) -> Iterator[str]:
    port = free_port()
    with main_job.place.started(*SERVERS[request.param], str(port)) as (process, output):

        def up() -> bool:
            assert process.poll() is None, output()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                return bool(answer.status == 200)

        wait_until(up, 90, output)
        yield f"http://127.0.0.1:{port}/invocations"


@pytest.fixture(scope="module")
def ask(url: str) -> Callable[..., Answer]:
    """Send rows as records, get the status and the predictions or the error's message."""

    def asked(rows: list[dict[str, Any]], params: dict[str, Any] | None = None) -> Answer:
        body = {"dataframe_records": rows, **({"params": params} if params else {})}
        return post(url, json.dumps(body).encode(), "application/json")

    return asked


def post(url: str, body: bytes, kind: str) -> Answer:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["predictions"]
    except HTTPError as error:
        return error.code, json.load(error)["message"]


@pytest.fixture(scope="module")
def classifier(store: None) -> Classifier:
    return registry.load_classifier(URI)


@pytest.fixture(scope="module")
def expected(classifier: Classifier, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return classified(classifier, rows)


def classified(classifier: Classifier, rows: list[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
    spectra = [Spectrum.of(r["wavelength"], r["reflectance"], r.get("uncertainty"), r["designation"]) for r in rows]
    return classifier.classify(spectra, **params).to_dict(orient="records")


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert set(one) == set(other)
        for name, value in other.items():
            if isinstance(value, list) and isinstance(value[0], float):
                assert one[name] == pytest.approx(value, abs=1e-4), name
            elif isinstance(value, float):
                absent = one[name] is None or math.isnan(one[name])
                assert absent == math.isnan(value), name
                assert absent or one[name] == pytest.approx(value, abs=1e-4), name
            else:
                assert one[name] == value, name


class TestAnswers:
    def test_one_spectrum_is_answered_as_the_classifier_does(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]], expected: list[dict[str, Any]]
    ) -> None:
        for row, answer in zip(rows, expected, strict=True):
            status, found = ask([row])
            assert status == 200, found
            same(found, [answer])

    def test_many_are_answered_in_their_order_each_as_if_alone(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]], expected: list[dict[str, Any]]
    ) -> None:
        status, found = ask(rows[::-1])
        assert status == 200, found
        same(found, expected[::-1])
        assert [answer["designation"] for answer in found] == [row["designation"] for row in rows[::-1]]

    def test_mlflow_answers_the_same_inside_a_process(
        self, rows: list[dict[str, Any]], expected: list[dict[str, Any]]
    ) -> None:
        answers = mlflow.pyfunc.load_model(URI).predict(pd.DataFrame(rows))
        same(answers.to_dict(orient="records"), expected)

    def test_a_parquet_body_is_answered_the_same(
        self, url: str, rows: list[dict[str, Any]], expected: list[dict[str, Any]]
    ) -> None:
        body = io.BytesIO()
        pd.DataFrame(rows).to_parquet(body)
        status, found = post(url, body.getvalue(), "application/vnd.apache.parquet")
        assert status == 200, found
        same(found, expected)

    def test_astrd_classify_prints_the_same(
        self, main_job: MainJob, rows: list[dict[str, Any]], expected: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        files = []
        for row in rows:
            files.append(tmp_path / f"{row['designation'].replace(' ', '_')}.txt")
            columns = np.column_stack([row["wavelength"], row["reflectance"], row["uncertainty"]])
            np.savetxt(files[-1], columns, fmt="%.17g")
        done = main_job.place.run(SCRIPTS / "astrd", "classify", *files, COLUMNS="250")
        assert done.code == 0, done.output
        printed = [line.split() for line in done.output.splitlines() if line.split()[:1] and ".txt" in line.split()[0]]
        assert len(printed) == len(files)
        for cells, path, answer in zip(printed, files, expected, strict=True):
            group, bus = (f"{answer[f'{level}_probability']:.3f}" for level in ("main_group", "bus_class"))
            assert cells[:5] == [path.name, answer["main_group"], group, answer["bus_class"], bus]
            assert cells[5 : 5 + len(answer["bus_prediction_set"])] == answer["bus_prediction_set"]

    @pytest.mark.parametrize("params", [{"explain": True}, {"explain": True, "draws": 3, "coverage": 0.95}])
    def test_all_ways_give_the_same_reasons(
        self,
        main_job: MainJob,
        ask: Callable[..., Answer],
        rows: list[dict[str, Any]],
        classifier: Classifier,
        params: dict[str, Any],
        tmp_path: Path,
    ) -> None:
        expected = classified(classifier, rows, **params)
        status, served = ask(rows, params)
        assert status == 200, served
        same(served, expected)
        frame = mlflow.pyfunc.load_model(URI).predict(pd.DataFrame(rows), params=params)
        same(frame.to_dict(orient="records"), expected)
        files = [tmp_path / f"{number}.txt" for number in range(len(rows))]
        for path, row in zip(files, rows, strict=True):
            columns = np.column_stack([row["wavelength"], row["reflectance"], row["uncertainty"]])
            np.savetxt(path, columns, fmt="%.17g")
        options = [f"--{name}" if value is True else f"--{name}={value}" for name, value in params.items()]
        output = tmp_path / "answers.json"
        done = main_job.place.run(SCRIPTS / "astrd", "classify", *files, *options, "--output", output)
        assert done.code == 0, done.output
        written = [{name: row[name] for name in expected[0]} for row in json.loads(output.read_text())]
        for row, answer in zip(written, expected, strict=True):
            row["designation"] = answer["designation"]  # that of a file is its name
        same(written, expected)

    def test_without_being_asked_it_gives_no_reasons(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        assert not {"slope", "analogue_name", "draw_share_S"} & set(ask(rows[:1])[1][0])

    def test_every_field_stands_in_the_signature(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]], store: None
    ) -> None:
        outputs = mlflow.models.get_model_info(URI).signature.outputs
        answer = ask(rows[:1], {"explain": True, "draws": 2})[1][0]
        assert set(answer) == set(outputs.input_names())
        assert set(ask(rows[:1])[1][0]) == set(outputs.required_input_names()) | DRAW_SHARES

    def test_probabilities_add_up_and_the_group_is_that_of_the_classes(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        _, found = ask(rows)
        for answer in found:
            assert sum(answer[f"probability_{name}"] for name in BUS_CLASSES) == pytest.approx(1)
            assert sum(answer[f"probability_group_{name}"] for name in MAIN_GROUPS) == pytest.approx(1)
            assert answer["main_group_probability"] == max(answer[f"probability_group_{n}"] for n in MAIN_GROUPS)
            assert answer["bus_prediction_set"]

    @pytest.mark.archive
    def test_vesta_is_no_carbonaceous_asteroid(
        self, archive_folder: Path, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        groups = {answer["designation"]: answer["main_group"] for answer in ask(rows)[1]}
        assert (groups["1"], groups["4"], groups["20"]) == ("C", "Other", "S")

    def test_uncertainty_and_designation_may_be_left_out(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        status, found = ask([{name: rows[0][name] for name in ("wavelength", "reflectance")}])
        assert status == 200, found
        assert found[0]["designation"] == ""
        assert "no uncertainty given" in found[0]["note"]
        assert "no uncertainty given" not in ask([rows[0]])[1][0]["note"]

    def test_some_rows_may_have_an_uncertainty_and_others_none(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        without = {name: value for name, value in rows[1].items() if name != "uncertainty"}
        for second in (without, {**without, "uncertainty": []}, {**without, "uncertainty": None}):
            status, found = ask([rows[0], second])
            assert status == 200, found
            assert ["no uncertainty given" in answer["note"] for answer in found] == [False, True]


class TestParams:
    def test_more_coverage_gives_larger_sets(self, ask: Callable[..., Answer], rows: list[dict[str, Any]]) -> None:
        sizes = [
            [len(answer["bus_prediction_set"]) for answer in ask(rows, {"coverage": coverage})[1]]
            for coverage in (0.5, 0.9, 0.99)
        ]
        assert all(a <= b <= c for a, b, c in zip(*sizes, strict=True))
        assert sum(sizes[2]) > sum(sizes[0])
        assert [len(answer["bus_prediction_set"]) for answer in ask(rows)[1]] == sizes[1]

    def test_draws_tell_how_often_the_class_stays(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]], classifier: Classifier
    ) -> None:
        _, found = ask(rows, {"draws": 5})
        same(found, classified(classifier, rows, draws=5))
        for answer in found:
            assert answer["bus_class_draw_share"] in (0, 0.2, 0.4, 0.6, 0.8, 1)
        assert ask(rows[:1])[1][0]["bus_class_draw_share"] is None

    @pytest.mark.parametrize(
        "params", [{"coverage": 0}, {"coverage": 1.5}, {"draws": -1}, {"coverage": "much"}, {"explain": "maybe"}]
    )
    def test_params_out_of_range_are_refused(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]], params: dict[str, Any]
    ) -> None:
        status, message = ask(rows[:1], params)
        assert status == 400
        assert next(iter(params)) in message


def changed(row: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {**row, **columns}


def with_third(values: list[float], value: Any) -> list[Any]:
    return [*values[:2], value, *values[3:]]


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "NaN": (lambda r: changed(r, reflectance=with_third(r["reflectance"], math.nan)), "finite"),
    "infinity": (lambda r: changed(r, reflectance=with_third(r["reflectance"], math.inf)), "finite"),
    "null": (lambda r: changed(r, reflectance=with_third(r["reflectance"], None)), "reflectance"),
    "no list at all": (lambda r: changed(r, reflectance=None), "reflectance"),
    "a number for a list": (lambda r: changed(r, reflectance=1.0), "reflectance"),
    "lists of two lengths": (lambda r: changed(r, reflectance=r["reflectance"][:-1]), "one length"),
    "uncertainties of another length": (lambda r: changed(r, uncertainty=r["uncertainty"][:-1]), "one length"),
    "text": (lambda r: changed(r, wavelength="0.5 0.6 0.7"), "wavelength"),
    "text in a list": (lambda r: changed(r, wavelength=with_third(r["wavelength"], "blue")), "wavelength"),
    "too few points": (lambda r: {k: v if k == "designation" else v[::25] for k, v in r.items()}, "expected"),
    "an empty list": (lambda r: changed(r, wavelength=[], reflectance=[], uncertainty=[]), "empty list"),
    "an uncertainty of 0": (lambda r: changed(r, uncertainty=with_third(r["uncertainty"], 0.0)), "uncertaint"),
    "ångström": (lambda r: changed(r, wavelength=[1e4 * w for w in r["wavelength"]]), "Å"),
}


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    @pytest.mark.parametrize("place", [0, 2])
    def test_what_cannot_be_classified_is_a_400_that_names_row_and_reason(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]], case: str, place: int
    ) -> None:
        spoil, reason = REFUSED[case]
        sent = [spoil(row) if number == place else row for number, row in enumerate(rows[:3])]
        status, message = ask(sent)
        assert status == 400, message
        assert f"row {place}" in message
        assert rows[place]["designation"] in message
        assert reason in message

    def test_no_rows_are_a_400(self, ask: Callable[..., Answer]) -> None:
        status, message = ask([])
        assert status == 400
        assert message

    def test_a_missing_column_is_a_400_that_names_it(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        status, message = ask([{name: value for name, value in rows[0].items() if name != "wavelength"}])
        assert status == 400
        assert "wavelength" in message

    def test_after_all_that_the_server_still_answers(
        self, ask: Callable[..., Answer], rows: list[dict[str, Any]]
    ) -> None:
        assert ask(rows[:1])[0] == 200


WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "keras", "sklearn", "prefect", "matplotlib"):
    sys.modules[name] = None
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pd.read_parquet(sys.argv[2]))["bus_class"].tolist())
"""


class TestItsEnvironment:
    def test_it_asks_for_no_tensorflow(self, store: None) -> None:
        lines = Path(mlflow.pyfunc.get_model_dependencies(URI)).read_text().split()
        names = {line.split("==")[0] for line in lines}
        assert {"mlflow", "onnxruntime", "numpy"} <= names
        assert not names & {"tensorflow", "keras", "scikit-learn", "prefect"}

    def test_it_answers_where_tensorflow_cannot_be_imported(
        self, main_job: MainJob, rows: list[dict[str, Any]], expected: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
        done = main_job.place.run(
            sys.executable, "-W", "ignore", "-c", WITHOUT_TENSORFLOW, URI, tmp_path / "rows.parquet"
        )
        assert done.code == 0, done.output
        assert done.output.strip().splitlines()[-1] == str([answer["bus_class"] for answer in expected])

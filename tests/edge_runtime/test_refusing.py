"""The bundle's gate, the age limit and the prediction set, from the score in the graph to what a person reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import Result

from edge_runtime.answer import Outcome, answer_file
from edge_runtime.bundle import file_entry, open_bundle, rewrite_manifest
from edge_runtime.errors import BackendError, BundleError, Reason, Refusal
from edge_runtime.manifest import Conformal, Gate, encode_manifest, parse_manifest
from edge_runtime.prediction_set import prediction_set, refers, set_note
from edge_runtime.predictor import Predictor
from edge_runtime.radiograph import HeaderFacts
from edge_runtime.reading import read_radiograph
from edge_runtime.refusing import age_in_years, check_age, check_score, reason_of
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.tiny_bundle import LABELS, SHAPES

Run = Callable[..., Result]
GATE = Gate(
    threshold=1.0,
    reasons=("not_a_radiograph", "inverted", "lateral_view"),
    minimum_age_years=16.0,
    training_radiographs=500,
    other_pictures={"not_a_radiograph": 400, "inverted": 160, "lateral_view": 30},
    validation_radiographs=100,
    validation_refused=1,
    data_sha256="0" * 64,
)


def conformal(*thresholds: float) -> Conformal:
    """Prediction sets with these thresholds, in the labels' order."""
    return Conformal(
        coverage=0.9,
        thresholds=dict(zip(LABELS, thresholds, strict=True)),
        split="valid",
        radiographs=dict.fromkeys(LABELS, 40),
        data_sha256="0" * 64,
    )


class _Fixed:
    """A backend that answers what it is told."""

    def __init__(self, score: float, probabilities: tuple[float, float, float] = (0.7, 0.2, 0.1)) -> None:
        self.versions: dict[str, str] = {}
        self.outputs = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
        self.outputs["gate_score"][0] = score
        self.outputs["probabilities"][0] = probabilities

    def run(self, image: Any) -> dict[str, Any]:
        return self.outputs

    def close(self) -> None:
        pass


def answered(bundle_path: Path, file: Path, backend: _Fixed, **sections: Any) -> Outcome:
    """Answer a file by a bundle with other manifest sections and a fixed backend."""
    with open_bundle(bundle_path) as bundle:
        bundle.manifest = msgspec.structs.replace(bundle.manifest, **sections)
        with Predictor.open(bundle) as predictor:
            predictor._backend = backend  # type: ignore[assignment]
            return answer_file(predictor, file)


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (0.0, None),
        (0.999, None),
        (1.0, Reason.NOT_A_RADIOGRAPH),
        (1.97, Reason.NOT_A_RADIOGRAPH),
        (2.0, Reason.INVERTED),
        (3.9999, Reason.LATERAL_VIEW),
        (7.0, Reason.LATERAL_VIEW),  # no gate gives it; it is refused all the same
    ],
)
def test_the_whole_part_of_the_score_says_why(score: float, reason: Reason | None) -> None:
    assert reason_of(GATE, score) is reason
    if reason is None:
        check_score(GATE, score)
    else:
        with pytest.raises(Refusal) as caught:
            check_score(GATE, score)
        assert caught.value.reason is reason
        assert caught.value.remedy
    check_score(None, score)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_no_answer(score: float) -> None:
    with pytest.raises(BackendError, match="not a number"):
        check_score(GATE, score)


@pytest.mark.parametrize(
    ("age", "years"),
    [("058Y", 58), ("018M", 1.5), ("010D", 10 / 365.25), ("004W", 28 / 365.25), ("007", 7), ("000Y", None)]
    + [(text, None) for text in (None, "", "UNKNOWN", "1234Y")],
)
def test_ages_are_read_in_every_unit(age: str | None, years: float | None) -> None:
    assert age_in_years(age) == (None if years is None else pytest.approx(years))


def test_children_are_refused_where_the_header_tells_the_age(tiny_bundle: Path, tmp_path: Path) -> None:
    for age, status in (("015Y", "refused"), ("011M", "refused"), ("016Y", "ok"), ("", "ok")):
        write_dicom(tmp_path / "chest.dcm", PatientAge=age)
        outcome = answered(tiny_bundle, tmp_path / "chest.dcm", _Fixed(0.2), gate=GATE)
        assert outcome.answer.status == status, age
        assert outcome.answer.reason == (None if status == "ok" else "child_under_limit")
    check_age(msgspec.structs.replace(GATE, minimum_age_years=None), HeaderFacts(age="001D"))
    check_age(None, HeaderFacts(age="001D"))


def test_of_what_the_gate_refuses_nothing_is_told(tiny_bundle: Path, chest_png: Path) -> None:
    outcome = answered(tiny_bundle, chest_png, _Fixed(2.5), gate=GATE, conformal=conformal(0.5, 0.5, 0.5))
    answer = outcome.answer
    assert (answer.status, answer.reason) == ("refused", "inverted")
    assert "bone is dark" in (answer.message or "") and answer.remedy
    assert answer.gate_score == 2.5
    assert outcome.prediction is None
    told = answer.to_json_object()
    assert [told[key] for key in ("label", "probabilities", "prediction_set", "refer")] == [None] * 4


def test_without_sections_nothing_is_refused_or_claimed(tiny_bundle: Path, chest_png: Path) -> None:
    answer = answered(tiny_bundle, chest_png, _Fixed(3.0)).answer
    assert answer.status == "ok"
    assert (answer.gate_score, answer.prediction_set, answer.refer) == (None, None, None)


@pytest.mark.parametrize(
    ("thresholds", "labels", "words"),
    [
        ((0.5, 0.5, 0.5), ("normal",), None),
        ((0.5, 0.15, 0.5), ("normal", "pneumonia"), "normal and pneumonia cannot be told apart"),
        ((0.0, 0.0, 0.0), LABELS, "normal, pneumonia and COVID-19 cannot"),
        ((0.8, 0.8, 0.8), (), "like none of the classes"),
        ((0.7, 0.8, 0.8), ("normal",), None),
    ],
)
def test_a_set_of_not_exactly_one_class_is_referred(
    thresholds: tuple[float, ...], labels: tuple[str, ...], words: str | None
) -> None:
    section = conformal(*thresholds)
    found = prediction_set(section, {"normal": 0.7, "pneumonia": 0.2, "COVID-19": 0.1})
    assert found == labels
    assert refers(found) is (words is not None)
    note = set_note(section, found)
    assert (note is None) if words is None else (note is not None and words in note)


def test_json_csv_and_table_show_the_set(own_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run) -> None:
    with open_bundle(own_bundle) as bundle:
        sections = {"gate": None, "conformal": conformal(0.0, 0.0, 1.0)}
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, **sections))
    result = run_command("predict", own_bundle, chest_png, "--json", "--csv", tmp_path / "out.csv")
    answer = json.loads(result.stdout)
    assert answer["prediction_set"] == ["normal", "pneumonia"]
    assert answer["refer"] is True and answer["gate_score"] is None
    assert any("Refer to a reader" in note for note in answer["notes"])
    (row,) = csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8"))
    assert (row["prediction_set"], row["refer"], row["gate_score"]) == ("normal | pneumonia", "true", "")
    assert row["label"] == answer["label"]
    table = run_command("predict", own_bundle, chest_png).stdout
    assert "refer: normal or pneumonia" in " ".join(table.split())
    assert "Refer to a reader" in table


def move_gate_score(root: Path, by: float) -> None:
    """Let the bundle's graph answer with another gate score, and give the bundle a gate."""
    import onnx

    path = root / "artifacts/onnx-fp32.onnx"
    model = onnx.load(path)
    (node,) = [n for n in model.graph.node if n.output[0] == "gate_score"]
    node.output[0] = "unmoved"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([by]), "by"))
    model.graph.node.append(onnx.helper.make_node("Add", ["unmoved", "by"], ["gate_score"]))
    onnx.save(model, path)
    with open_bundle(root) as bundle:
        artifact = bundle.manifest.artifacts[0]
        artifact = msgspec.structs.replace(artifact, files=(file_entry(root, "artifacts/onnx-fp32.onnx"),))
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, artifacts=(artifact,), gate=GATE))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [(0.5, None), (1.5, "not_a_radiograph"), (2.5, "inverted"), (3.5, "lateral_view"), (9.5, "lateral_view")],
)
def test_a_learnt_refusal_is_in_every_output(
    own_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run, wanted: float, reason: str | None
) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: the tiny graph cannot be changed")
    with open_bundle(own_bundle) as bundle, Predictor.open(bundle) as predictor:
        score = predictor.predict(read_radiograph(chest_png).pixels).gate_score
    move_gate_score(own_bundle, wanted - score)
    result = run_command("predict", own_bundle, chest_png, "--json", "--csv", tmp_path / "out.csv")
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["reason"]) == ("ok" if reason is None else "refused", reason)
    assert answer["gate_score"] == pytest.approx(wanted, abs=1e-4)
    for told in ("label", "probabilities", "prediction_set", "refer"):
        assert reason is None or answer[told] is None, "of what is refused, nothing is told"
    (row,) = csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8"))
    assert float(row["gate_score"]) == pytest.approx(wanted, abs=1e-4)
    assert (row["reason"], row["label"]) == (reason or "", answer["label"] or "")
    table = run_command("predict", own_bundle, chest_png).stdout
    assert (reason is None) or f"refused: {reason}" in table
    assert result.exit_code == 0, "a refusal is an answer"


def test_the_sections_survive_the_manifest_and_are_closed(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        manifest = msgspec.structs.replace(bundle.manifest, gate=GATE, conformal=conformal(0.1, 0.2, 0.3))
    text = encode_manifest(manifest)
    assert parse_manifest(text, "it") == manifest
    for old, new in (
        (b'"inverted",', b'"upside",'),
        (b'"coverage": 0.9', b'"coverage": 1.5'),
        (b'"threshold": 1', b'"threshold": 2'),
        (b'"split": "valid"', b'"splits": "valid"'),
        (b'"thresholds": {\n      "normal"', b'"thresholds": {\n      "healthy"'),
    ):
        changed = text.replace(old, new)
        assert changed != text, old
        with pytest.raises(BundleError):
            parse_manifest(changed, "it")


def test_frame_and_window_choose(tiny_bundle: Path, tmp_path: Path, run_command: Run) -> None:
    write_dicom(tmp_path / "two.dcm", WindowCenter=[100, 40], WindowWidth=[200, 60])
    first, second = (
        json.loads(run_command("predict", tiny_bundle, tmp_path / "two.dcm", "--json", *more).stdout)
        for more in ((), ("--window", "2"))
    )
    assert first["probabilities"] != second["probabilities"]
    assert any("2 of 2" in note for note in second["notes"])
    third = json.loads(run_command("predict", tiny_bundle, tmp_path / "two.dcm", "--json", "--window", "3").stdout)
    assert third["status"] == "refused"
    from PIL import Image

    from tests.edge_runtime.tiny_bundle import gradient

    pages = [Image.fromarray(gradient(200, 200, seed)) for seed in (1, 2)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    run = lambda *more: json.loads(run_command("predict", tiny_bundle, tmp_path / "two.tif", "--json", *more).stdout)  # noqa: E731
    assert run()["reason"] == "multi_frame"
    assert run("--frame", "1")["probabilities"] != run("--frame", "2")["probabilities"]
    result = run_command("predict", tiny_bundle, tmp_path / "two.tif", "--frame", "1", "--jobs", "2")
    assert result.exit_code == 2

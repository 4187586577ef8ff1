"""What the DICOM node answers with: structured reports and captures, by dicom3tools' validator too."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (the extra node)")
pytest.importorskip("highdicom", reason="highdicom is not installed (the extra node)")

from edge_runtime.answer import answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.manifest import Conformal
from edge_runtime.predictor import Predictor
from edge_runtime.receiving.results import _picture, write_results
from tests.edge_runtime.station import Station, films, store, tool, until
from tests.edge_runtime.tiny_bundle import LABELS, build_tiny_bundle


def test_the_results_are_valid_and_say_what_they_are(station: Station, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    study = station.filed[0].study
    results = tmp_path / "node" / "results"
    report = pydicom.dcmread(results / f"{study.key}.report.dcm")
    capture = pydicom.dcmread(results / f"{study.key}.capture.dcm")
    source = pydicom.dcmread(film)
    for made in (report, capture):
        assert made.StudyInstanceUID == "1.2.3"
        assert made.PatientID == "4711"
        assert made.SeriesInstanceUID not in ("1.2.3.4", source.SOPInstanceUID)
        assert "NOT FOR CLINICAL USE" in made.SeriesDescription
    assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "PARTIAL")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    text = str(report)
    for label, probability in study.answer["probabilities"].items():
        assert f"Probability of {label}" in text
        assert f"{round(probability, 4):g}" in text
    assert source.SOPInstanceUID in text
    assert (capture.PhotometricInterpretation, capture.BurnedInAnnotation) == ("RGB", "NO")
    assert capture.pixel_array.shape[2] == 3
    assert int(capture.pixel_array.max()) > 200
    # a second time: the same objects, not others
    before = {p.name: pydicom.dcmread(p).SOPInstanceUID for p in results.iterdir()}
    for path in results.iterdir():
        path.unlink()
    write_results(station.records, study, station.filed[0].path, results)
    assert {p.name: pydicom.dcmread(p).SOPInstanceUID for p in results.iterdir()} == before


def test_dicom3tools_finds_no_error_in_the_results(station: Station, tmp_path: Path) -> None:
    validator = tool("dciodvfy")
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    for path in (tmp_path / "node" / "results").iterdir():
        said = subprocess.run([validator, "-new", str(path)], check=False, capture_output=True, text=True, timeout=60)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name


@pytest.mark.parametrize(
    ("threshold", "possible", "sentence"),
    [
        (0.0, ["normal", "pneumonia", "COVID-19"], "Refer to a reader: normal, pneumonia and COVID-19 cannot be told"),
        (1.0, ["None of the classes"], "Refer to a reader: the radiograph is like none of the classes."),
        (None, None, None),
    ],
)
def test_a_referral_is_in_both_results(
    tiny_bundle: Path, tmp_path: Path, threshold: float | None, possible: list[str] | None, sentence: str | None
) -> None:
    [film] = films(tmp_path / "films", 1)
    if threshold is None:  # what the most probable class alone reaches
        with open_bundle(tiny_bundle) as opened, Predictor.open(opened) as predictor:
            *_, second, first = sorted((answer_file(predictor, film).answer.probabilities or {}).values())
        threshold = (first + second) / 2
    thresholds = dict.fromkeys(LABELS, threshold)
    calibrated = {"split": "val", "radiographs": dict.fromkeys(LABELS, 20), "data_sha256": "0" * 64}
    conformal = Conformal(coverage=0.9, thresholds=thresholds, **calibrated)
    bundle = build_tiny_bundle(tmp_path / "bundle", conformal=conformal)
    with Station(tmp_path / "node", bundle) as station:
        assert store(station, film) == 0
        until(lambda: len(station.filed) == 1)
    assert station.troubles == []
    study = station.filed[0].study
    results = tmp_path / "node" / "results"
    report = pydicom.dcmread(results / f"{study.key}.report.dcm")
    capture = pydicom.dcmread(results / f"{study.key}.capture.dcm")
    said = items(report)
    if possible is None:  # the label alone is left
        assert said["Refer to a reader"] == ["No"]
        assert said["Class that cannot be ruled out"] == [study.answer["label"]] == [study.word]
        assert not capture.ImageComments.startswith("Refer")
    else:
        assert sentence is not None
        assert said["Refer to a reader"] == ["Yes"]
        assert said["Class that cannot be ruled out"] == possible
        assert any(text.startswith(sentence) for text in said["Comment"])
        assert capture.ImageComments.startswith(sentence)
        assert study.word.startswith("refer to a reader: ")
    validator = tool("dciodvfy")
    for path in results.iterdir():
        output = subprocess.run([validator, "-new", str(path)], check=False, capture_output=True, text=True, timeout=60)
        errors = [line for line in (output.stdout + output.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name


def items(report: pydicom.Dataset) -> dict[str, list[str]]:
    """Every text and code of a structured report by its name."""
    found: dict[str, list[str]] = {}

    def walk(part: pydicom.Dataset) -> None:
        for item in part.get("ContentSequence", ()):
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            if item.ValueType == "TEXT":
                found.setdefault(name, []).append(item.TextValue)
            elif item.ValueType == "CODE":
                found.setdefault(name, []).append(item.ConceptCodeSequence[0].CodeMeaning)
            walk(item)

    walk(report)
    return found


def test_the_words_of_the_capture_fit_into_the_picture() -> None:
    small = np.full((200, 180), 90, np.uint8)
    heatmap = np.zeros((4, 4), np.float32)
    short, long = (_picture(small, heatmap, ("word " * count, "heat map")) for count in (2, 60))
    assert (short[:28].max() > 100, long[:28].max() > 100) == (True, True)  # it is written
    assert long[:, -6:].max() == 0  # and not cut off at the right, but broken
    assert len(long) - len(short) >= 3 * 28


def test_a_header_that_no_result_can_be_made_of_costs_the_result_alone(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise ValueError("Doe^Jane is no name")

    monkeypatch.setattr("edge_runtime.receiving.results.build_report", refuse)
    sent = films(tmp_path / "films", 2)
    assert store(station, *sent, sent[0]) == 0
    until(lambda: len(station.filed) == 3)
    assert station.troubles == []
    assert station.intake.waiting() == []
    assert [item.path.parent.name for item in station.filed] == ["done"] * 3
    assert all("Doe^Jane is no name" in str(item.problem) for item in station.filed)
    key = station.filed[0].study.key
    assert json.loads(station.filed[0].result.read_text())["result_problem"] == station.filed[0].problem
    [note] = station.records.notes(key)  # once, though the first film came twice
    assert "No result was written" in note.text
    [entry] = [e for e in station.records.audit_entries(key) if e.action == "result not written"]
    assert "Doe" not in str(entry)


def test_an_empty_result_is_written_anew(station: Station, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    filed = station.filed[0]
    report = tmp_path / "node" / "results" / f"{filed.study.key}.report.dcm"
    report.write_bytes(b"")
    write_results(station.records, filed.study, filed.path, report.parent)
    assert pydicom.dcmread(report).Modality == "SR"
    # a newer answer gets objects of its own
    before = pydicom.dcmread(report).SOPInstanceUID
    outcome = answer_file(station._predictor, film)
    newer = station.records.add_answer(filed.study.key, outcome, station._predictor.manifest, actor="Ada")
    write_results(station.records, newer, filed.path, report.parent)
    assert pydicom.dcmread(report).SOPInstanceUID != before

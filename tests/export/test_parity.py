"""Parity: passes on a good bundle, fails on a bad one, and writes down both."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from edge_runtime.bundle import file_entry, open_bundle, rewrite_manifest
from edge_runtime.selftest import run_selftest
from export import DeployableGraph, ExportError, check_parity
from export.formats import WRITERS
from export.parity_limits import DEFAULT_LIMITS_FILE, load_limits
from export.parity_page import render_page
from export.parity_predictions import recorded_answers
from export.parity_report import REPORT_NAMES, read_pictures, record_parity, report_object, write_reports
from export.parity_result import ParityReport
from export.parity_text import report_junit, report_markdown
from tests.export.making import ARCHITECTURE, SIZE, make_classifier, make_run
from tests.export.test_build import run_cli


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def report(bundle_folder: Path, run_folder: Path, data_folder: Path) -> ParityReport:
    return check_parity(bundle_folder, run_folder, data_folder, gate=False)


def put_wrong_model(bundle: Path, name: str = "torchscript-fp32") -> None:
    """Replace an artifact by another model's, with hashes that fit: what a mistake in a pipeline looks like."""
    wrong = make_classifier(ARCHITECTURE)
    with torch.no_grad():
        wrong[1][-1].weight.copy_(wrong[1][-1].weight.flip(0))
    graph = DeployableGraph(wrong, size=SIZE, normalization="per_image", temperature=1.3)
    WRITERS["torchscript"].write(graph, bundle / f"artifacts/{name}.pt")
    with open_bundle(bundle) as opened:
        artifacts = tuple(
            msgspec.structs.replace(a, files=(file_entry(bundle, a.files[0].path),)) if a.name == name else a
            for a in opened.manifest.artifacts
        )
        rewrite_manifest(opened, msgspec.structs.replace(opened.manifest, artifacts=artifacts))


def test_a_good_bundle_passes(report: ParityReport) -> None:
    assert report.exit_code == 0 and len(report.cases) == 15 and not report.refused
    verdicts = {a.name: a.verdict for a in report.artifacts}
    assert {n for n, v in verdicts.items() if v == "passed"} == {
        "onnx-fp32", "openvino-fp32", "torchscript-fp32", "lite-fp32",
    }  # fmt: skip
    assert verdicts["onnx-int8"] == verdicts["openvino-int8"] == "reported"
    for artifact in report.artifacts:
        assert artifact.p50_ms and artifact.heatmaps is not None
        if artifact.question == "conversion":
            assert artifact.max_abs_probability_difference <= 1e-4 and not artifact.differing
            assert artifact.heatmaps.mean > 0.99 and artifact.agreement == 1
        else:
            assert artifact.max_abs_probability_difference > 1e-4, "int8 that differs in nothing was not int8"
            limited = {share.name: share.verdict for share in artifact.shares if share.margin is not None}
            assert set(limited) == {"accuracy", "COVID-19 sensitivity"}
            assert limited["COVID-19 sensitivity"] != "not inferior", "five cases cannot show two points"


def test_a_wrong_artifact_fails_with_exit_10(
    bundle: Path, run_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    put_wrong_model(bundle)
    arguments = [bundle, "--run", run_folder, "--data", data_folder, "--artifact", "torchscript-fp32"]
    code = run_cli("parity", *arguments, "--out", tmp_path / "report", "--json", "-", monkeypatch=monkeypatch)
    assert code == 10
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 10 and said["artifacts"][0]["verdict"] == "failed"
    assert said["artifacts"][0]["differing_decisions"] == len(said["artifacts"][0]["differing"]) > 0
    page = (tmp_path / "report/parity.html").read_text()
    assert "Parity failed: torchscript-fp32" in page and "data:image/png" in page
    with open_bundle(bundle) as opened:
        opened.check_files(opened.manifest.all_files())
        parity = {a.name: a.parity for a in opened.manifest.artifacts}
        assert parity["torchscript-fp32"] is not None and parity["torchscript-fp32"].verdict == "failed"
        assert parity["onnx-fp32"] is None, "an artifact that was not looked at has no result"


def test_results_are_recorded_in_the_bundle(
    bundle: Path, run_folder: Path, data_folder: Path, report: ParityReport, tmp_path: Path
) -> None:
    for _ in range(2):
        with open_bundle(bundle) as opened:
            record_parity(opened, report, {})
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        opened.check_files(manifest.all_files())
        paths = [entry.path for entry in manifest.reports]
        assert paths == ["reports/build.json", *(f"reports/{name}" for name in REPORT_NAMES)]
        for artifact in manifest.artifacts:
            assert artifact.parity is not None and artifact.parity.radiographs == 15
            limit = artifact.parity.limit_abs_probability_difference
            assert limit == (1e-4 if artifact.precision == "fp32" else None)
        assert run_selftest(opened).passed
    rows = list(csv.DictReader((bundle / "reports/parity.csv").open()))
    assert len(rows) == 15
    first = report.cases[0]
    assert rows[0]["file"] == first.file
    assert float(rows[0]["full:normal"]) == pytest.approx(first.probabilities[0], abs=1e-8)
    assert rows[0]["onnx-int8:decision"] == report.decision(report.artifacts[4].probabilities[0])


def test_report_figures_are_those_of_the_csv(report: ParityReport, tmp_path: Path) -> None:
    """The largest difference, the flips and the accuracy, computed again from what was written."""
    write_reports(report, tmp_path, {})
    rows = list(csv.DictReader((tmp_path / "parity.csv").open()))
    for artifact in json.loads((tmp_path / "parity.json").read_text())["artifacts"]:
        name = artifact["name"]
        full = np.array([[float(r[f"full:{c}"]) for c in report.labels] for r in rows])
        got = np.array([[float(r[f"{name}:{c}"]) for c in report.labels] for r in rows])
        assert np.abs(got - full).max() == pytest.approx(artifact["max_abs_probability_difference"], abs=1e-7)
        flips = [r["file"] for r in rows if r["full:decision"] != r[f"{name}:decision"]]
        assert [d["file"] for d in artifact["differing"]] == flips
        right = np.mean([r["label"] == r[f"{name}:decision"] for r in rows])
        assert artifact["accuracy"] == pytest.approx(right)


def test_page_is_self_contained_and_escapes(report: ParityReport) -> None:
    page = render_page(report, {})
    for forbidden in ("http://", "https://", "<script", "url(", "@import", "<link"):
        assert forbidden not in page
    assert "Not a medical device" in page and "synthetic" in page


def test_the_gate_is_shut_on_few_radiographs(bundle: Path, run_folder: Path, data_folder: Path) -> None:
    judged = check_parity(bundle, run_folder, data_folder, artifacts=["onnx-int8"], limit=6)
    assert judged.limited and len(judged.cases) == 6
    assert {case.truth for case in judged.cases} == set(judged.labels), "a limit must not cut off a class"
    flips = len(judged.artifacts[0].differing)
    expected = ("failed", 10) if flips else ("not_shown", 11)  # of six, one flip is below 99 % agreement
    assert (judged.artifacts[0].verdict, judged.exit_code) == expected
    assert report_object(judged)["gated"]
    assert [(s.purpose, s.split) for s in judged.sets] == [("calibration", "train"), ("acceptance", "test")]


def test_another_backend_is_judged_as_quantization_and_stays_out_of_the_manifest(
    bundle: Path, run_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from export.other_backends import backends_here

    with pytest.raises(ExportError, match="no such other backend"):
        check_parity(bundle, run_folder, data_folder, backends=["onnxruntime"])
    with pytest.raises(ExportError, match="cannot run here"):
        check_parity(bundle, run_folder, data_folder, backends=["onnxruntime-cuda"])
    arguments = [bundle, "--run", run_folder, "--data", data_folder]
    assert run_cli("parity", *arguments, "--backend", "all", "--predictions", "x", monkeypatch=monkeypatch) == 2
    capsys.readouterr()
    monkeypatch.setattr("export.other_backends.why_not_here", lambda _name: "this CPU does not compute in bfloat16")
    with pytest.raises(ExportError, match="cannot run here"):
        check_parity(bundle, run_folder, data_folder, backends=["openvino-bf16"])
    monkeypatch.undo()
    if not backends_here("openvino"):
        pytest.skip("this CPU does not compute in bfloat16")
    arguments += ["--artifact", "openvino-fp32", "--limit", 6, "--backend", "all", "--out", tmp_path / "out"]
    assert run_cli("parity", *arguments, "--json", "-", monkeypatch=monkeypatch) in (10, 11)
    own, other = json.loads(capsys.readouterr().out)["artifacts"]
    assert (own["name"], own["question"], own["verdict"]) == ("openvino-fp32", "conversion", "passed")
    assert (other["name"], other["backend"], other["precision"]) == ("openvino-fp32 (bf16)", "openvino-bf16", "bf16")
    assert other["question"] == "quantization" and other["verdict"] in ("failed", "not_shown")
    assert other["max_abs_probability_difference"] > 1e-4, "float32 under another name"
    assert other["files"] == own["files"] and len(own["files"]) == 2
    assert "openvino-fp32 (bf16)" in (bundle / "reports/parity.html").read_text()
    with open_bundle(bundle) as opened:
        verdicts = {a.name: a.parity for a in opened.manifest.artifacts if a.parity is not None}
    assert list(verdicts) == ["openvino-fp32"] and verdicts["openvino-fp32"].verdict == "passed"


def test_what_failed_is_recommended_no_longer(bundle: Path, run_folder: Path, data_folder: Path) -> None:
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        rewrite_manifest(opened, msgspec.structs.replace(manifest, recommended={"cpu": "torchscript-fp32"}))
    put_wrong_model(bundle)
    with open_bundle(bundle) as opened:
        judged = check_parity(opened, run_folder, data_folder, artifacts=["torchscript-fp32"])
        assert judged.artifacts[0].verdict == "failed"
        record_parity(opened, judged, {})
    with open_bundle(bundle) as opened:
        assert opened.manifest.recommended == {"cpu": "onnx-fp32"}


def test_the_report_says_where_it_was_made_and_of_which_files(report: ParityReport, bundle_folder: Path) -> None:
    said = report_object(report)
    environment = said["environment"]
    assert environment["python"].count(".") == 2 and environment["system"] and environment["cpu"]
    assert {"torch", "onnxruntime", "openvino"} <= set(environment["packages"])
    page = render_page(report, {})
    with open_bundle(bundle_folder) as opened:
        for artifact in opened.manifest.artifacts:
            for file in artifact.files:
                assert file.sha256 in page
            assert next(a for a in said["artifacts"] if a["name"] == artifact.name)["files"] == {
                file.path: file.sha256 for file in artifact.files
            }
    assert environment["python"] in page and "onnxruntime" in page


def test_layers_are_shown_where_nothing_flips(bundle_folder: Path, run_folder: Path, data_folder: Path) -> None:
    from export.explain_page import layer_charts

    report = check_parity(bundle_folder, run_folder, data_folder, artifacts=["onnx-int8"], limit=3, gate=False)
    calm = dataclasses.replace(report.artifacts[0], differing=())
    with open_bundle(bundle_folder) as opened:
        charts = layer_charts(opened, run_folder, data_folder, dataclasses.replace(report, artifacts=(calm,)))
    assert list(charts) == ["onnx-int8"] and "<svg" in charts["onnx-int8"]


def test_a_device_that_answered_only_an_easy_one_fails(
    bundle: Path, run_folder: Path, data_folder: Path, report: ParityReport, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its one answer is the full model's; what it refused and left out counts all the same."""
    first, *others = report.cases
    answer = {
        "file": first.file, "status": "ok", "artifact": "onnx-int8", "precision": "int8",
        "probabilities": dict(zip(report.labels, first.probabilities, strict=True)),
    }  # fmt: skip
    refusals = [
        {"file": others[0].file, "status": "refused", "reason": "unlike_training", "artifact": "onnx-int8"},
        {"file": others[1].file, "status": "error", "reason": "unreachable"},
        {"file": others[2].file, "status": "refused", "reason": "unlike_training", "artifact": "lite-int8"},
    ]
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text("\n".join(json.dumps(line) for line in [answer, *refusals]))
    arguments = [bundle, "--run", run_folder, "--data", data_folder, "--predictions", recorded, "--accept-not-shown"]
    code = run_cli("parity", *arguments, "--json", "-", "--out", tmp_path / "out", monkeypatch=monkeypatch)
    (said,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert code == 10 and said["verdict"] == "failed" and said["agreement"] == 1
    coverage = said["coverage"]
    assert (coverage["asked"], coverage["answered"], coverage["missing"]) == (15, 1, 12)
    assert coverage["refused"] == {"unlike_training": 1, "unreachable": 1}
    criterion = next(c for c in said["criteria"] if c["name"] == "radiographs answered")
    assert criterion["verdict"] == "missed" and criterion["limit"] == "at least 90%"
    assert "1 unreachable" in (tmp_path / "out/parity.html").read_text()
    limits = tmp_path / "own.toml"
    limits.write_text(DEFAULT_LIMITS_FILE.read_text().replace("coverage = 0.9", "coverage = 0.05"))
    assert run_cli("parity", *arguments, "--limits", limits, monkeypatch=monkeypatch) == 0, "who asks for less"


def test_the_set_that_chose_ranges_does_not_judge(bundle: Path, run_folder: Path, data_folder: Path) -> None:
    with pytest.raises(ExportError, match="cannot judge"):
        check_parity(bundle, run_folder, data_folder, artifacts=["onnx-int8"], split="train", limit=3)
    measured = check_parity(
        bundle, run_folder, data_folder, artifacts=["onnx-int8"], split="train", limit=3, gate=False
    )
    assert any("fitted to it" in note for note in measured.notes)


def test_a_device_that_answers_as_the_full_model_does_is_not_shown_on_few(
    bundle: Path, run_folder: Path, data_folder: Path, report: ParityReport, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Recorded answers equal to the full model's: nothing flips, yet 15 radiographs prove no single point."""
    lines = [
        {"file": f"/mnt/films/{case.file}", "status": "ok", "artifact": "onnx-int8", "precision": "int8",
         "probabilities": dict(zip(report.labels, case.probabilities, strict=True))}
        for case in report.cases
    ]  # fmt: skip
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = [bundle, "--run", run_folder, "--data", data_folder, "--predictions", recorded]
    before = (bundle / "manifest.json").read_bytes()
    code = run_cli("parity", *arguments, "--json", "-", "--out", tmp_path / "out", monkeypatch=monkeypatch)
    said = json.loads(capsys.readouterr().out)
    assert code == 11
    (artifact,) = said["artifacts"]
    assert (artifact["name"], artifact["backend"], artifact["verdict"]) == ("onnx-int8", "recorded", "not_shown")
    assert artifact["agreement"] == 1 and artifact["heatmap_iou_top_tenth"] is None
    needed = {share["name"]: share["cases_needed"] for share in artifact["shares"] if share["margin"]}
    assert needed == {"accuracy": 381, "COVID-19 sensitivity": 189}
    assert "189" in (tmp_path / "out/parity.html").read_text()
    assert (bundle / "manifest.json").read_bytes() == before, "another device's answers say nothing of this bundle"
    assert run_cli("parity", *arguments, "--accept-not-shown", monkeypatch=monkeypatch) == 0

    flipped = [{**line, "probabilities": dict(zip(report.labels, (0.0, 0.0, 1.0), strict=True))} for line in lines]
    recorded.write_text("\n".join(json.dumps(line) for line in flipped))
    assert run_cli("parity", *arguments, "--accept-not-shown", monkeypatch=monkeypatch) == 10, "agreement still judges"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no answer"),
        ('{"file": "a.png", "status": "ok", "probabilities": {"x": 1.0}}', "answers none"),
        ('{"file": "%s", "status": "ok", "probabilities": {"x": 1.0}}', "other classes"),
        ('{"file": "%s", "status": "ok", "probabilities": {"normal": 2, "pneumonia": 0, "COVID-19": 0}}', "no probab"),
    ],
)
def test_recorded_answers_that_are_none(text: str, message: str, report: ParityReport, tmp_path: Path,
                                        bundle_folder: Path) -> None:  # fmt: skip
    path = tmp_path / "answers.jsonl"
    path.write_text(text.replace("%s", report.cases[0].file))
    with open_bundle(bundle_folder) as opened, pytest.raises(ExportError, match=message):
        recorded_answers(path, opened.manifest, [case.file for case in report.cases])
    twice = json.dumps({"file": report.cases[0].file, "status": "ok",
                        "probabilities": {"normal": 1, "pneumonia": 0, "COVID-19": 0}})  # fmt: skip
    path.write_text(f"{twice}\n{twice}\n")
    with open_bundle(bundle_folder) as opened, pytest.raises(ExportError, match="second time"):
        recorded_answers(path, opened.manifest, [case.file for case in report.cases])


def test_limits_are_a_file(tmp_path: Path, bundle: Path, run_folder: Path, data_folder: Path) -> None:
    text = DEFAULT_LIMITS_FILE.read_text()
    own = tmp_path / "own.toml"
    own.write_text(text.replace("differing_decisions = 0", "differing_decisions = 15").replace("1e-4", "1.0")
                   .replace("agreement = 0.99", "agreement = 0"))  # fmt: skip
    put_wrong_model(bundle)
    judged = check_parity(bundle, run_folder, data_folder, artifacts=["torchscript-fp32"], limits=own)
    assert judged.exit_code == 0 and judged.artifacts[0].differing
    assert load_limits(own).quantization.agreement == 0
    for broken in ("", text + "\nmore = 1\n", text.replace("0.02", "2"), text.replace("0.99", '"much"'), "[["):
        own.write_text(broken)
        with pytest.raises(ExportError, match="not a file of limits"):
            load_limits(own)
    own.write_text(text.replace("COVID-19", "COVID"))
    with pytest.raises(ExportError, match="does not have"):
        load_limits(own, ("normal", "COVID-19"))
    assert load_limits(labels=("cat", "dog")).quantization.sensitivity_margins == {}
    with pytest.raises(ExportError, match="cannot be read"):
        load_limits(tmp_path / "absent.toml")


def test_report_as_markdown_and_junit(bundle_folder: Path, run_folder: Path, data_folder: Path) -> None:
    judged = check_parity(bundle_folder, run_folder, data_folder, artifacts=["onnx-fp32", "onnx-int8"])
    text = report_markdown(judged)
    assert text.startswith("## ") and "| onnx-fp32 | passed |" in text and "Not a medical device" in text
    table = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in table[:3]} == {9}, "every row has the header's cells"
    suites = ElementTree.fromstring(report_junit(judged))
    by_name = {suite.get("name"): suite for suite in suites}
    assert by_name["onnx-fp32"].get("failures") == "0" and int(by_name["onnx-int8"].get("failures", "0")) > 0
    assert int(suites.get("tests", "0")) == len(suites.findall(".//testcase")) == 5
    accepted = ElementTree.fromstring(report_junit(dataclasses.replace(judged, accept_not_shown=True)))
    assert int(accepted.get("skipped", "0")) > 0


def test_pictures_of_flips_have_both_heat_maps(report: ParityReport, data_folder: Path) -> None:
    pictures = read_pictures(report, data_folder)
    flips = {(a.name, report.cases[n].file) for a in report.artifacts for n in a.differing}
    assert set(pictures) == flips and flips
    assert all(len(views) == 3 and all(v.startswith(b"\x89PNG") for v in views) for views in pictures.values())
    assert "data:image/png" in render_page(report, pictures)


def test_clear_errors(
    bundle: Path, run_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = make_classifier(ARCHITECTURE)
    with torch.no_grad():
        other[1][-1].weight.add_(0.01)
    other_run = make_run(tmp_path / "other", other, ARCHITECTURE, data_folder)
    no_test = tmp_path / "no-test"
    shutil.copytree(data_folder, no_test)
    (no_test / "test.csv").unlink()
    cases = [
        ([bundle, "--run", other_run, "--data", data_folder], "was not built from the run"),
        ([bundle, "--run", run_folder, "--data", data_folder, "--split", "holdout"], "no split 'holdout'"),
        ([bundle, "--run", run_folder, "--data", no_test], "is empty"),
        ([bundle, "--run", run_folder, "--data", data_folder, "--artifact", "onnx-fp8"], "no such artifact"),
        ([tmp_path / "nothing", "--run", run_folder, "--data", data_folder], "no bundle"),
    ]
    before = (bundle / "manifest.json").read_bytes()
    for arguments, message in cases:
        assert run_cli("parity", *arguments, monkeypatch=monkeypatch) == 1, message
        said = capsys.readouterr().err
        assert message in said and "Traceback" not in said
    assert (bundle / "manifest.json").read_bytes() == before
    assert run_cli("parity", bundle, monkeypatch=monkeypatch) == 2


def test_what_cannot_be_opened_here_is_said_and_not_judged(
    bundle: Path, run_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "export.parity.why_unavailable", lambda kind: None if kind.format == "torchscript" else "it is not installed"
    )
    judged = check_parity(bundle, run_folder, data_folder, limit=3)
    assert [a.name for a in judged.artifacts] == ["torchscript-fp32"]
    assert sum("was not judged: it is not installed" in note for note in judged.notes) == 5
    monkeypatch.setattr("export.parity.why_unavailable", lambda kind: "it is not installed")
    with pytest.raises(ExportError, match="can be opened here"):
        check_parity(bundle, run_folder, data_folder, limit=3)


def test_a_tampered_artifact_is_found(bundle: Path, run_folder: Path, data_folder: Path) -> None:
    from edge_runtime.errors import BundleError

    path = bundle / "artifacts/onnx-fp32.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged or was changed"):
        check_parity(bundle, run_folder, data_folder, artifacts=["onnx-fp32"])


def test_what_the_reader_refuses_is_listed_and_not_judged(
    bundle: Path, run_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(data_folder, data)
    rows = list(csv.DictReader((data / "test.csv").open()))
    Image.new("L", (8, 8)).save(data / "images" / rows[0]["filename"])
    report = check_parity(bundle, run_folder, data, artifacts=["torchscript-fp32"])
    assert [file for file, _ in report.refused] == [rows[0]["filename"]]
    assert len(report.cases) == len(rows) - 1
    with pytest.raises(ExportError, match="refused every"):
        for row in rows:
            Image.new("L", (8, 8)).save(data / "images" / row["filename"])
        check_parity(bundle, run_folder, data, artifacts=["torchscript-fp32"])

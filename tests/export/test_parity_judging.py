"""From probabilities to a verdict, on made-up answers: as many radiographs as a statement needs, in no time."""

from __future__ import annotations

import json
from math import inf
from xml.etree import ElementTree

import numpy as np
import pytest

from export.explain import Explanation, OutputError, explanation_object
from export.explain_page import layer_chart, render_explanation
from export.layers import ActivationCut, LayerError
from export.parity_charts import interval_chart, pareto_front
from export.parity_judging import Answers, Judge
from export.parity_limits import load_limits
from export.parity_object import encode_json, report_csv
from export.parity_page import render_page
from export.parity_result import ArtifactParity, Case, CaseSet, ParityReport
from export.parity_text import headline, report_junit, report_markdown

LABELS = ("normal", "pneumonia", "COVID-19")


def synthetic_judge(count: int, *, gate: bool = True) -> tuple[Judge, np.ndarray]:
    """A judge over made-up probabilities: as many radiographs as a test needs, in no time."""
    draw = np.random.default_rng(5)
    truth = np.arange(count) % 3
    full = draw.dirichlet((1, 1, 1), count)
    full[np.arange(count), truth] += 1.5
    full /= full.sum(1, keepdims=True)
    maps = draw.random((count, 3, 4, 4)).astype(np.float32)
    patients = [str(n // 2) for n in range(count)]
    return Judge(LABELS, truth, patients, full, maps, None, load_limits(), gate=gate), full


def judged_answers(judge: Judge, probabilities: np.ndarray) -> ArtifactParity:
    return judge.judge(
        Answers("onnx-int8", "onnxruntime", {}, "int8", 1, tuple(range(len(probabilities))), probabilities, None, 1.0)
    )


def test_the_gate_passes_and_fails_on_enough_radiographs() -> None:
    judge, full = synthetic_judge(900)
    assert judged_answers(judge, full).verdict == "passed"
    wrong = full.copy()
    lost = [n for n in range(900) if full[n].argmax() == n % 3][:60]
    wrong[lost] = np.roll(full[lost], 1, axis=1)
    failed = judged_answers(judge, wrong)
    assert failed.verdict == "failed"
    assert {c.name: c.verdict for c in failed.criteria}["accuracy, not inferior"] == "missed"
    accuracy = failed.shares[0]
    assert accuracy.difference == pytest.approx(-60 / 900) and accuracy.lost == 60 and accuracy.mcnemar_p < 1e-9
    assert accuracy.bootstrap is not None and accuracy.bootstrap[0] < -60 / 900 < accuracy.bootstrap[1] < 0
    measured = judged_answers(synthetic_judge(900, gate=False)[0], wrong)
    assert measured.verdict == "reported"
    assert {c.name: c.verdict for c in measured.criteria}["accuracy, not inferior"] == "missed"


def test_62_published_covid_cases_prove_no_two_points() -> None:
    """The accuracy of 186 x 8 radiographs is shown; the sensitivity of 62 cases among them is not."""
    judge, full = synthetic_judge(1488)
    few = np.flatnonzero(judge.truth == 2)[62:]
    kept = np.setdiff1d(np.arange(1488), few)
    answers = Answers("onnx-int8", "onnxruntime", {}, "int8", 1, tuple(int(n) for n in kept), full[kept], None, 1.0)
    judged = judge.judge(answers)
    assert judged.verdict == "not_shown"
    open_ones = {c.name: c.underpowered for c in judged.criteria if c.verdict == "not_shown"}
    assert set(open_ones) == {"COVID-19 sensitivity, not inferior"}
    assert "62 cases here; about 189" in str(open_ones)


def test_bootstrap_draws_patients_not_radiographs() -> None:
    """Two radiographs a patient that flip together: the interval is wider than that of independent ones."""
    judge, full = synthetic_judge(600)
    wrong = full.copy()
    pairs = [n for n in range(0, 600, 2) if all(full[k].argmax() == k % 3 for k in (n, n + 1))][:10]
    flipped = [k for n in pairs for k in (n, n + 1)]
    wrong[flipped] = np.roll(full[flipped], 1, axis=1)
    low, high = judged_answers(judge, wrong).shares[0].bootstrap or (0, 0)
    alone, _ = synthetic_judge(600)
    alone.patients = np.arange(600).astype(str)
    low1, high1 = judged_answers(alone, wrong).shares[0].bootstrap or (0, 0)
    assert high - low > 1.2 * (high1 - low1) > 0


def report_of(judge: Judge, *artifacts: ArtifactParity, accept: bool = False) -> ParityReport:
    truth = [LABELS[n] for n in judge.truth]
    cases = tuple(
        Case(f"{n:04d}.png", truth[n], "0" * 64, tuple(float(v) for v in p)) for n, p in enumerate(judge.full)
    )
    return ParityReport(
        bundle="<made-up>", split="test", labels=LABELS, checkpoint_sha256="0" * 64, synthetic=True,
        data_sha256="1" * 64, limited=False, cases=cases, refused=(("x.png", "too_small"),), full_accuracy=1.0,
        artifacts=artifacts, gated=True,
        limits=judge.limits, accept_not_shown=accept, sets=(CaseSet("acceptance", "test", len(cases), None, "1" * 64),),
        validated_elsewhere={}, notes=("a note",),
    )  # fmt: skip


def test_every_form_of_the_report_says_the_same() -> None:
    judge, full = synthetic_judge(90)
    wrong = full.copy()
    wrong[:5] = np.roll(full[:5], 1, axis=1)
    judge.thresholds = {"COVID-19": 0.5}
    few = judged_answers(judge, full)
    failed = judged_answers(judge, wrong)
    kept = judge.judge(
        Answers("lite-fp32", "lite", {"torch": "2"}, "fp32", 5, tuple(range(90)), full + 1e-6, None, 2.0)
    )
    report = report_of(judge, kept, few, failed)
    assert [a.verdict for a in report.artifacts] == ["passed", "not_shown", "failed"] and report.exit_code == 10
    assert report_of(judge, few).exit_code == 11 and report_of(judge, few, accept=True).exit_code == 0
    assert headline(report_of(judge, few))[1] == "not_shown"

    text = report_markdown(report)
    table = [line for line in text.replace("\\|", "").splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in table[:4]} == {9}, "every row has the header's cells"
    assert "about 381" in text and "Not a medical device" in text
    suites = ElementTree.fromstring(report_junit(report))
    assert (suites.get("tests"), suites.get("skipped")) == ("8", "0") and int(suites.get("failures", "0")) >= 3
    accepted = ElementTree.fromstring(report_junit(report_of(judge, few, accept=True)))
    assert (accepted.get("failures"), accepted.get("skipped")) == ("0", "2")
    said = json.loads(encode_json(report))
    assert said["exit_code"] == 10 and said["artifacts"][2]["differing_decisions"] == 5
    assert len(report_csv(report).splitlines()) == 91

    layers = [LayerError("<conv>", "Conv", 20.0, 0.99, 30.0, None), LayerError("last", "Gemm", inf, 1.0, None, 40.0)]
    page = render_page(report, {}, {few.name: layer_chart(layers)})
    assert "&lt;conv&gt;" in page and "no difference dB" in page
    assert "operating threshold" in page and "0.5000" in page
    assert "&lt;made-up&gt;" in page and "<made-up>" not in page, "what a bundle is called is escaped"
    for forbidden in ("http://", "https://", "<script", "url(", "@import", "<link"):
        assert forbidden not in page
    assert page.index("Parity failed") < page.index("<table"), "the verdict comes first"
    limited = [(few.name, share) for share in few.shares if share.margin is not None]
    assert interval_chart(limited).count("<circle") == 2


def test_the_explanation_page() -> None:
    judge, full = synthetic_judge(30)
    wrong = full.copy()
    wrong[:2] = np.roll(full[:2], 1, axis=1)
    report = report_of(judge, judged_answers(judge, wrong))
    layers = tuple(LayerError(f"layer{n}", "Conv", 40.0 - n, 0.99, 35.0, 42.0) for n in range(30))
    cuts = (ActivationCut("layer3", -1.0, 1.0, -2.0, 0.5, 0.01, 0.75, 25.0),)
    outputs = (OutputError("logits", 20.0, 0.999, 0.5), OutputError("gate_score", inf, 1.0, 0.0))
    explanation = Explanation("onnx-int8", report, ("0000.png",), outputs, layers, cuts, 1, ("a note",))
    assert [layer.name for layer in explanation.worst_layers(2)] == ["layer29", "layer28"]
    page = render_explanation(explanation, {})
    assert "decides 2 of 30 otherwise" in page and "layer29" in page and "a note" in page and "1.000 %" in page
    said = explanation_object(explanation)
    json.dumps(said, allow_nan=False)
    assert said["outputs"][1]["sqnr_db"] is None and said["worst_activations"] == ["layer3"]


def test_an_artifact_that_answered_only_some_is_judged_on_those() -> None:
    judge, full = synthetic_judge(30)
    some = tuple(range(0, 30, 2))
    judged = judge.judge(Answers("lite-int8", "recorded", {}, "int8", 0, some, full[list(some)], None, None))
    assert judged.answer(1) is None and judged.answer(2) is not None
    assert judged.shares[0].cases == 15 and judged.heatmaps is None
    rows = report_csv(report_of(judge, judged)).splitlines()
    assert rows[2].endswith(",,,,") and not rows[1].endswith(",,,,")
    assert "lite-int8" in render_page(report_of(judge, judged), {})


def test_heat_maps_are_compared_for_the_class_that_the_full_model_decided() -> None:
    judge, full = synthetic_judge(12)
    maps = judge.full_heatmaps.copy()
    answers = Answers("onnx-int8", "onnxruntime", {}, "int8", 1, tuple(range(12)), full, maps, 1.0)
    same = judge.judge(answers)
    assert same.heatmaps is not None and same.heatmaps.mean == 1.0 and not same.flipped_heatmaps
    other = maps.copy()
    for n in range(12):
        other[n, full[n].argmax()] *= -1
    moved = judge.judge(Answers("onnx-int8", "onnxruntime", {}, "int8", 1, tuple(range(12)), full, other, 1.0))
    assert moved.heatmaps is not None and moved.heatmaps.mean == 0.0 and moved.heatmaps.below_half == 12


def test_pareto_front() -> None:
    points = [(0.9, 10.0, 30.0), (0.9, 8.0, 30.0), (0.8, 5.0, 8.0), (0.7, 6.0, 9.0)]
    assert pareto_front(points) == [False, True, True, False]
    assert pareto_front([points[0], points[0]]) == [True, True]

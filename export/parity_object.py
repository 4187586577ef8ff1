"""A parity report as plain values, for programs."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

import msgspec

from export.environment import describe_environment
from export.parity_result import ArtifactParity, ParityReport

__all__ = ["encode_json", "report_csv", "report_object"]

SCHEMA_VERSION = 2


def report_object(report: ParityReport) -> dict[str, Any]:
    """Return the report as plain values for JSON: figures, verdicts, and each differing case by file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "exit_code": report.exit_code,
        "bundle": report.bundle,
        "split": report.split,
        "labels": list(report.labels),
        "radiographs": len(report.cases),
        "limited": report.limited,
        "synthetic": report.synthetic,
        "data_sha256": report.data_sha256,
        "checkpoint_sha256": report.checkpoint_sha256,
        "sets": [dataclasses.asdict(one) for one in report.sets],
        "refused": [{"file": file, "reason": reason} for file, reason in report.refused],
        "limits": msgspec.to_builtins(report.limits),
        "gated": report.gated,
        "accept_not_shown": report.accept_not_shown,
        "full_model_accuracy": report.full_accuracy,
        "artifacts": [_artifact_object(report, artifact) for artifact in report.artifacts],
        "notes": list(report.notes),
        "environment": {
            **describe_environment(),
            "other_than_validated_on": dict(report.validated_elsewhere),
        },
    }


def encode_json(report: ParityReport) -> bytes:
    """Return :func:`report_object` as indented UTF-8 JSON."""
    return msgspec.json.format(msgspec.json.encode(report_object(report)), indent=2) + b"\n"


def report_csv(report: ParityReport) -> str:
    """Return every radiograph's probabilities: of the full model, then of each artifact (empty: not answered)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    models = ["full", *(artifact.name for artifact in report.artifacts)]
    writer.writerow(["file", "sha256", "label", *(f"{m}:{c}" for m in models for c in (*report.labels, "decision"))])
    for number, case in enumerate(report.cases):
        cells: list[str] = []
        for answer in (case.probabilities, *(artifact.answer(number) for artifact in report.artifacts)):
            if answer is None:
                cells += [""] * (len(report.labels) + 1)
            else:
                cells += [*(f"{value:.9g}" for value in answer), report.decision(answer)]
        writer.writerow([case.file, case.sha256, case.truth, *cells])
    return text.getvalue()


def _artifact_object(report: ParityReport, artifact: ArtifactParity) -> dict[str, Any]:
    shares = [
        {"name": share.name, **dataclasses.asdict(share), "difference": share.difference} for share in artifact.shares
    ]
    return {
        "name": artifact.name,
        "backend": artifact.backend,
        "versions": artifact.versions,
        "precision": artifact.precision,
        "bytes": artifact.bytes,
        "files": dict(report.files.get(artifact.name.partition(" ")[0], {})) if artifact.backend != "recorded" else {},
        "question": artifact.question,
        "verdict": artifact.verdict,
        "criteria": [dataclasses.asdict(criterion) for criterion in artifact.criteria],
        "radiographs": len(artifact.case_numbers),
        "coverage": None
        if artifact.coverage is None
        else {**dataclasses.asdict(artifact.coverage), "share": artifact.coverage.share},
        "max_abs_probability_difference": artifact.max_abs_probability_difference,
        "mean_abs_probability_difference": artifact.mean_abs_probability_difference,
        "differing_decisions": len(artifact.differing),
        "agreement": artifact.agreement,
        "agreement_95": list(artifact.agreement_interval),
        "accuracy": artifact.accuracy,
        "shares": shares,
        "auroc": {
            label: None if found is None else dataclasses.asdict(found) for label, found in artifact.auroc.items()
        },
        "drift": dataclasses.asdict(artifact.drift),
        "operating_thresholds": [dataclasses.asdict(shift) for shift in artifact.thresholds],
        "heatmap_iou_top_tenth": None if artifact.heatmaps is None else dataclasses.asdict(artifact.heatmaps),
        "p50_ms": artifact.p50_ms,
        "differing": [_differing_object(report, artifact, number) for number in artifact.differing],
    }


def _differing_object(report: ParityReport, artifact: ArtifactParity, number: int) -> dict[str, Any]:
    case = report.cases[number]
    answer = artifact.answer(number)
    assert answer is not None
    return {
        "file": case.file,
        "label": case.truth,
        "full": report.decision(case.probabilities),
        "artifact": report.decision(answer),
        "full_probabilities": dict(zip(report.labels, case.probabilities, strict=True)),
        "artifact_probabilities": dict(zip(report.labels, (float(p) for p in answer), strict=True)),
    }

"""A parity report for programs: JSON, CSV, and the record in the bundle itself."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from edge_runtime.bundle import Bundle, file_entry, rewrite_manifest
from edge_runtime.reading import read_radiograph
from export.agreement import CONVERSION_LIMIT
from export.cpu import cpu_features, cpu_model
from export.description import describe_validation
from export.errors import ExportError
from export.parity_page import render_page
from export.parity_result import ACCURACY_MARGIN, SENSITIVITY_MARGIN, ArtifactParity, ParityReport
from train.data.rows import IMAGES_NAME

__all__ = ["read_pictures", "record_parity", "report_csv", "report_object", "write_reports"]

REPORT_NAMES = ("parity.html", "parity.json", "parity.csv")
_THUMBNAIL = 180


def report_object(report: ParityReport) -> dict[str, Any]:
    """Return the report as plain values for JSON: figures, verdicts, and each differing case by file."""
    return {
        "schema_version": 1,
        "exit_code": report.exit_code,
        "bundle": report.bundle,
        "split": report.split,
        "labels": list(report.labels),
        "radiographs": len(report.cases),
        "limited": report.limited,
        "synthetic": report.synthetic,
        "data_sha256": report.data_sha256,
        "checkpoint_sha256": report.checkpoint_sha256,
        "refused": [{"file": file, "reason": reason} for file, reason in report.refused],
        "limits": {
            "conversion_abs_probability_difference": CONVERSION_LIMIT,
            "conversion_differing_decisions": 0,
            "quantization_accuracy_margin": ACCURACY_MARGIN,
            "quantization_covid19_sensitivity_margin": SENSITIVITY_MARGIN,
            "quantization_gated": report.gated,
        },
        "full_model_accuracy": report.full_accuracy,
        "artifacts": [_artifact_object(report, artifact) for artifact in report.artifacts],
        "environment": {
            "cpu": cpu_model(),
            "machine": platform.machine(),
            "cpu_features": list(cpu_features()),
        },
    }


def report_csv(report: ParityReport) -> str:
    """Return every radiograph's probabilities: of the full model, then of each artifact."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    models = ["full", *(artifact.name for artifact in report.artifacts)]
    writer.writerow(["file", "sha256", "label", *(f"{m}:{c}" for m in models for c in (*report.labels, "decision"))])
    for number, case in enumerate(report.cases):
        answers = [case.probabilities, *(tuple(a.probabilities[number]) for a in report.artifacts)]
        cells = [cell for p in answers for cell in (*(f"{value:.9g}" for value in p), report.decision(p))]
        writer.writerow([case.file, case.sha256, case.truth, *cells])
    return text.getvalue()


def read_pictures(report: ParityReport, data: Path) -> dict[str, bytes]:
    """Read small PNG pictures of the radiographs that any artifact decides otherwise, by file name."""
    pictures = {}
    for number in sorted({n for artifact in report.artifacts for n in artifact.differing}):
        case = report.cases[number]
        image = Image.fromarray(read_radiograph(data / IMAGES_NAME / case.file).pixels)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
        stream = io.BytesIO()
        image.save(stream, "PNG")
        pictures[case.file] = stream.getvalue()
    return pictures


def write_reports(report: ParityReport, folder: Path, pictures: Mapping[str, bytes]) -> list[str]:
    """Write ``parity.html``, ``parity.json`` and ``parity.csv`` into ``folder``; each file is replaced as a whole.

    Returns
    -------
    list of str
        The files' names.
    """
    contents = {
        "parity.html": render_page(report, pictures).encode(),
        "parity.json": encode_json(report),
        "parity.csv": report_csv(report).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise ExportError(
            f"the report cannot be written to {folder}",
            got=error.strerror or str(error),
            remedy="check the folder's permissions and the disk",
        ) from error
    return list(contents)


def encode_json(report: ParityReport) -> bytes:
    """Return :func:`report_object` as indented UTF-8 JSON."""
    return msgspec.json.format(msgspec.json.encode(report_object(report)), indent=2) + b"\n"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def record_parity(bundle: Bundle, report: ParityReport, pictures: Mapping[str, bytes]) -> None:
    """Write the report into the bundle's ``reports/`` and each artifact's result into its manifest.

    Pictures of real radiographs stay out: a bundle travels. Whenever this is stopped, the bundle stays valid.

    Raises
    ------
    BundleError
        The bundle is a zip, or cannot be written.
    """
    paths = [f"reports/{name}" for name in REPORT_NAMES]
    others = tuple(entry for entry in bundle.manifest.reports if entry.path not in paths)
    # The old reports are taken off the manifest first: it never vouches for a file that is being replaced.
    rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, reports=others))
    write_reports(report, bundle.root / "reports", pictures if report.synthetic else {})
    judged = {artifact.name: artifact for artifact in report.artifacts}
    rewrite_manifest(
        bundle,
        msgspec.structs.replace(
            bundle.manifest,
            reports=(*others, *(file_entry(bundle.root, path) for path in paths)),
            artifacts=tuple(
                msgspec.structs.replace(
                    artifact,
                    parity=report.result(judged[artifact.name]),
                    validated_on=describe_validation(artifact.format),
                )
                if artifact.name in judged
                else artifact
                for artifact in bundle.manifest.artifacts
            ),
        ),
    )


def _artifact_object(report: ParityReport, artifact: ArtifactParity) -> dict[str, Any]:
    gate = artifact.gate
    return {
        "name": artifact.name,
        "backend": artifact.backend,
        "versions": artifact.versions,
        "question": artifact.question,
        "verdict": artifact.verdict,
        "max_abs_probability_difference": artifact.max_abs_probability_difference,
        "mean_abs_probability_difference": artifact.mean_abs_probability_difference,
        "differing_decisions": len(artifact.differing),
        "agreement": 1 - len(artifact.differing) / len(report.cases),
        "accuracy": artifact.accuracy,
        "non_inferiority": None
        if gate is None
        else {
            "accuracy_difference_95": list(gate.accuracy),
            "accuracy": gate.accuracy_verdict,
            "covid19_sensitivity_difference_95": None if gate.sensitivity is None else list(gate.sensitivity),
            "covid19_sensitivity": gate.sensitivity_verdict,
            "covid19_cases": gate.sensitivity_cases,
        },
        "differing": [_differing_object(report, artifact, number) for number in artifact.differing],
    }


def _differing_object(report: ParityReport, artifact: ArtifactParity, number: int) -> dict[str, Any]:
    case = report.cases[number]
    answer = artifact.probabilities[number]
    return {
        "file": case.file,
        "label": case.truth,
        "full": report.decision(case.probabilities),
        "artifact": report.decision(answer),
        "full_probabilities": dict(zip(report.labels, case.probabilities, strict=True)),
        "artifact_probabilities": dict(zip(report.labels, (float(p) for p in answer), strict=True)),
    }

"""``reports/build.json``: what was measured while building, and what int8 was calibrated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_runtime.bundle import file_entry
from edge_runtime.manifest import FileEntry, Format
from edge_runtime.selftest import ArtifactTest
from export.calibration import CalibrationSet

__all__ = ["write_build_report"]


def write_build_report(
    root: Path,
    tests: Sequence[ArtifactTest],
    images: CalibrationSet | None,
    quantized: Sequence[Format],
    notes: Sequence[str],
) -> FileEntry:
    """Write the report into a bundle folder that is being built, and return its entry for the manifest."""
    settings: dict[str, str] = {}
    if quantized:
        from export.int8 import ONNX_SETTINGS, OPENVINO_SETTINGS

        settings = {f: {"onnx": ONNX_SETTINGS, "openvino": OPENVINO_SETTINGS}[f] for f in quantized}
    content = {
        "schema_version": 1,
        "golden_vectors": [dataclasses.asdict(test) for test in tests],
        "recommendation_rule": "fp32 that agrees on the golden vectors; of these what the base install opens; of "
        "these the lowest p50; int8 at plain settings never",
        "int8_settings": settings,
        "calibration_set": None
        if images is None
        else {
            "radiographs": len(images.rows),
            "by_label": {
                label: sum(row.label == label for row in images.rows)
                for label in sorted({row.label for row in images.rows})
            },
            "patients": len({row.patient for row in images.rows}),
            "split": "train",
            "sha256": images.sha256,
        },
        "notes": list(notes),
    }
    (root / "reports").mkdir()
    (root / "reports/build.json").write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    return file_entry(root, "reports/build.json")

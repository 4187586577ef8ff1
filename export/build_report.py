"""``reports/build.json``: what was measured while building, and what int8 was calibrated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edge_runtime.bundle import file_entry
from edge_runtime.manifest import FileEntry, Format
from edge_runtime.selftest import ArtifactTest
from export.calibration import CalibrationSet
from export.quantization.plan import QuantizationPlan
from export.quantization.settings import QuantizationSettings, describe

__all__ = ["write_build_report"]


def write_build_report(
    root: Path,
    tests: Sequence[ArtifactTest],
    images: CalibrationSet | None,
    settings: Mapping[Format, QuantizationSettings],
    plan: QuantizationPlan | None,
    notes: Sequence[str],
) -> FileEntry:
    """Write the report into a bundle folder that is being built, and return its entry for the manifest."""
    content = {
        "schema_version": 1,
        "golden_vectors": [dataclasses.asdict(test) for test in tests],
        "recommendation_rule": "cpu: what the base install opens; int8 where the ladder reached its target and it is "
        "quicker than fp32, else fp32; phone, browser: int8 where the ladder reached its target; plain int8 never",
        "int8_settings": {name: describe(one) for name, one in settings.items()},
        "search_set": None
        if plan is None
        else {
            "radiographs": plan.search_radiographs,
            "patients": plan.search_patients,
            "split": "valid",
            "sha256": plan.search_sha256,
        },
        "calibration_set": None
        if images is None
        else {
            "radiographs": len(images.rows),
            "asked_for": images.asked,
            "refused_by_the_reader": images.refused,
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

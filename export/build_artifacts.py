"""The artifacts of a bundle at fp32 and fp16, and an artifact's entry in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.bundle import file_entry
from edge_runtime.manifest import Artifact, Format, Precision
from export.agreement import starting_agreement
from export.description import describe_validation
from export.formats import WRITERS
from export.formats.lite import lite_facts
from export.graph import DeployableGraph
from export.steps import Steps

__all__ = ["HALF_FORMATS", "artifact_entry", "artifact_path", "drop_others", "write_float32", "write_half"]

HALF_FORMATS: tuple[Format, ...] = ("onnx", "openvino")
"""Formats with float16 weights."""


def artifact_path(root: Path, format_: Format, precision: Precision) -> Path:
    """Return where an artifact lies in a bundle folder; the first of its files."""
    return root / f"artifacts/{format_}-{precision}{WRITERS[format_].suffixes[0]}"


def artifact_entry(root: Path, format_: Format, precision: Precision) -> Artifact:
    """Describe an artifact that was written into a bundle folder."""
    path = artifact_path(root, format_, precision)
    return Artifact(
        name=path.stem,
        format=format_,
        precision=precision,
        files=tuple(file_entry(root, f"artifacts/{path.stem}{suffix}") for suffix in WRITERS[format_].suffixes),
        # what conversion may do; of an int8 artifact it is measured afterwards
        golden_agreement=starting_agreement(precision),
        parity=None,
        validated_on=describe_validation(format_),
        lite=lite_facts(path) if format_ == "lite" else None,
    )


def write_float32(graph: DeployableGraph, root: Path, formats: Sequence[Format], steps: Steps) -> list[Artifact]:
    """Write the graph in each format, float32."""
    (root / "artifacts").mkdir()
    artifacts = []
    for format_ in formats:
        steps.next(f"writing {format_}-fp32")
        WRITERS[format_].write(graph, artifact_path(root, format_, "fp32"))
        artifacts.append(artifact_entry(root, format_, "fp32"))
    return artifacts


def write_half(root: Path, formats: Sequence[Format], steps: Steps) -> list[Artifact]:
    """Write float16 weights from the float32 files, of :data:`HALF_FORMATS`."""
    artifacts = []
    for format_ in formats:
        from export.quantization import onnx_weights, openvino_int8

        steps.next(f"writing {format_}-fp16")
        write = {"onnx": onnx_weights.write_half, "openvino": openvino_int8.write_half}[format_]
        write(artifact_path(root, format_, "fp32"), artifact_path(root, format_, "fp16"))
        artifacts.append(artifact_entry(root, format_, "fp16"))
    return artifacts


def drop_others(root: Path, artifacts: Sequence[Artifact], keep: Sequence[str]) -> list[Artifact]:
    """Remove the files of artifacts that are not to be kept; return those that are."""
    for artifact in artifacts:
        if artifact.name not in keep:
            for entry in artifact.files:
                (root / entry.path).unlink()
    return [artifact for artifact in artifacts if artifact.name in keep]

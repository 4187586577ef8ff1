"""The int8 artifacts of a bundle: a run's plan repeated, or the tools' plain settings where it has none."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.manifest import Artifact, Format
from export.build_artifacts import artifact_entry, artifact_path
from export.calibration import CalibrationSet
from export.errors import ExportError
from export.graph import DeployableGraph
from export.quantization.plan import PLAN_NAME, FormatPlan
from export.quantization.settings import PLAIN, QuantizationSettings
from export.quantization.tuned_weights import load_tuned
from export.steps import Steps
from train.data.rows import file_sha256
from train.run import Run

__all__ = ["INT8_FORMATS", "Standing", "settings_of", "standing_of", "write_int8"]

INT8_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "executorch")
"""Formats with int8 at plain settings where a run has no plan."""

Standing = Literal["plain", "missed", "reached"]
"""Of an int8 artifact: at the tools' plain settings; by a plan that missed its target; by one that reached it."""


def settings_of(format_: Format, planned: Mapping[Format, FormatPlan]) -> QuantizationSettings:
    """Return the settings that a build quantizes a format with."""
    return planned[format_].settings if format_ in planned and format_ != "executorch" else PLAIN


def standing_of(format_: Format, planned: Mapping[Format, FormatPlan]) -> Standing:
    """Say what vouches for a format's int8 artifact when it is built."""
    if format_ not in planned or format_ == "executorch":
        return "plain"
    return "reached" if planned[format_].reached else "missed"


def write_int8(
    graph: DeployableGraph,
    run: Run,
    root: Path,
    formats: Sequence[Format],
    planned: Mapping[Format, FormatPlan],
    images: CalibrationSet,
    steps: Steps,
) -> list[Artifact]:
    """Quantize the graph in each format and write it beside its fp32 file.

    Raises
    ------
    ExportError
        A tool is missing or cannot quantize the graph, a file cannot be written, fine-tuned weights are not the
        plan's.
    """
    from export.quantization.layers import find_layers
    from export.quantization.sensitivity import mean_inputs
    from export.quantization.sets import network_size

    small = network_size(images.images, graph.size)
    layers, means = find_layers(graph), mean_inputs(graph, small)
    artifacts = []
    for format_ in formats:
        steps.next(f"quantizing {format_}-int8 on {len(small)} radiographs")
        path = artifact_path(root, format_, "int8")
        try:
            if format_ == "executorch":  # from the graph: a .pte file is not read back
                from export.formats import executorch

                executorch.quantize(graph, path, images.images)
            else:
                from export.quantization.quantizers import open_quantizer

                source, fp32 = graph, artifact_path(root, format_, "fp32")
                # in the bundle being built: removed with it, and on the disk that has to have room anyway
                with tempfile.TemporaryDirectory(prefix="quantize-", dir=root) as folder:
                    if format_ in planned and planned[format_].weights_file:
                        source, fp32 = _fine_tuned(graph, run, planned[format_]), None  # type: ignore[assignment]
                    own, inputs = layers, means
                    if source is not graph:  # fine-tuned layers are found by their own weights
                        own, inputs = find_layers(source), mean_inputs(source, small)
                    quantizer = open_quantizer(format_, source, own, small, inputs, fp32, Path(folder))
                    quantizer.write(path, settings_of(format_, planned))
        except (EdgeRuntimeError, OSError):
            raise
        except Exception as error:  # the quantizers and their writers raise types of their own
            raise ExportError(
                f"{format_}-int8 cannot be quantized or written",
                got=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}",
                remedy=f"check that the disk has room; otherwise leave {format_} or --int8 out",
            ) from error
        artifacts.append(artifact_entry(root, format_, "int8"))
    return artifacts


def _fine_tuned(graph: DeployableGraph, run: Run, plan: FormatPlan) -> DeployableGraph:
    """The graph with the weights that quantization-aware fine-tuning left in the run folder."""
    path = run.folder / plan.weights_file
    if not path.is_file() or file_sha256(path) != plan.weights_sha256:
        raise ExportError(
            f"{path} is not the file that {PLAN_NAME} names",
            got="missing" if not path.is_file() else file_sha256(path)[:16],
            expected=plan.weights_sha256[:16],
            remedy="run `python -m export quantize` again",
        )
    return load_tuned(path, graph, run.spec.checkpoint_sha256).graph

"""Why a quantized artifact answers otherwise: its layers, its activation ranges, and the radiographs that flip."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.manifest import Artifact, Format
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph
from export.errors import ExportError
from export.formats import WRITERS
from export.graph import deployable_graph
from export.layers import ActivationCut, LayerError, TracedPair, measure_layers
from export.parity import check_parity
from export.parity_result import ParityReport
from train.data.rows import IMAGES_NAME
from train.run import Run, load_run

__all__ = ["SHOWS_LAYERS", "Explanation", "OutputError", "compare_layers", "explain_artifact", "explanation_object"]

SHOWS_LAYERS: tuple[Format, ...] = ("onnx", "openvino", "torchscript", "lite")
"""Formats whose inside can be seen."""

_COMPARED: dict[Format, str] = {
    "onnx": "Compared: every node of the file, nothing fused, integers simulated in float, against the fp32 file.",
    "openvino": "Compared: every operation of the file, fused less than in the field, against the fp32 file.",
    "torchscript": "Compared: the file's own graph, with phones' integer arithmetic (qnnpack), against the eager model "
    "with its batch norms folded.",
    "lite": "Compared: the file's own graph as TorchScript reads it, with phones' integer arithmetic (qnnpack), "
    "against the eager model with its batch norms folded.",
}

OnStep = Callable[[str, int, int], None]
"""Told what is being done, how many of its parts are done, and how many there are."""


@dataclasses.dataclass(frozen=True)
class OutputError:
    """One of the graph's outputs, as the field runs the artifact, against the eager model's."""

    name: str
    sqnr_db: float
    cosine: float
    max_abs_difference: float


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What is known of one artifact's differences.

    Attributes
    ----------
    report
        Parity of the artifact on the radiographs that were looked at for flips; not gated.
    looked_at
        Files whose tensors were compared: those that flip first.
    outputs
        The five outputs.
    layers, cuts
        In the graph's order; empty where the format does not show its inside.
    unmatched
        Layers that have no counterpart in float under their name.
    notes
        What could not be told, in sentences.
    """

    artifact: str
    report: ParityReport
    looked_at: tuple[str, ...]
    outputs: tuple[OutputError, ...]
    layers: tuple[LayerError, ...]
    cuts: tuple[ActivationCut, ...]
    unmatched: int
    notes: tuple[str, ...]

    def worst_layers(self, count: int = 10) -> list[LayerError]:
        """Return the layers whose output is farthest from float's."""
        return sorted(self.layers, key=lambda layer: layer.sqnr_db)[:count]

    def worst_cuts(self, count: int = 10) -> list[ActivationCut]:
        """Return the activations whose own rounding loses most: the candidates for float."""
        return sorted(self.cuts, key=lambda cut: cut.own_sqnr_db)[:count]


def explain_artifact(
    bundle: str | Path,
    run: str | Path,
    data: str | Path,
    artifact: str,
    *,
    split: str = "test",
    limit: int | None = None,
    images: int = 8,
    on_step: OnStep = lambda _what, _done, _total: None,
) -> Explanation:
    """Compare an artifact's inside with float's.

    Parameters
    ----------
    bundle, run, data
        As for :func:`export.check_parity`.
    artifact
        Name of the artifact. An ExecuTorch file does not let its inside be seen: outputs and flips only.
    split, limit
        Radiographs on which flips are looked for.
    images
        Number of radiographs whose tensors are compared, those that flip first.

    Raises
    ------
    EdgeRuntimeError
        See :func:`export.check_parity`; or the files show no layer in common.
    """
    with open_bundle(bundle) as opened:
        report = check_parity(
            opened, run, data, split=split, artifacts=[artifact], limit=limit, gate=False,
            on_radiograph=lambda done, total: on_step("looking for flips", done, total),
        )  # fmt: skip
        judged = report.artifacts[0]
        numbers = [*judged.differing, *(n for n in range(len(report.cases)) if n not in judged.differing)][:images]
        files = [report.cases[number].file for number in numbers]
        pixels = [read_radiograph(Path(data) / IMAGES_NAME / file).pixels for file in files]
        entry = opened.manifest.artifact(artifact)
        assert entry is not None  # check_parity has judged it
        outputs = _compare_outputs(opened, load_run(run), artifact, pixels)
        notes: list[str] = []
        layers: tuple[LayerError, ...] = ()
        cuts: tuple[ActivationCut, ...] = ()
        unmatched = 0
        if entry.format not in SHOWS_LAYERS:
            notes.append(f"A file of the format {entry.format} does not show its layers: outputs and flips only.")
        else:
            layers, cuts, unmatched = compare_layers(
                opened, load_run(run), entry, pixels, lambda done, total: on_step("comparing layers", done, total)
            )
            notes.append(_COMPARED[entry.format])
            if unmatched:
                notes.append(f"Not shown, having no counterpart of their name in float: {unmatched} of the layers.")
            if not cuts:
                notes.append("The artifact rounds no activations (weights only, or float).")
    return Explanation(artifact, report, tuple(files), outputs, layers, cuts, unmatched, tuple(notes))


def compare_layers(
    bundle: Bundle,
    run: Run,
    artifact: Artifact,
    images: Sequence[NDArray[np.uint8]],
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[tuple[LayerError, ...], tuple[ActivationCut, ...], int]:
    """Compare an artifact's tensors with float's on radiographs, uint8 [H, W].

    Returns
    -------
    layers, cuts, unmatched
        As in :class:`Explanation`.

    Raises
    ------
    ExportError
        No layer has a counterpart in float.
    """
    with tempfile.TemporaryDirectory() as folder:
        pair = _traced(bundle, run, artifact, Path(folder))
        layers, cuts = measure_layers(pair, images, on_image)
    return layers, cuts, pair.unmatched


def explanation_object(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as plain values for JSON; an infinite SQNR (nothing differs) is null."""
    judged = explanation.report.artifacts[0]
    return {
        "schema_version": 1,
        "bundle": explanation.report.bundle,
        "artifact": explanation.artifact,
        "split": explanation.report.split,
        "radiographs": len(judged.case_numbers),
        "differing": [explanation.report.cases[number].file for number in judged.differing],
        "max_abs_probability_difference": judged.max_abs_probability_difference,
        "tensors_compared_on": list(explanation.looked_at),
        "outputs": [_finite(dataclasses.asdict(one)) for one in explanation.outputs],
        "layers": [_finite(dataclasses.asdict(one)) for one in explanation.layers],
        "activation_ranges": [_finite(dataclasses.asdict(one)) for one in explanation.cuts],
        "worst_layers": [layer.name for layer in explanation.worst_layers()],
        "worst_activations": [cut.name for cut in explanation.worst_cuts()],
        "unmatched_layers": explanation.unmatched,
        "notes": list(explanation.notes),
    }


def _compare_outputs(
    bundle: Bundle, run: Run, artifact: str, images: Sequence[NDArray[np.uint8]]
) -> tuple[OutputError, ...]:
    graph = deployable_graph(run)
    names: list[str] = [spec.name for spec in bundle.manifest.outputs]

    def both(image: NDArray[np.uint8]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        with torch.inference_mode():
            wanted = graph(torch.from_numpy(image.copy())[None, None])._asdict()
        return {name: wanted[name].numpy() for name in names}, dict(predictor.run_raw(image))

    with Predictor.open(bundle, artifact) as predictor:
        pairs = [both(image) for image in images]
    layers, _ = measure_layers(TracedPair(tuple((name, "output") for name in names), (), {}, _replay(pairs), 0), images)
    largest = {name: max(float(np.abs(a[name] - b[name]).max()) for a, b in pairs) for name in names}
    return tuple(OutputError(layer.name, layer.sqnr_db, layer.cosine, largest[layer.name]) for layer in layers)


def _replay(pairs: list[Any]) -> Callable[[Any], Any]:
    replay = iter(pairs)
    return lambda _image: next(replay)


def _traced(bundle: Bundle, run: Run, artifact: Artifact, folder: Path) -> TracedPair:
    """Open the artifact beside float: the bundle's own fp32 of the format, or one written from the run.

    Torch's formats stand beside the eager model, which is float in torch.
    """
    if artifact.format in ("torchscript", "lite"):
        from export.layers_torch import trace_torch

        pair = trace_torch(deployable_graph(run), bundle.artifact_path(artifact))
        return _checked(pair, artifact)
    reference = bundle.manifest.artifact(f"{artifact.format}-fp32")
    if reference is not None and reference.name != artifact.name:
        float_path = bundle.artifact_path(reference)
    else:
        writer = WRITERS[artifact.format]
        float_path = folder / f"float{writer.suffixes[0]}"
        writer.write(deployable_graph(run), float_path)
    if artifact.format == "onnx":
        from export.layers_onnx import trace_onnx as trace
    else:
        from export.layers_openvino import trace_openvino as trace
    return _checked(trace(float_path, bundle.artifact_path(artifact)), artifact)


def _checked(pair: TracedPair, artifact: Artifact) -> TracedPair:
    if not pair.layers:
        raise ExportError(
            f"no layer of {artifact.name} has a counterpart in float",
            got=f"{pair.unmatched} layers of other names",
            expected="an artifact that was quantized from the kit's own fp32 file",
        )
    return pair


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in values.items()}

"""The tensors inside a float ONNX file and its quantized one (QDQ), side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graph import INPUT_NAME
from export.layers import Quantizer, Tensors, TracedPair

__all__ = ["trace_onnx"]

_LAYERS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


def trace_onnx(float_path: Path, quantized_path: Path) -> TracedPair:
    """Open both files with every layer's output and every rounded activation as an output.

    Tensors are matched by name: quantization keeps the names of what it quantizes. Nothing is optimised when these
    graphs run: integers are simulated in float as the file says it, so a CPU whose kernels saturate differs from this.
    """
    import onnx

    reference, quantized = onnx.load(str(float_path)), onnx.load(str(quantized_path))
    known = {name for node in reference.graph.node for name in node.output}
    layers = [(node.output[0], node.op_type) for node in quantized.graph.node if node.op_type in _LAYERS]
    matched = [(name, op) for name, op in layers if name in known]
    quantizers = [q for q in _quantizers(quantized) if q.tensor in known]
    wanted = sorted({name for name, _ in matched} | {q.tensor for q in quantizers})
    sessions = [_session(model, wanted) for model in (reference, quantized)]

    def run(image: NDArray[np.uint8]) -> tuple[Tensors, Tensors]:
        feed = {INPUT_NAME: np.ascontiguousarray(image)[None, None]}
        first, second = (dict(zip(wanted, session.run(wanted, feed), strict=True)) for session in sessions)
        return first, second

    return TracedPair(
        tuple(matched), tuple(quantizers), _weights(float_path, quantized_path, quantized), run,
        len(layers) - len(matched),
    )  # fmt: skip


def _quantizers(model: Any) -> list[Quantizer]:
    """Rounding of activations: QuantizeLinear with one scale, on a tensor that the graph computes."""
    from onnx import numpy_helper

    constants = {value.name: value for value in model.graph.initializer}
    computed = {name for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or node.input[0] not in computed:
            continue
        if node.input[1] not in constants or node.input[2] not in constants:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]]).ravel()
        zero = numpy_helper.to_array(constants[node.input[2]]).ravel()
        if scale.size != 1 or zero.dtype.kind not in "iu":
            continue
        limits = np.iinfo(zero.dtype)
        step, offset = float(scale[0]), int(zero[0])
        found[node.input[0]] = Quantizer(
            node.input[0], (limits.min - offset) * step, (limits.max - offset) * step, max(step, 1e-30)
        )
    return list(found.values())


def _session(model: Any, outputs: list[str]) -> Any:
    import onnx
    import onnxruntime

    have = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in have)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _weights(float_path: Path, quantized_path: Path, quantized: Any) -> dict[str, float]:
    """Signal to noise of each layer's weights, by ONNX Runtime's own matching."""
    from onnxruntime.quantization.qdq_loss_debug import compute_weight_error, create_weight_matching

    try:
        errors = compute_weight_error(create_weight_matching(str(float_path), str(quantized_path)))
    except (ValueError, KeyError, RuntimeError, AssertionError):
        return {}  # a form of quantization that its matching does not know: the layers themselves still tell
    producers = {name: node for node in quantized.graph.node for name in node.output}
    found = {}
    for node in quantized.graph.node:
        if node.op_type in _LAYERS and len(node.input) > 1:
            source = producers.get(node.input[1])
            name = node.input[1] if source is None else source.input[0]
            name = name.removesuffix("_quantized")
            if name in errors:
                found[node.output[0]] = float(errors[name])
    return found

"""The tensors inside a float OpenVINO model and its quantized one, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.graph import INPUT_NAME
from export.layers import Quantizer, Tensors, TracedPair
from export.telemetry import decline_telemetry

__all__ = ["trace_openvino"]

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")


def trace_openvino(float_path: Path, quantized_path: Path) -> TracedPair:
    """Open both models with every layer's output and every rounded activation as an output.

    Operations are matched by friendly name, which NNCF keeps. A layer's output is taken behind the bias that follows
    it, where bias correction works. Seen outputs keep OpenVINO from fusing across them: numbers differ a little from
    the artifact as the field runs it.
    """
    decline_telemetry()
    import openvino

    core = openvino.Core()
    reference, quantized = core.read_model(str(float_path)), core.read_model(str(quantized_path))
    known = {op.get_friendly_name(): op for op in reference.get_ops()}
    layers = [(_behind_bias(op), op.get_type_name()) for op in quantized.get_ordered_ops()
              if op.get_type_name() in _LAYERS]  # fmt: skip
    named = [(op.get_friendly_name(), kind) for op, kind in layers]
    matched = [(name, kind) for name, kind in named if name in known]
    quantizers = [q for q in _quantizers(quantized) if q.tensor in known]
    wanted = sorted({name for name, _ in matched} | {q.tensor for q in quantizers})
    requests = [_request(core, model, wanted) for model in (reference, quantized)]

    def run(image: NDArray[np.uint8]) -> tuple[Tensors, Tensors]:
        first, second = (_infer(request, image, wanted) for request in requests)
        return first, second

    return TracedPair(tuple(matched), tuple(quantizers), {}, run, len(named) - len(matched))


def _behind_bias(op: Any) -> Any:
    consumers = [target.get_node() for target in op.output(0).get_target_inputs()]
    if len(consumers) == 1 and consumers[0].get_type_name() == "Add":
        sources = [value.get_node().get_type_name() for value in consumers[0].input_values()]
        if "Constant" in sources or "Convert" in sources:
            return consumers[0]
    return op


def _quantizers(model: Any) -> list[Quantizer]:
    """FakeQuantize with one range, on a tensor that the graph computes."""
    found = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        source = op.input_value(0).get_node()
        ends = [op.input_value(n).get_node() for n in (1, 2)]
        if source.get_type_name() in ("Constant", "Convert") or any(e.get_type_name() != "Constant" for e in ends):
            continue
        low, high = (end.get_data().ravel() for end in ends)
        levels = int(op.get_attributes()["levels"])
        if low.size == 1 and high.size == 1 and levels > 1 and high[0] > low[0]:
            name = source.get_friendly_name()
            found[name] = Quantizer(name, float(low[0]), float(high[0]), float(high[0] - low[0]) / (levels - 1))
    return list(found.values())


def _request(core: Any, model: Any, wanted: list[str]) -> Any:
    """Compile a model of the same operations whose outputs are the wanted tensors, in their order, and nothing else."""
    import openvino
    from openvino import opset13

    by_name = {op.get_friendly_name(): op for op in model.get_ops()}
    results = [opset13.result(by_name[name].output(0)) for name in wanted]
    traced = openvino.Model(results, model.get_parameters(), "traced")
    return core.compile_model(traced, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()


def _infer(request: Any, image: NDArray[np.uint8], wanted: list[str]) -> Tensors:
    request.infer({INPUT_NAME: np.ascontiguousarray(image)[None, None]})
    return {name: request.get_output_tensor(number).data.copy() for number, name in enumerate(wanted)}

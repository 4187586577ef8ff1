"""Weights of an ONNX model stored smaller than they are used: int8 with a scale a channel, or half precision."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import ExportError
from export.formats.onnx import check_file, strip_notes
from export.quantization.weights import quantize_weight

__all__ = ["store_weights_as_int8", "write_half"]

_SMALLEST = 16  # elements; a bias or a scale stays as it is
_HALF_LARGEST = 65504.0
_GATE = "gate."


def store_weights_as_int8(model: Any, *, per_channel: bool = True, refined: Collection[str] = ()) -> int:
    """Replace every float weight matrix by int8, its scales, a Cast and a Mul, in place; return how many.

    A tensor that several nodes read (the head's weight serves the heat map too) is stored once. ONNX Runtime computes
    Cast and Mul of constants when it opens the file, and runs in float32 at float's speed; a DequantizeLinear, made for
    this, it would repeat at every run (twice the time, onnxruntime 1.32.0).

    Parameters
    ----------
    model
        An ``onnx.ModelProto``.
    per_channel
        One scale for each output channel.
    refined
        Layers whose weights are stored in two int8 parts, the second of what the first leaves.
    """
    from onnx import TensorProto, helper, numpy_helper

    count = 0
    nodes: list[Any] = []

    def expand(name: str, out: str, weight: Any) -> Any:
        integers, scale = quantize_weight(weight, per_channel)
        shaped = np.asarray(scale.reshape(-1, *[1] * (weight.ndim - 1)) if per_channel else scale[0], np.float32)
        model.graph.initializer.extend(
            [numpy_helper.from_array(integers, f"{name}_int8"), numpy_helper.from_array(shaped, f"{name}_scale")]
        )
        nodes.append(helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], f"{name}_cast", to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [out], f"{name}_expand"))
        return weight - integers.astype(np.float32) * shaped

    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2 or np.prod(tensor.dims) < _SMALLEST:
            continue
        if tensor.name.startswith(_GATE):  # its limits were set in float
            continue
        weight = numpy_helper.to_array(tensor)
        if weight.shape[0] == weight.size:  # a vector in disguise: a batch norm's, a reshape's
            continue
        name = tensor.name
        model.graph.initializer.remove(tensor)
        if name.removesuffix(".weight") in refined:
            rest = expand(name, f"{name}_first", weight)
            expand(f"{name}_rest", f"{name}_second", rest)
            nodes.append(helper.make_node("Add", [f"{name}_first", f"{name}_second"], [name], f"{name}_sum"))
        else:
            expand(name, name, weight)
        count += 1
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    return count


def write_half(source: Path, path: Path) -> None:
    """Write an ONNX file whose weights are float16, cast to float32 where they are used.

    Half the size. A CPU computes as before, a GPU's compiler (TensorRT) may take the halves as they are.

    Raises
    ------
    ExportError
        A weight is beyond what float16 can hold.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    nodes = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, dtype=np.int64) < _SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= _HALF_LARGEST:
            raise ExportError(
                "a weight does not fit into float16",
                got=f"{tensor.name}: {np.abs(values).max():g}",
                expected=f"at most {_HALF_LARGEST:g}",
                remedy="leave out fp16",
            )
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], f"{name}_expand", to=TensorProto.FLOAT))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    strip_notes(model)
    onnx.save_model(model, str(path))
    check_file(path)

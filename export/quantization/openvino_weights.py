"""Weights of an OpenVINO model stored smaller than they are used: int8 with a scale a channel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from export.quantization.weights import quantize_weight

__all__ = ["float_weights", "store_weights_as_int8"]

_SMALLEST = 16  # elements
_GROUPED = 5  # axes of a depthwise weight: [groups, O / groups, I / groups, kh, kw]


def float_weights(model: Any) -> dict[str, Any]:
    """Float32 weight constants of convolutions and matrix products: operation name -> array [O, I, ...].

    Weights that are int8 already (behind NNCF's quantizers) are not among them.
    """
    found = {}
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            constant = operation.input_value(1).get_node()
            if _is_float_matrix(constant):
                found[operation.get_friendly_name()] = _plain(constant.data)
    return found


def store_weights_as_int8(
    model: Any, *, per_channel: bool = True, refined: Collection[str] = (), floating: Collection[str] = ()
) -> int:
    """Replace float weight constants by int8, Convert and Multiply, in place; return how many.

    OpenVINO folds these when it compiles the model, and computes in float.

    Parameters
    ----------
    model
        An ``openvino.Model``.
    per_channel
        One scale for each output channel.
    refined
        Operations (by friendly name) whose weights are stored in two parts.
    floating
        Operations whose constants stay in float where no other reads them.
    """
    from openvino import opset13 as ops

    by_constant: dict[str, tuple[Any, bool]] = {}
    for operation in model.get_ordered_ops():
        for value in operation.input_values():
            constant = value.get_node()
            if _is_float_matrix(constant):
                name = constant.get_friendly_name()
                wanted = operation.get_friendly_name() in refined
                by_constant[name] = (constant, wanted or by_constant.get(name, (None, False))[1])
    for name, (constant, two) in by_constant.items():
        consumers = list(constant.output(0).get_target_inputs())
        if all(consumer.get_node().get_friendly_name() in floating for consumer in consumers):
            continue
        weight = constant.data
        first, rest = _expansion(ops, weight, per_channel, name)
        if two:
            second, _ = _expansion(ops, rest, per_channel, f"{name}/rest")
            first = ops.add(first, second, name=f"{name}/sum")
        for consumer in consumers:
            consumer.replace_source_output(first.output(0))
    return len(by_constant)


def _expansion(ops: Any, weight: Any, per_channel: bool, name: str) -> tuple[Any, Any]:
    integers, scale = quantize_weight(_plain(weight), per_channel)
    lead = 2 if weight.ndim == _GROUPED else 1
    shape = (*weight.shape[:lead], *[1] * (weight.ndim - lead))
    shaped = scale.reshape(shape) if per_channel else np.asarray(scale[0], np.float32)
    whole = integers.reshape(weight.shape)
    stored = ops.constant(whole, dtype=np.int8, name=f"{name}/int8")
    node = ops.multiply(
        ops.convert(stored, "f32", name=f"{name}/float"),
        ops.constant(shaped, dtype=np.float32, name=f"{name}/scale"),
        name=f"{name}/expanded",
    )
    return node, weight - whole.astype(np.float32) * shaped


def _plain(weight: Any) -> Any:
    """[G, O / G, I / G, kh, kw] as [O, I / G, kh, kw]."""
    return np.array(weight.reshape(-1, *weight.shape[2:]) if weight.ndim == _GROUPED else weight)


def _is_float_matrix(node: Any) -> bool:
    if node.get_type_name() != "Constant" or node.get_element_type().to_string() != "f32":
        return False
    shape = list(node.get_output_shape(0))
    size = int(np.prod(shape))
    return len(shape) >= 2 and size >= _SMALLEST and max(shape) != size

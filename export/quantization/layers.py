"""The layers of a deployable graph that hold weights: one vocabulary for every format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import DeployableGraph

__all__ = ["Layer", "LayerKind", "find_layers", "float_names", "match_weights"]

LayerKind = Literal["stem", "depthwise", "pointwise", "convolution", "gate", "head"]
"""``stem``: the first convolution. ``gate``: convolutions on pooled 1 x 1 maps (squeeze-excite). ``head``: linear
layers."""


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer.

    Attributes
    ----------
    name
        Its module's name in the graph, such as ``body.stage1.unit1.dw_conv.conv`` or ``head.hidden.1``.
    weight
        float32 [O, I, kh, kw] or [O, I], before batch norm is folded in.
    multiply_adds
        Of one run at the network's size: what the layer costs.
    """

    name: str
    kind: LayerKind
    weight: NDArray[np.float32]
    multiply_adds: int


@torch.no_grad()
def find_layers(graph: DeployableGraph) -> tuple[Layer, ...]:
    """List the layers in the order in which they run."""
    found: list[Layer] = []
    hooks = []
    names = {module: name for name, module in graph.named_modules()}

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if any(layer.name == names[module] for layer in found):
            return
        weight = module.weight
        assert isinstance(weight, Tensor)
        # each output value is one product of a row of the weight and the input
        cost = output.numel() * weight[0].numel()
        found.append(Layer(names[module], _kind(module, inputs[0], not found), weight.detach().numpy(), cost))

    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(note))
    try:
        graph(torch.zeros(1, 1, graph.size, graph.size, dtype=torch.uint8))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(found)


def float_names(layers: tuple[Layer, ...], kinds: tuple[LayerKind, ...], names: tuple[str, ...]) -> frozenset[str]:
    """Names of the layers whose arithmetic stays in float; the head's always does, it costs next to nothing."""
    return frozenset(layer.name for layer in layers if layer.kind in (*kinds, "head") or layer.name in names)


def match_weights(layers: tuple[Layer, ...], weights: dict[str, NDArray[np.float32]]) -> dict[str, str]:
    """Find which operation of a converted model holds which layer, by its weights.

    Converters fold batch norm into a convolution (a factor for each output channel) and lose its name; the direction
    of each channel's weights stays.

    Parameters
    ----------
    layers
        Of :func:`find_layers`.
    weights
        Operation name -> float32 [O, I, kh, kw].

    Returns
    -------
    dict
        Operation name -> layer name, for each operation that one layer fits.
    """
    matched = {}
    for operation, weight in weights.items():
        best, best_fit = None, 0.999
        for layer in layers:
            if layer.weight.shape == weight.shape and (fit := _similarity(layer.weight, weight)) > best_fit:
                best, best_fit = layer.name, fit
        if best is not None:
            matched[operation] = best
    return matched


def _similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean absolute cosine of corresponding output channels; channels that are all zero count as alike."""
    x, y = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    dots = np.abs((x * y).sum(1))
    return float(np.where(norms > 0, dots / np.where(norms > 0, norms, 1), 1.0).mean())


def _kind(module: nn.Module, x: Tensor, first: bool) -> LayerKind:
    if isinstance(module, nn.Linear):
        return "head"
    assert isinstance(module, nn.Conv2d)
    if first:
        return "stem"
    if x.shape[-2:] == (1, 1):
        return "gate"
    if module.groups > 1 and module.groups == module.in_channels:
        return "depthwise"
    return "pointwise" if module.kernel_size == (1, 1) else "convolution"

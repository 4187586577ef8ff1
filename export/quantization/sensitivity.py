"""Which layers suffer most from int8 activations: each layer's rounding noise, as the logits see it.

First order: a layer's input x is rounded to x + n; the logits move by the gradient times n. One forward and one
backward pass a class give that for all layers at once, where trying them one by one would take a pass each (Molchanov
et al. 2019 and LAPQ use the same expansion). Rankings, not predictions: what is chosen by it is judged by running the
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import DeployableGraph
from export.quantization.weights import rounded

__all__ = ["RANKED_ON", "LayerNoise", "mean_inputs", "rank_layers", "rank_weights"]

RANKED_ON = 12
"""Radiographs that a ranking is made on; it needs no more."""

_LEVELS = 255
_TAIL = 1e-4  # share of values left outside the range, on each side


@dataclass(frozen=True)
class LayerNoise:
    """What int8 does to one layer's input, and what that does to the logits.

    Attributes
    ----------
    layer
        Name.
    sqnr_db
        Signal to quantization noise of the layer's input, in dB.
    logit_noise
        Root mean square of the first-order change of the logits.
    """

    layer: str
    sqnr_db: float
    logit_noise: float


def rank_layers(graph: DeployableGraph, images: Sequence[NDArray[np.uint8]], batch: int = 8) -> tuple[LayerNoise, ...]:
    """Rank convolutions and linear layers by the noise that int8 activations bring to the logits, worst first.

    Parameters
    ----------
    graph
        The eager model; not changed.
    images
        Calibration radiographs, uint8 [S, S], all of the network's size.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    effect: dict[str, float] = {}
    for start in range(0, len(images), batch):
        x = graph.normalization(torch.from_numpy(np.stack(images[start : start + batch]))[:, None].float())
        inputs = _Inputs(graph)
        with torch.enable_grad(), inputs:
            logits = graph.head(graph.body(x.requires_grad_())[0])[0]
            values = list(inputs.values.values())
            rounding = {name: _rounding(value.detach()) for name, value in inputs.values.items()}
            for index in range(logits.shape[1]):
                gradients = torch.autograd.grad(
                    logits[:, index].sum(), values, retain_graph=index + 1 < logits.shape[1], allow_unused=True
                )
                for name, gradient in zip(inputs.values, gradients, strict=True):
                    if gradient is None:
                        continue
                    moved = (gradient * rounding[name]).flatten(1).sum(1)
                    effect[name] = effect.get(name, 0.0) + float(moved.square().mean()) / logits.shape[1]
        for name, value in inputs.values.items():
            signal[name] = signal.get(name, 0.0) + float(value.detach().double().square().mean())
            noise[name] = noise.get(name, 0.0) + float(rounding[name].double().square().mean())
    batches = -(-len(images) // batch)
    ranked = [
        LayerNoise(name, 10 * float(np.log10(signal[name] / max(noise[name], 1e-30))), (effect[name] / batches) ** 0.5)
        for name in effect
    ]
    return tuple(sorted(ranked, key=lambda item: -item.logit_noise))


def rank_weights(graph: DeployableGraph, images: Sequence[NDArray[np.uint8]], batch: int = 8) -> tuple[LayerNoise, ...]:
    """Rank layers by the noise that int8 weights, one scale a channel, bring to the logits, worst first.

    Exact, not first order: each layer's weights are rounded in turn. Batch norm behind a convolution scales whole
    channels, which a scale a channel does not notice, so it need not be folded first.

    Parameters
    ----------
    graph
        The eager model; as it was on return.
    images
        uint8 [S, S], all of the network's size.
    """
    stacked = torch.from_numpy(np.stack(images))[:, None].float()

    @torch.no_grad()
    def logits() -> Tensor:
        parts = [
            graph.head(graph.body(graph.normalization(stacked[start : start + batch]))[0])[0]
            for start in range(0, len(stacked), batch)
        ]
        return torch.cat(parts)

    full = logits()
    ranked = []
    for name, module in graph.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight = module.weight.data
        changed = torch.from_numpy(rounded(weight.numpy()))
        module.weight.data = changed
        try:
            moved = float((logits() - full).square().mean().sqrt())
        finally:
            module.weight.data = weight
        error = float((changed - weight).double().square().mean())
        sqnr = 10 * float(np.log10(float(weight.double().square().mean()) / max(error, 1e-30)))
        ranked.append(LayerNoise(name, sqnr, moved))
    return tuple(sorted(ranked, key=lambda item: -item.logit_noise))


@torch.no_grad()
def mean_inputs(graph: DeployableGraph, images: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    """Mean of every input channel of every layer over the radiographs: layer name -> float32 [I]."""
    total: dict[str, Tensor] = {}
    for image in images:
        x = graph.normalization(torch.from_numpy(np.array(image))[None, None].float())
        with _Inputs(graph) as inputs:
            graph.head(graph.body(x)[0])
        for name, value in inputs.values.items():
            # a convolution's channels are the second axis, a linear layer's the last
            convolution = isinstance(graph.get_submodule(name), nn.Conv2d)
            mean = value.mean((2, 3))[0] if convolution else value.flatten(0, -2).mean(0)
            total[name] = total.get(name, torch.zeros_like(mean)) + mean
    return {name: (value / len(images)).numpy() for name, value in total.items()}


class _Inputs:
    """While entered, keep what each convolution and linear layer receives."""

    def __init__(self, graph: DeployableGraph) -> None:
        self.graph = graph
        self.values: dict[str, Tensor] = {}
        self.hooks: list[Any] = []

    def __enter__(self) -> _Inputs:
        for name, module in self.graph.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                self.hooks.append(module.register_forward_pre_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _hook(self, name: str) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.values.setdefault(name, inputs[0])

        return keep


def _rounding(x: Tensor) -> Tensor:
    """What 8-bit asymmetric rounding changes, ranges at the 0.01 and 99.99 percentiles (and 0 inside)."""
    flat = x.flatten()
    step = max(1, flat.numel() // 1_000_000)  # a quantile of a million values is exact enough
    sample = flat[::step].sort().values
    tail = int(_TAIL * (len(sample) - 1))
    low, high = min(0.0, float(sample[tail])), max(0.0, float(sample[len(sample) - 1 - tail]))
    scale = max(high - low, 1e-12) / _LEVELS
    return ((x - low) / scale).round().clamp(0, _LEVELS) * scale + low - x

"""Quantization-aware fine-tuning with fastai: the dearest rung.

Weights and layer inputs are rounded in the forward pass as int8 will round them, and the gradient goes straight through
(Jacob et al. 2018). The network learns to answer as the full model does (the loss is the divergence from its
probabilities, no labels), so it repairs decisions rather than trains the classifier further. Batch norms keep their
statistics. What comes back is a float graph like the first; each format's own tool quantizes it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from export.graph import DeployableGraph
from export.quantization.layers import Layer, float_names
from export.quantization.settings import QuantizationSettings
from train.data.rows import Dataset
from train.loading import ImageStore, build_loaders
from train.recipe import Recipe
from train.torchvision_ops import declare_missing_operators

__all__ = ["fine_tune"]

_RATE = 2e-5
_TAIL = 1e-4
_LEVELS = 127


def fine_tune(
    graph: DeployableGraph,
    layers: tuple[Layer, ...],
    settings: QuantizationSettings,
    dataset: Dataset,
    recipe: Recipe,
    calibration: Sequence[NDArray[np.uint8]],
    *,
    cache: Path | None = None,
    seed: int = 0,
) -> DeployableGraph:
    """Fine-tune a copy of the graph for ``settings.fine_tuning_epochs`` epochs.

    Parameters
    ----------
    graph
        The eager model: teacher, and where the student starts.
    layers, settings
        What will be rounded: layers in float keep float inputs, their weights are rounded all the same.
    dataset
        Its training split is used, and no other.
    recipe
        The run's: batch size and augmentation.
    calibration
        uint8 [S, S]: they give the ranges of the inputs.
    cache
        Folder of decoded images; the data set's own by default.
    seed
        Of draws and augmentation.
    """
    declare_missing_operators()
    import fastai.callback.schedule  # noqa: F401 - gives Learner its fit_one_cycle
    from fastai.learner import Learner
    from fastai.optimizer import Adam

    student = copy.deepcopy(graph)
    ranges = _input_ranges(graph, calibration)
    torch.manual_seed(seed)
    recipe = msgspec.structs.replace(recipe, mixup=0.0)
    loaders = build_loaders(ImageStore(dataset, cache or dataset.root / "cache", 1), recipe, graph.size, seed)
    for parameter in student.parameters():
        parameter.requires_grad_(True)
    keep = float_names(layers, settings.float_kinds, settings.float_layers)
    rounding = _Rounding(student, ranges, keep if settings.activations == "int8" else frozenset(ranges))
    with rounding:
        pair = _Pair(student, graph)
        learner = Learner(loaders, pair, loss_func=_divergence, opt_func=Adam, train_bn=False)
        learner.remove_cbs([cb for cb in learner.cbs if type(cb).__name__ in ("ProgressCallback", "Recorder")])
        with learner.no_logging():
            learner.fit_one_cycle(settings.fine_tuning_epochs, lr_max=_RATE)
    student.requires_grad_(False)
    return student.cpu()


class _Pair(nn.Module):
    """Student and teacher on one batch: logits [N, 2, C]."""

    def __init__(self, student: DeployableGraph, teacher: DeployableGraph) -> None:
        super().__init__()
        self.student = student
        self._teacher = [teacher]  # in a list: its parameters are not the learner's

    def forward(self, x: Tensor) -> Tensor:
        x = x.as_subclass(Tensor)
        with torch.no_grad():
            wanted = self._teacher[0].head(self._teacher[0].body(x)[0])[0]
        return torch.stack([self.student.head(self.student.body(x)[0])[0], wanted], 1)


def _divergence(pair: Tensor, _target: Any, **_: Any) -> Tensor:
    student, teacher = (functional.log_softmax(pair.as_subclass(Tensor)[:, i], 1) for i in (0, 1))
    return functional.kl_div(student, teacher, log_target=True, reduction="batchmean")


class _Rounding:
    """While entered, the student's weights and inputs are rounded with a straight-through gradient."""

    def __init__(
        self, graph: DeployableGraph, ranges: dict[str, tuple[float, float]], float_inputs: frozenset[str]
    ) -> None:
        self.graph, self.ranges, self.float_inputs = graph, ranges, float_inputs
        self.hooks: list[Any] = []
        self.rounded: list[nn.Module] = []

    def __enter__(self) -> None:
        for name, module in self.graph.named_modules():
            if name in self.ranges:
                parametrize.register_parametrization(module, "weight", _RoundWeight())
                self.rounded.append(module)
                if name not in self.float_inputs:
                    self.hooks.append(module.register_forward_pre_hook(_round_input(*self.ranges[name])))

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
        for module in self.rounded:
            # the unrounded weight stays: the format's own tool rounds it
            kept: Any = module
            weight = kept.parametrizations.weight.original.detach().clone()
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
            kept.weight.data = weight


class _RoundWeight(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().flatten(1).abs().amax(1).clamp_min(1e-12) / _LEVELS
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -_LEVELS, _LEVELS)


def _round_input(low: float, high: float) -> Any:
    scale = max(high - low, 1e-12) / 255
    zero = round(-low / scale)

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.fake_quantize_per_tensor_affine(inputs[0], scale, zero, 0, 255),)

    return hook


@torch.no_grad()
def _input_ranges(graph: DeployableGraph, images: Sequence[NDArray[np.uint8]]) -> dict[str, tuple[float, float]]:
    """The 0.01 and 99.99 percentiles of each layer's input, with 0 inside; the mean over the radiographs."""
    found: dict[str, list[tuple[float, float]]] = {}
    hooks = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].flatten().sort().values
            tail = int(_TAIL * (len(values) - 1))
            found.setdefault(name, []).append((float(values[tail]), float(values[len(values) - 1 - tail])))

        return hook

    for name, module in graph.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_pre_hook(note(name)))
    try:
        for image in images:
            graph.head(graph.body(graph.normalization(torch.from_numpy(np.array(image))[None, None].float()))[0])
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: (min(0.0, float(np.mean([v[0] for v in values]))), max(0.0, float(np.mean([v[1] for v in values]))))
        for name, values in found.items()
    }

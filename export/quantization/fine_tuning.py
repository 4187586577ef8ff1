"""Quantization-aware fine-tuning with fastai: the dearest rung.

Weights and layer inputs are rounded in the forward pass as int8 will round them, and the gradient goes straight through
(Jacob et al. 2018). The network learns to answer as the full model does, from its logits and its embedding and
without labels, so it repairs decisions rather than trains the classifier further. Batch norms keep their statistics.
What comes back is a float graph like the first; each format's own tool quantizes it.
"""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from export.errors import ExportError
from export.graph import DeployableGraph
from export.quantization.layers import Layer, float_names
from export.quantization.settings import QuantizationSettings
from export.quantization.tuned_weights import Tuned, apply_differences, differences_of
from train.data.rows import Dataset
from train.loading import ImageStore, build_loaders
from train.processes import Processes, choose_device
from train.recipe import Recipe
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.callback.core import Callback  # noqa: E402

__all__ = ["RATE", "OnEpoch", "fine_tune"]

RATE = 1e-5
"""Largest of the one cycle. At 5e-5 and 1e-4 the loss rose instead of falling (docs/quantization.md)."""
_TAIL = 1e-4
_LEVELS = 127


OnEpoch = Callable[[int, int, float], None]
"""Told after each epoch: its number from 1, of how many, and the mean loss."""


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
    device: str = "auto",
    rate: float = RATE,
    on_epoch: OnEpoch = lambda *_: None,
) -> Tuned:
    """Fine-tune a copy of the graph for ``settings.fine_tuning_epochs`` epochs.

    Parameters
    ----------
    graph
        The eager model: teacher, and where the student starts.
    layers, settings
        What will be rounded: layers in float keep float inputs; their weights are rounded all the same, except those
        in two parts, whose rest is next to nothing.
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
    device
        ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    rate
        Largest learning rate of the one cycle.
    on_epoch
        Progress.

    Returns
    -------
    Tuned
        A graph with the precision of the file it will be kept in.

    Raises
    ------
    ExportError
        The loss is not a number.
    """
    import fastai.callback.schedule  # noqa: F401 - gives Learner its fit_one_cycle
    from fastai.learner import Learner
    from fastai.optimizer import Adam

    ranges = _input_ranges(graph, calibration)
    scale = _spread(graph, calibration)
    torch.manual_seed(seed)
    recipe = msgspec.structs.replace(recipe, mixup=0.0)
    processes = Processes(device=choose_device(device))
    store = ImageStore(dataset, cache or dataset.root / "cache", 1, processes)
    loaders = build_loaders(store, recipe, graph.size, seed)
    student, teacher = (copy.deepcopy(graph).to(processes.device) for _ in range(2))
    for parameter in student.parameters():
        parameter.requires_grad_(True)
    keep = float_names(layers, settings.float_kinds, settings.float_layers)
    if settings.activations == "float":
        keep = frozenset(ranges)
    rounding = _Rounding(student, ranges, keep, keep & set(settings.refined_layers))
    epochs = _Epochs(on_epoch)
    with rounding:
        learner = Learner(
            loaders, _Pair(student, teacher, scale), loss_func=_distance, opt_func=Adam, train_bn=False, cbs=[epochs]
        )
        learner.remove_cbs([cb for cb in learner.cbs if type(cb).__name__ in ("ProgressCallback", "Recorder")])
        with learner.no_logging():
            learner.fit_one_cycle(settings.fine_tuning_epochs, lr_max=rate)
    student.requires_grad_(False)
    tuned = apply_differences(graph, differences_of(graph, student.cpu()))
    return Tuned(tuned, settings, rate, epochs.mean, _in_words(processes.device))


class _Pair(nn.Module):
    """Student less teacher on one batch, in units of the teacher's spread: logits and embedding, [N, C + D]."""

    def __init__(self, student: DeployableGraph, teacher: DeployableGraph, scale: tuple[float, float]) -> None:
        super().__init__()
        self.student = student
        self.scale = scale
        self._teacher = [teacher]  # in a list: its parameters are not the learner's

    def forward(self, x: Tensor) -> Tensor:
        x = x.as_subclass(Tensor)
        with torch.no_grad():
            wanted_logits, _, wanted_embedding = self._teacher[0].head(self._teacher[0].body(x)[0])
        logits, _, embedding = self.student.head(self.student.body(x)[0])
        width = (embedding.shape[1] / logits.shape[1]) ** 0.5  # the many values of an embedding count as the few logits
        apart = (logits - wanted_logits) / self.scale[0], (embedding - wanted_embedding) / (self.scale[1] * width)
        return torch.cat(apart, 1)


def _distance(apart: Tensor, _target: Any, **_: Any) -> Tensor:
    return apart.as_subclass(Tensor).square().sum(1).mean()


class _Epochs(Callback):  # type: ignore[misc] # fastai is untyped
    """Mean loss of each epoch; only the training part runs long, and it alone counts."""

    def __init__(self, on_epoch: Callable[[int, int, float], None]) -> None:
        self.on_epoch = on_epoch
        self.losses: list[Tensor] = []
        self.mean = float("nan")

    def after_loss(self) -> None:
        if self.training:
            self.losses.append(self.learn.loss.detach())

    def after_epoch(self) -> None:
        self.mean, self.losses = float(torch.stack(self.losses).mean()), []
        if not math.isfinite(self.mean):
            raise ExportError(
                "fine-tuning went astray: the loss is not a number",
                got=f"epoch {self.epoch + 1} of {self.n_epoch}",
                remedy="a smaller --rate",
            )
        self.on_epoch(self.epoch + 1, self.n_epoch, self.mean)


def _in_words(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {platform.machine()}"


class _Rounding:
    """While entered, the student's weights and inputs are rounded with a straight-through gradient."""

    def __init__(
        self,
        graph: DeployableGraph,
        ranges: dict[str, tuple[float, float]],
        float_inputs: frozenset[str],
        float_weights: frozenset[str] = frozenset(),
    ) -> None:
        self.graph, self.ranges, self.float_inputs, self.float_weights = graph, ranges, float_inputs, float_weights
        self.hooks: list[Any] = []
        self.rounded: list[nn.Module] = []

    def __enter__(self) -> None:
        for name, module in self.graph.named_modules():
            if name in self.ranges:
                if name not in self.float_weights:
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
def _spread(graph: DeployableGraph, images: Sequence[NDArray[np.uint8]]) -> tuple[float, float]:
    """Standard deviation over radiographs of the logits and of the embedding, the mean over their values."""
    answers = [
        graph.head(graph.body(graph.normalization(torch.from_numpy(np.array(image))[None, None].float()))[0])
        for image in images
    ]
    logits, embedding = (torch.cat([answer[i] for answer in answers]) for i in (0, 2))
    return tuple(float(values.std(0).mean().clamp_min(1e-6)) for values in (logits, embedding))  # type: ignore[return-value]


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

"""Parameters and multiply-adds of a classifier by input size, beside the figures that the seed published.

Counted on meta tensors: shapes only, no arithmetic, no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from train.model import build_classifier, count_parameters

__all__ = ["SEED_MULTIPLY_ADDS", "Count", "Counting", "count_classifier"]

SEED_MULTIPLY_ADDS = {240: 0.718e9, 450: 2.576e9, 600: 4.343e9}
"""What the seed printed for EfficientNet-b1 by input size, to three digits after the point of 10^9."""


@dataclass(frozen=True)
class Count:
    """Counts of one forward pass of one image.

    Attributes
    ----------
    size
        Edge of the input in pixels.
    multiply_adds
        Of convolutions and linear layers, as torch's ``FlopCounterMode`` counts them (a multiply-add is one).
    operations
        By the seed's rules, by kind; see :class:`_OperationCounter`.
    """

    size: int
    multiply_adds: int
    operations: dict[str, int]

    @property
    def by_the_seeds_rules(self) -> int:
        """All operations together."""
        return sum(self.operations.values())


@dataclass(frozen=True)
class Counting:
    """Parameters of a classifier, and counts by input size."""

    architecture: str
    parameters: int
    counts: tuple[Count, ...]


def count_classifier(architecture: str, classes: int = 3, sizes: Sequence[int] = (240, 450, 600)) -> Counting:
    """Count a classifier's parameters, and its operations at each input size.

    Raises
    ------
    EdgeRuntimeError
        pytorchcv does not know the architecture.
    """
    model = build_classifier(architecture, classes)
    parameters = count_parameters(model)
    model = model.eval().to("meta")
    images = [torch.zeros(1, 3, size, size, device="meta") for size in sizes]
    multiply_adds = [_multiply_adds(model, image) for image in images]
    _leave_swish_out(model)
    counts = [
        Count(size, number, _operations(model, image))
        for size, number, image in zip(sizes, multiply_adds, images, strict=True)
    ]
    return Counting(architecture, parameters, tuple(counts))


@torch.no_grad()
def _multiply_adds(model: nn.Module, image: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        model(image)
    return int(counter.get_total_flops()) // 2  # it counts a multiply-add as two


@torch.no_grad()
def _operations(model: nn.Module, image: Tensor) -> dict[str, int]:
    counter = _OperationCounter()
    with counter:
        model(image)
    return dict(counter.counts)


def _leave_swish_out(model: nn.Module) -> None:
    """Count a swish as nothing: the seed's was an autograd function of its own, unknown to its counter."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ in ("Swish", "SiLU"):
                setattr(parent, name, nn.Identity())


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch: an untyped hook
    """Count operations as the counters over traced graphs of 2020 did (pthflops, after which the rules are written).

    Convolution and linear layer: a multiply-add is one, a bias one more for each output. Batch norm: two for each
    element. Addition and product of two tensors: one for each element. Global average pooling: one for each
    element of the input. Maximum: the comparisons. ReLU: two for each element. Anything else: nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        output = result[0] if isinstance(result, (tuple, list)) else result
        if name == "convolution":
            weight, bias = args[1], args[2]
            self.counts["convolutions"] += output.numel() * (prod(weight.shape[1:]) + (bias is not None))
        elif name in ("mm", "addmm"):
            self.counts["linear layers"] += output.numel() * args[-1].shape[0]
        elif "batch_norm" in name:
            self.counts["batch norms"] += 2 * output.numel()
        elif name in ("add", "add_"):
            self.counts["additions"] += output.numel()
        elif name in ("mul", "mul_"):
            self.counts["squeeze-excite products"] += output.numel()
        elif name in ("mean", "_adaptive_avg_pool2d"):
            self.counts["pooling"] += args[0].numel()
        elif name == "adaptive_max_pool2d":
            self.counts["pooling"] += args[0].numel() - output.numel()
        elif name in ("relu", "relu_"):
            self.counts["ReLU"] += 2 * output.numel()
        return result

"""Memory-saving swish: x * sigmoid(x) that keeps its input only and computes the rest anew in the backward pass.

pytorchcv's ``Swish`` lets autograd keep the input and the sigmoid; EfficientNet has one behind nearly every
convolution, so training holds one more copy of most activations than it needs (the seed's fix, and the usual one since
Pleiss et al. 2017, "Memory-efficient implementation of DenseNets"). The patch is put on a built model and taken off
again; the installed package stays as it is, and an exported graph never holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MemorySavingSwish", "memory_saving_swish"]


class _SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        grad_input: Tensor = grad_output * (s * (1 + x * (1 - s)))
        return grad_input


class MemorySavingSwish(nn.Module):
    """Swish (Ramachandran et al. 2017) with a hand-written backward pass. Any shape, any float dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x * sigmoid(x)``."""
        out: Tensor = _SwishFunction.apply(x)  # type: ignore[no-untyped-call]
        return out


@contextmanager
def memory_saving_swish(model: nn.Module, enabled: bool = True) -> Iterator[int]:
    """Put :class:`MemorySavingSwish` in place of every swish of ``model``; put the old ones back on leaving.

    Yields
    ------
    int
        How many were replaced; 0 where ``enabled`` is false.
    """
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    if enabled:
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child).__name__ in ("Swish", "SiLU"):
                    replaced.append((parent, name, child))
                    setattr(parent, name, MemorySavingSwish())
    try:
        yield len(replaced)
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)

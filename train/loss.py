"""The training loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TrainingLoss"]


class TrainingLoss(nn.Module):
    """Cross-entropy, with label smoothing while training only: the validation loss stays comparable.

    Logits [N, C] and classes int64 [N] to a scalar, or to [N] where ``reduction`` is ``none``. Has what fastai asks of
    a loss: ``reduction``, ``y_int`` (for MixUp), ``activation``, ``decodes``.
    """

    y_int = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.reduction = "mean"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        logits, target = logits.as_subclass(Tensor).float(), target.as_subclass(Tensor)
        return functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction=self.reduction)

    def activation(self, x: Tensor) -> Tensor:
        """Softmax over classes."""
        return functional.softmax(x, dim=-1)

    def decodes(self, x: Tensor) -> Tensor:
        """Most probable class."""
        return x.argmax(dim=-1)

"""Number formats while training: fp16 on CUDA, bf16 on CPUs that compute in it, else fp32."""

from __future__ import annotations

from typing import Any, Literal

import torch

from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.callback.core import Callback  # noqa: E402
from fastai.callback.fp16 import AMPMode, MixedPrecision  # noqa: E402

__all__ = ["choose_precision", "precision_callback"]

Precision = Literal["fp32", "bf16", "fp16"]


def choose_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> Precision:
    """Resolve ``auto`` for a device; a wish that the device cannot fulfil raises.

    Raises
    ------
    ValueError
        fp16 on a CPU: it has no loss scaling there and is slower than fp32.
    """
    if wanted == "auto":
        if device.type == "cuda":
            return "fp16"
        return "bf16" if device.type == "cpu" and _cpu_computes_bf16() else "fp32"
    if wanted == "fp16" and device.type != "cuda":
        raise ValueError("fp16 training needs a CUDA device; use bf16, fp32 or auto on a CPU")
    return wanted


def precision_callback(precision: Precision, device: torch.device) -> Any | None:
    """Return the fastai callback that trains in ``precision``, or None for fp32."""
    if precision == "fp32":
        return None
    if device.type == "cuda":
        return MixedPrecision(AMPMode.FP16 if precision == "fp16" else AMPMode.BF16)
    return _CpuBfloat16()


class _CpuBfloat16(Callback):  # type: ignore[misc] # fastai is untyped
    """bf16 autocast on the CPU (fastai's MixedPrecision asks for CUDA). No loss scaling: bf16 has fp32's range."""

    order = 10

    def before_batch(self) -> None:
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        self.autocast.__enter__()  # type: ignore[no-untyped-call]

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.autocast.__exit__(None, None, None)


def _cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware; emulated bf16 is slower than fp32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)

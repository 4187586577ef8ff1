"""Rounding weights to int8, and what the rounding costs on average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["corrected_bias", "quantize_weight", "rounded"]

Floats = NDArray[np.float32]


def quantize_weight(weight: Floats, per_channel: bool = True, levels: int = 127) -> tuple[NDArray[np.int8], Floats]:
    """Quantize symmetrically.

    Parameters
    ----------
    weight
        float32 [O, ...].
    per_channel
        One scale for each of the O channels, else one.
    levels
        Largest integer used: 127, or 63 where products are added in 16 bits (no VNNI).

    Returns
    -------
    integers
        int8, the weight's shape.
    scale
        float32 [O] (all equal where not ``per_channel``); weight = integers * scale.
    """
    flat = np.abs(weight.reshape(len(weight), -1)).max(1)
    largest = flat if per_channel else np.full_like(flat, flat.max())
    scale = (np.maximum(largest, np.finfo(np.float32).tiny * levels) / levels).astype(np.float32)
    shaped = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / shaped), -levels, levels).astype(np.int8), scale


def rounded(weight: Floats, per_channel: bool = True, levels: int = 127) -> Floats:
    """Return the weight as it is after quantization, float32."""
    integers, scale = quantize_weight(weight, per_channel, levels)
    result: Floats = integers.astype(np.float32) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return result


def corrected_bias(weight: Floats, bias: Floats, mean_input: Floats, per_channel: bool, levels: int) -> Floats:
    """Move the mean error of the rounded weights into the bias (Nagel et al. 2019, section 4.2).

    Parameters
    ----------
    weight
        float32 [O, I / groups, kh, kw] or [O, I].
    bias
        float32 [O].
    mean_input
        float32 [I]: mean of each input channel over the calibration set.

    Returns
    -------
    NDArray
        float32 [O]. Padding is not taken into account: at the border the input is smaller than its mean.
    """
    error = (weight - rounded(weight, per_channel, levels)).reshape(len(weight), weight.shape[1], -1).sum(2)
    groups = len(mean_input) // weight.shape[1]
    by_group = mean_input.reshape(groups, -1).repeat(len(weight) // groups, axis=0)
    result: Floats = (bias + (error * by_group).sum(1)).astype(np.float32)
    return result

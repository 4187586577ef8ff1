"""What decides a quantized artifact: one small, closed record a format, kept in ``RUN/quantization.toml``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from export.quantization.layers import LayerKind

__all__ = ["NAIVE", "PLAIN", "CalibrationMethod", "QuantizationSettings", "describe"]

CalibrationMethod = Literal["minmax", "percentile", "entropy", "histogram"]


class QuantizationSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How int8 is made. Weights are int8 and symmetric in every layer, whatever is left in float.

    ``float`` below means: the layer's arithmetic and its activations stay in float32; its weights are still stored as
    int8 with one scale a channel and expanded when the model is opened or run.
    """

    rung: str
    """Name of the rung of the ladder."""
    activations: Literal["int8", "float"]
    """``float``: weights alone are quantized (smaller, not faster)."""
    per_channel: bool
    """One weight scale for each output channel (else one for the tensor)."""
    calibration: CalibrationMethod
    """How the range of an activation is found from the calibration radiographs."""
    percentile: Annotated[float, Meta(gt=90, le=100)]
    """Share of an activation's values inside its range, for ``percentile``, in percent."""
    bias_correction: Literal["none", "weights", "fast", "full"]
    """``weights``: the mean error of rounded weights goes into the bias (Nagel et al. 2019); ``fast`` and ``full`` are
    NNCF's."""
    preset: Literal["asymmetric", "symmetric"]
    """Activations with a zero point, or without (NNCF calls them MIXED and PERFORMANCE)."""
    activation_functions: bool
    """Also compute swish and element-wise products and sums in int8."""
    float_kinds: tuple[LayerKind, ...]
    """Kinds of layers left in float."""
    float_layers: tuple[str, ...]
    """Layers left in float, by name, such as ``body.stage1.unit1.dw_conv.conv``."""
    refined_layers: tuple[str, ...]
    """Of the layers in float, those whose weights are stored in two int8 parts: the rounded weight and the rounded
    rest. Where a layer is small and sensitive, twice its few bytes cost less than its error."""
    fine_tuning_epochs: Annotated[int, Meta(ge=0, le=1000)]
    """Epochs of quantization-aware fine-tuning before."""


PLAIN = QuantizationSettings(
    rung="plain",
    activations="int8",
    per_channel=True,
    calibration="minmax",
    percentile=99.99,
    bias_correction="none",
    preset="asymmetric",
    activation_functions=False,
    float_kinds=(),
    float_layers=(),
    refined_layers=(),
    fine_tuning_epochs=0,
)
"""Per-channel symmetric weights, asymmetric activations, ranges from minimum and maximum: the ladder's foot."""

NAIVE = msgspec.structs.replace(PLAIN, rung="naive", per_channel=False, activation_functions=True)
"""One scale for each tensor, everything in int8: what a gate must fail."""


def describe(settings: QuantizationSettings) -> str:
    """Say the settings in one line."""
    s = settings
    if s.activations == "float":
        parts = ["int8 weights, float activations"]
    else:
        ranges = f"{s.calibration} {s.percentile:g} %" if s.calibration == "percentile" else s.calibration
        parts = [f"int8 weights and activations, {ranges} ranges, {s.preset}"]
    parts.append("a scale a channel" if s.per_channel else "a scale a tensor")
    if s.bias_correction != "none":
        parts.append(f"bias correction {s.bias_correction}")
    if s.activation_functions:
        parts.append("activation functions in int8")
    if s.float_kinds:
        parts.append("float: " + ", ".join(kind.replace("_", " ") for kind in s.float_kinds))
    if s.float_layers:
        parts.append(f"{len(s.float_layers)} sensitive layers in float")
    if s.refined_layers:
        parts.append(f"weights of {len(s.refined_layers)} layers in two int8 parts")
    if s.fine_tuning_epochs:
        parts.append(f"{s.fine_tuning_epochs} epochs of quantization-aware fine-tuning")
    return "; ".join(parts)

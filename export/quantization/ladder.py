"""The rungs of the ladder, format by format, from cheap to dear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from edge_runtime.manifest import Format
from export.quantization.layers import Layer, LayerKind
from export.quantization.sensitivity import LayerNoise
from export.quantization.settings import PLAIN, CalibrationMethod, QuantizationSettings

__all__ = ["FINE_TUNING_EPOCHS", "QUANTIZED_FORMATS", "SEARCHED_FORMATS", "fine_tuned", "rungs"]

QUANTIZED_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "torchscript", "lite")
SEARCHED_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "lite")
"""Of these the ladder is climbed by default: TorchScript is the lite interpreter's graph in another container."""
FINE_TUNING_EPOCHS = 2

_REVERSED = (10, 20, 40)
_REFINED_SHARE = 0.02
"""Layers in two parts may hold this share of all weights."""


def rungs(
    format_: Format, layers: Sequence[Layer], activations: Sequence[LayerNoise], weights: Sequence[LayerNoise]
) -> Iterator[QuantizationSettings]:
    """Yield the settings to try, in order; quantization-aware fine-tuning is not among them.

    Parameters
    ----------
    format_
        The tools differ in the ranges and corrections they have.
    layers
        The graph's layers.
    activations, weights
        Layers by the noise that int8 activations, and int8 weights, bring to the logits, worst first.
    """
    body = [noise.layer for noise in activations if noise.layer.startswith("body.")]
    refined = _refined(layers, weights)
    ranges: CalibrationMethod = "histogram" if format_ in ("torchscript", "lite") else "percentile"
    if format_ == "openvino":  # NNCF corrects biases by itself
        base = replace(PLAIN, bias_correction="fast", activation_functions=True)
        corrected = replace(base, rung="full bias correction", calibration=ranges, bias_correction="full")
    else:
        base = PLAIN
        corrected = replace(base, rung="bias correction", calibration=ranges, bias_correction="weights")
    yield base
    yield replace(base, rung=f"{ranges} ranges", calibration=ranges)
    yield corrected
    parts: tuple[LayerKind, ...] = ("stem", "gate")
    calm = replace(corrected, rung="float stem, squeeze-excite, head", float_kinds=parts, refined_layers=refined)
    yield replace(calm, rung=f"{calm.rung}, activation functions in int8", activation_functions=True)
    calm = replace(calm, activation_functions=False)
    yield calm
    if any(layer.kind == "depthwise" for layer in layers):
        yield replace(calm, rung="pointwise convolutions alone", float_kinds=(*parts, "depthwise"))
    for count in _REVERSED:
        if count < len(body):
            yield replace(calm, rung=f"{count} worst layers in float", float_layers=tuple(body[:count]))
    alone = replace(PLAIN, rung="weights alone", activations="float")
    yield alone
    if refined:
        yield replace(alone, rung="weights alone, worst layers in two parts", refined_layers=refined)


def fine_tuned(settings: QuantizationSettings) -> QuantizationSettings:
    """Return the same settings on fine-tuned weights: the ladder's top."""
    return replace(
        settings, rung=f"fine-tuned, {settings.rung}", fine_tuning_epochs=FINE_TUNING_EPOCHS, bias_correction="none"
    )


def _refined(layers: Sequence[Layer], weights: Sequence[LayerNoise]) -> tuple[str, ...]:
    """The worst layers by weight noise that fit into the share, small ones that come later too."""
    sizes = {layer.name: layer.weight.size for layer in layers}
    left = _REFINED_SHARE * sum(sizes.values())
    chosen = []
    for noise in weights[: len(weights) // 2]:
        if sizes[noise.layer] <= left:
            chosen.append(noise.layer)
            left -= sizes[noise.layer]
    return tuple(chosen)

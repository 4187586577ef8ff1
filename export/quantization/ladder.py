"""The rungs of the ladder, format by format, from cheap to dear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from edge_runtime.manifest import Format
from export.quantization.layers import Layer, LayerKind
from export.quantization.sensitivity import LayerNoise
from export.quantization.settings import PLAIN, CalibrationMethod, QuantizationSettings

__all__ = ["FINE_TUNING_EPOCHS", "QUANTIZED_FORMATS", "SEARCHED_FORMATS", "TUNED", "controlled", "fine_tuned", "rungs"]

QUANTIZED_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "torchscript", "lite")
SEARCHED_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "lite")
"""Of these the ladder is climbed by default: TorchScript is the lite interpreter's graph in another container."""
FINE_TUNING_EPOCHS = 4
TUNED = "fine-tuned, "
"""How the name of a rung on fine-tuned weights begins."""

_REVERSED = (10, 20, 40)
_REFINED_SHARE = 0.02
"""Layers in two parts may hold this share of all weights."""
_FLOAT_SHARES = (0.05, 0.1, 0.2, 0.4)
"""Shares of the arithmetic that the rungs between "everything" and "weights alone" leave in float."""


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
    if format_ == "onnx":  # the one tool that has it: NNCF offers quantiles, torch a histogram by mean square error
        yield replace(base, rung="entropy ranges", calibration="entropy")
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
    # For speed: most of the arithmetic in int8, and float where it removes most noise for its cost. ONNX Runtime gains
    # by int8 only where activation functions are in int8 too; the others fuse them into the convolution.
    quick = replace(corrected, activation_functions=format_ == "onnx", refined_layers=refined)
    before: tuple[str, ...] = ()
    for share in _FLOAT_SHARES:
        names = _worth_float(layers, activations, weights, refined, share)
        if names and names != before:
            yield replace(quick, rung=f"noisiest {100 * share:g} % of the arithmetic in float", float_layers=names)
        before = names
    alone = replace(PLAIN, rung="weights alone", activations="float")
    yield alone
    if refined:
        yield replace(alone, rung="weights alone, worst layers in two parts", refined_layers=refined)


def fine_tuned(settings: QuantizationSettings, epochs: int = FINE_TUNING_EPOCHS) -> QuantizationSettings:
    """Return the same settings on fine-tuned weights: the ladder's top."""
    return replace(settings, rung=TUNED + settings.rung.removeprefix(TUNED), fine_tuning_epochs=epochs)


def controlled(
    format_: Format, layers: Sequence[Layer], activations: Sequence[LayerNoise], weights: Sequence[LayerNoise]
) -> QuantizationSettings:
    """Return where accuracy control starts: the stem, squeeze-excite, and the layers in two parts in float."""
    refined = _refined(layers, weights)
    calm = next(s for s in rungs(format_, layers, activations, weights) if s.float_kinds)
    return replace(calm, rung="accuracy control", activation_functions=False, float_layers=refined)


def _worth_float(
    layers: Sequence[Layer],
    activations: Sequence[LayerNoise],
    weights: Sequence[LayerNoise],
    refined: tuple[str, ...],
    share: float,
) -> tuple[str, ...]:
    """Layers whose int8 noise is largest for what they cost, until ``share`` of the multiply-adds is in float.

    In float a layer loses the noise of its activations, and where its weights are in two parts that of its weights too.
    Noise of different layers adds up as variances do.
    """
    noise = {one.layer: one.logit_noise**2 for one in activations}
    for one in weights:
        if one.layer in refined:
            noise[one.layer] = noise.get(one.layer, 0.0) + one.logit_noise**2
    body = [layer for layer in layers if layer.kind != "head"]  # the head is in float anyway
    left = share * sum(layer.multiply_adds for layer in body)
    chosen = []
    for layer in sorted(body, key=lambda one: -noise.get(one.name, 0.0) / max(one.multiply_adds, 1)):
        if layer.multiply_adds <= left and noise.get(layer.name, 0.0) > 0:
            chosen.append(layer.name)
            left -= layer.multiply_adds
    return tuple(sorted(chosen))


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

"""int8 TorchScript and lite interpreter files through torch's FX graph mode, for the qnnpack engine of phones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from export.errors import ExportError
from export.formats import lite, torchscript
from export.graph import DeployableGraph
from export.quantization.layers import Layer, float_names
from export.quantization.settings import QuantizationSettings
from export.quantization.weights import corrected_bias, quantize_weight

__all__ = ["Int8Convolution", "Int8Linear", "TorchQuantizer", "without_batch_norm"]

Images = Sequence[NDArray[np.uint8]]
_LEVELS = 127


class _Int8Weight(nn.Module):
    """A float layer's weight kept as int8 and one scale a channel (in two parts where ``refined``), expanded when
    used."""

    integers: Tensor
    scale: Tensor
    rest_integers: Tensor
    rest_scale: Tensor

    def __init__(self, weight: Tensor, *, per_channel: bool, refined: bool) -> None:
        super().__init__()
        rest = weight.detach().numpy()
        self.parts = 2 if refined else 1
        for prefix in ("", "rest_")[: self.parts]:
            integers, scale = quantize_weight(rest, per_channel)
            shaped = scale.reshape(-1, *[1] * (weight.ndim - 1))
            rest = rest - integers.astype(np.float32) * shaped
            self.register_buffer(f"{prefix}integers", torch.from_numpy(integers))
            self.register_buffer(f"{prefix}scale", torch.from_numpy(shaped.copy()))

    @property
    def weight(self) -> Tensor:
        """Float32, the layer's shape."""
        expanded = self.integers.float() * self.scale
        return expanded if self.parts == 1 else expanded + self.rest_integers.float() * self.rest_scale


class Int8Convolution(_Int8Weight):
    """A convolution with int8 weights and float arithmetic."""

    def __init__(self, convolution: nn.Conv2d, *, per_channel: bool = True, refined: bool = False) -> None:
        super().__init__(convolution.weight, per_channel=per_channel, refined=refined)
        self.bias = convolution.bias
        self.stride, self.padding = convolution.stride, convolution.padding
        self.dilation, self.groups = convolution.dilation, convolution.groups

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, I, H, W] to float [N, O, h, w]."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Int8Linear(_Int8Weight):
    """A linear layer with int8 weights and float arithmetic; the heat map reads the same weight."""

    def __init__(self, linear: nn.Linear, *, per_channel: bool = True, refined: bool = False) -> None:
        super().__init__(linear.weight, per_channel=per_channel, refined=refined)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, I] to float [N, O]."""
        return functional.linear(x, self.weight, self.bias)


class TorchQuantizer:
    """Quantizes the deployable graph for torch's own formats, as often as the ladder asks.

    Parameters
    ----------
    graph
        The eager model; not changed.
    layers
        Its layers.
    images
        Calibration radiographs, uint8 [H, W].
    mean_inputs
        Layer name -> mean of its input channels, for the bias correction.
    """

    def __init__(
        self,
        graph: DeployableGraph,
        layers: tuple[Layer, ...],
        images: Images,
        mean_inputs: dict[str, NDArray[np.float32]],
    ) -> None:
        self.graph, self.layers, self.images, self.mean_inputs = graph, layers, images, mean_inputs

    def write(self, path: Path, settings: QuantizationSettings) -> None:
        """Quantize by ``settings`` and write ``path``: ``.pt`` TorchScript, ``.ptl`` lite interpreter."""
        quantized = self.quantize(settings)
        if path.suffix == ".ptl":
            lite.write(quantized, path, freeze=False)
        else:
            torchscript.write(quantized, path, freeze=False)

    @torch.no_grad()
    def quantize(self, settings: QuantizationSettings) -> DeployableGraph:
        """Return a quantized copy of the graph.

        Raises
        ------
        ExportError
            The network cannot be traced by torch.fx (the message has its reason), or the settings ask for what torch
            has not.
        """
        quantized = copy.deepcopy(self.graph)
        keep = float_names(self.layers, settings.float_kinds, settings.float_layers)
        body = without_batch_norm(quantized.body)
        if settings.bias_correction == "weights":
            self._correct_biases(body, settings)
        if settings.activations == "int8":
            body = self._quantize_body(body, settings, keep)
        quantized.body = body
        for layer in self.layers:
            if settings.activations == "int8" and layer.name not in keep:
                continue
            name = layer.name
            while isinstance(quantized.get_submodule(name), nn.Sequential):
                name += ".0"  # torch.fx put the activation function behind it into one module with it
            module = quantized.get_submodule(name)
            refined = layer.name in settings.refined_layers
            replaced: nn.Module
            if isinstance(module, nn.Conv2d):
                replaced = Int8Convolution(module, per_channel=settings.per_channel, refined=refined)
            elif isinstance(module, nn.Linear):
                replaced = Int8Linear(module, per_channel=settings.per_channel, refined=refined)
            else:
                raise _unknown_layer(layer.name, module)
            parent, _, own = name.rpartition(".")
            setattr(quantized.get_submodule(parent), own, replaced)
        return quantized

    def _quantize_body(self, body: nn.Module, settings: QuantizationSettings, keep: frozenset[str]) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated; TorchScript has no other
            from torch.ao.quantization import QConfigMapping
            from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

            mapping = QConfigMapping().set_global(_qconfig(settings))
            for name in keep:
                if name.startswith("body."):
                    mapping = mapping.set_module_name(name.removeprefix("body."), None)
            if not settings.activation_functions:
                for function in (torch.sigmoid, torch.mul, torch.add, *_OPERATORS):
                    mapping = mapping.set_object_type(function, None)
                mapping = mapping.set_object_type(nn.Sigmoid, None).set_object_type(nn.ReLU, None)
            engine = torch.backends.quantized.engine
            torch.backends.quantized.engine = "qnnpack"
            try:
                size = self.graph.size
                prepared = prepare_fx(body, mapping, (torch.zeros(1, 3, size, size),))
                for image in self.images:
                    pixels = torch.from_numpy(np.array(image))[None, None].float()
                    prepared(self.graph.normalization(pixels))
                converted: nn.Module = convert_fx(prepared)
            finally:
                torch.backends.quantized.engine = engine
        return converted

    def _correct_biases(self, body: nn.Module, settings: QuantizationSettings) -> None:
        for name, mean in self.mean_inputs.items():
            if not name.startswith("body.") or name in settings.refined_layers:
                continue
            module = body.get_submodule(name.removeprefix("body."))
            if not isinstance(module, nn.Conv2d | nn.Linear):
                raise _unknown_layer(name, module)
            bias = np.zeros(len(module.weight), np.float32) if module.bias is None else module.bias.numpy()
            changed = corrected_bias(module.weight.numpy(), bias, mean, settings.per_channel, _LEVELS)
            module.bias = nn.Parameter(torch.from_numpy(changed), requires_grad=False)


def _unknown_layer(name: str, module: nn.Module) -> ExportError:
    return ExportError(
        "a layer of the network has no int8 form in torch's formats",
        got=f"{name}, {type(module).__name__}",
        expected="Conv2d or Linear",
        remedy="build without int8 for torchscript and lite",
    )


def _operators() -> tuple[Any, ...]:
    import operator

    return (operator.mul, operator.add)


_OPERATORS = _operators()


def _qconfig(settings: QuantizationSettings) -> Any:
    from torch.ao.quantization import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver, QConfig

    observers: dict[str, Any] = {"minmax": MinMaxObserver, "histogram": HistogramObserver}
    if settings.calibration not in observers:
        raise ExportError("torch has no such calibration", got=settings.calibration, expected=", ".join(observers))
    scheme = torch.per_tensor_affine if settings.preset == "asymmetric" else torch.per_tensor_symmetric
    weight: Any = PerChannelMinMaxObserver if settings.per_channel else MinMaxObserver
    weight_scheme = torch.per_channel_symmetric if settings.per_channel else torch.per_tensor_symmetric
    return QConfig(  # type: ignore[no-untyped-call]
        activation=observers[settings.calibration].with_args(dtype=torch.quint8, qscheme=scheme, reduce_range=False),
        weight=weight.with_args(dtype=torch.qint8, qscheme=weight_scheme, quant_min=-_LEVELS, quant_max=_LEVELS),
    )


def without_batch_norm(body: nn.Module) -> nn.Module:
    """A copy as a torch.fx graph, batch norm folded into the convolutions before it; names of modules stay."""
    from torch.fx.experimental.optimization import fuse

    try:
        fused: nn.Module = fuse(body, inplace=False)
    except Exception as error:  # torch.fx raises types of its own and plain ones
        raise ExportError(
            "the network cannot be traced for int8 in torch's formats",
            got=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}",
            expected="a network without control flow that depends on values",
            remedy="build without int8 for torchscript and lite",
        ) from error
    return fused.eval()

"""The tensors inside a TorchScript or lite interpreter file, beside the eager model's layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.errors import ExportError
from export.graph import DeployableGraph
from export.layers import Quantizer, Tensors, TracedPair
from export.quantization.layers import find_layers, match_weights
from export.quantization.torch_int8 import without_batch_norm

__all__ = ["trace_torch"]

_LAYERS = ("aten::_convolution", "aten::conv2d", "aten::linear", "quantized::conv2d", "quantized::conv2d_relu",
           "quantized::linear", "quantized::linear_relu")  # fmt: skip
_LEVELS = 255


def trace_torch(graph: DeployableGraph, path: Path) -> TracedPair:
    """Open a ``.pt`` or ``.ptl`` file with every layer's output as an output, beside the eager model.

    The file's own graph runs: a lite interpreter file holds the same graph as code that TorchScript reads. A layer's
    name is the path of the module that its weight belongs to; in a frozen file, which has no modules, it is found by
    the weight. The eager model's batch norms are folded into their convolutions, as they are in the file, and what the
    file computes in one operator with its ReLU is compared behind the ReLU.

    Parameters
    ----------
    graph
        The eager model that the file was made from.
    path
        The file.

    Raises
    ------
    ExportError
        TorchScript cannot read the file, or the eager model cannot be traced for folding.
    """
    with _engine():
        try:
            module: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ExportError(f"TorchScript cannot read {path.name}", got=str(error).strip()[:300]) from error
    inside = module.graph.copy()
    torch._C._jit_pass_inline(inside)  # the one way to see into submodules that torch.jit has
    layers = find_layers(graph)
    nodes = [node for node in inside.nodes() if node.kind() in _LAYERS]
    constant = {
        str(number): weight for number, node in enumerate(nodes) if (weight := _constant_weight(node)) is not None
    }
    by_weight = match_weights(layers, constant)
    known = {layer.name for layer in layers}
    found: dict[str, Any] = {}
    for number, node in enumerate(nodes):
        name = by_weight.get(str(number)) or _layer_of(_module_path(node), known)
        if name is not None and name not in found:
            found[name] = node
    inside.eraseOutput(0)
    values = _copied(inside, list(found.values()))
    together = inside.create("prim::TupleConstruct", values, 1)
    together.output().setType(torch._C.TupleType([value.type() for value in values]))
    inside.appendNode(together)
    inside.registerOutput(together.output())
    run_inside = torch._C._create_function_from_graph("traced", inside)
    reference = _Reference(graph, {name: node.kind().endswith("_relu") for name, node in found.items()})

    @torch.no_grad()
    def run(image: NDArray[np.uint8]) -> tuple[Tensors, Tensors]:
        pixels = torch.from_numpy(np.array(image))[None, None]
        with _engine():
            outputs = run_inside(module._c, pixels)
        seen = {name: _plain(value) for name, value in zip(found, outputs, strict=True)}
        return reference.run(pixels), seen

    return TracedPair(
        tuple((name, node.kind().partition("::")[2]) for name, node in found.items()),
        tuple(_quantizers(found)), {}, run, len(nodes) - len(found),
    )  # fmt: skip


def _copied(inside: Any, nodes: list[Any]) -> list[Any]:
    """Copy each node's output where it is made: an activation function behind it may overwrite it in place."""
    nothing = inside.create("prim::Constant", [], 1)
    nothing.output().setType(torch._C.NoneType.get())
    nothing.insertBefore(next(inside.nodes()))
    values = []
    for node in nodes:
        clone = inside.create("aten::clone", [node.output(), nothing.output()], 1)
        clone.insertAfter(node)
        values.append(clone.output())
    return values


class _Reference:
    """The eager model with its batch norms folded; gives the outputs of the layers that are asked for."""

    def __init__(self, graph: DeployableGraph, behind_relu: dict[str, bool]) -> None:
        self._graph = copy.deepcopy(graph)
        self._graph.body = without_batch_norm(self._graph.body)
        self._values: Tensors = {}
        for name, relu in behind_relu.items():
            self._graph.get_submodule(name).register_forward_hook(self._keep(name, relu))

    def run(self, pixels: Tensor) -> Tensors:
        self._values = {}
        self._graph(pixels)
        return self._values

    def _keep(self, name: str, relu: bool) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._values.setdefault(name, (output.relu() if relu else output).numpy().copy())

        return hook


def _quantizers(found: dict[str, Any]) -> Iterator[Quantizer]:
    """Layers whose output is 8-bit: the last two inputs of the operator are its scale and its zero."""
    for name, node in found.items():
        if node.kind().startswith("quantized::"):
            scale, zero = (value.toIValue() for value in list(node.inputs())[-2:])
            if isinstance(scale, float) and isinstance(zero, int):
                yield Quantizer(name, -zero * scale, (_LEVELS - zero) * scale, max(scale, 1e-30))


def _constant_weight(node: Any) -> NDArray[np.float32] | None:
    value = list(node.inputs())[1].toIValue()
    return value.detach().numpy() if isinstance(value, Tensor) and value.dtype == torch.float32 else None


def _module_path(node: Any) -> str:
    """Path of the module whose attribute the node's weight is made of, such as ``body.stage1.unit1.conv``."""
    waiting = [list(node.inputs())[1].node()]
    while waiting:
        source = waiting.pop()
        if source.kind() == "prim::GetAttr":
            names = []
            owner = next(source.inputs()).node()
            while owner.kind() == "prim::GetAttr":
                names.append(owner.s("name"))
                owner = next(owner.inputs()).node()
            return ".".join(reversed(names))
        waiting += [value.node() for value in source.inputs()]
    return ""


def _layer_of(path: str, known: set[str]) -> str | None:
    """torch.fx puts a convolution and its activation function into one module: the layer's name, and ``.0``."""
    while path.endswith(".0") and path not in known:
        path = path.removesuffix(".0")
    return path if path in known else None


def _plain(value: Tensor) -> NDArray[Any]:
    result: NDArray[Any] = (value.dequantize() if value.is_quantized else value).numpy().copy()
    return result


@contextmanager
def _engine() -> Iterator[None]:
    """The integers of these files are computed as phones do it."""
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; these formats are it
        torch.backends.quantized.engine = "qnnpack"
        try:
            yield
        finally:
            torch.backends.quantized.engine = before

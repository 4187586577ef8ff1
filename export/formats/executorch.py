"""ExecuTorch ``.pte``, lowered to XNNPACK: what new apps take now that PyTorch Mobile is retired.

ExecuTorch wants an environment of its own (``constraints-executorch.txt``), so the format is written only where
it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.backends.executorch import LARGEST_EDGE
from export.errors import ExportError
from export.formats.answering import Shapes, check_answers
from export.graph import DeployableGraph, output_shapes
from export.quiet import quiet

__all__ = ["INT8_SETTINGS", "check_file", "quantize", "write"]

INT8_SETTINGS = (
    "torchao PT2E with ExecuTorch's XNNPACKQuantizer: int8 weights per channel, int8 activations per tensor, the body "
    "alone; preprocessing, head and heat map in float"
)
_LEFT_OUT = ("AddmmConfig", "BMMConfig", "LinearConfig", "MMConfig", "PermuteConfig")
"""Kept from XNNPACK: the head's layers. Each weight is read twice there, forward and for the heat map, and the
partitioner (ExecuTorch 1.5.1) then makes a cycle of the two. They are a thousandth of the work.
"""
_TRACE_SIZE = (250, 190)
_SMALLEST_EDGE = 2


def write(graph: DeployableGraph, path: Path) -> None:
    """Write ``graph`` to ``path``, dynamic in H and W up to ``LARGEST_EDGE`` pixels each.

    Raises
    ------
    ExportError
        The file answers otherwise than the graph.
    """
    with quiet(stdout=False):
        path.write_bytes(_lower(_Plain(graph)))
    check_file(path, output_shapes(graph))


def quantize(graph: DeployableGraph, path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Write ``graph`` to ``path`` with an int8 body, calibrated on radiographs, uint8 [H, W] of any sizes."""
    with quiet(stdout=False):
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_filter_function(_outside([name for name, _ in graph.named_children() if name != "body"]))
        prepared = prepare_pt2e(_export(_Plain(graph)).module(), quantizer)
        for image in images:
            prepared(torch.from_numpy(np.ascontiguousarray(image).copy())[None, None])
        path.write_bytes(_lower(convert_pt2e(prepared)))
    check_file(path, output_shapes(graph))


def check_file(path: Path, shapes: Shapes | None = None) -> None:
    """Open the written file as a device does, and check what it answers.

    The file holds no names: its outputs come in the order of every format, and that order is what
    :func:`export.formats.answering.check_answers` checks.

    Raises
    ------
    ExportError
        It is no ExecuTorch program, or answers otherwise than the graph.
    """
    with quiet(stdout=False):
        import executorch.kernels.quantized  # noqa: F401 - registers the kernels of int8 outside XNNPACK
        from executorch.runtime import Runtime, Verification

        try:
            program = Runtime.get().load_program(path.read_bytes(), verification=Verification.InternalConsistency)
            method = program.load_method("forward")
        except RuntimeError as error:
            raise ExportError(
                f"{path.name} is not an ExecuTorch program", got=(str(error).strip().splitlines() or [""])[0][:300]
            ) from error
        if method is None:
            raise ExportError(
                f"{path.name} has no method to run", got=", ".join(sorted(program.method_names)), expected="forward"
            )
        check_answers(lambda image: tuple(method.execute([image])), path.name, shapes)


def _outside(parts: Sequence[str]) -> Callable[[Any], bool]:
    """Tell nodes of some parts of the graph from the others.

    Asked the other way round, for the body's alone, no convolution would be taken: a weight belongs to no module.
    """

    def outside(node: Any) -> bool:
        paths = [
            str(name).removeprefix("L['self'].") + "." for name, _ in node.meta.get("nn_module_stack", {}).values()
        ]
        return not any(path.startswith(f"deployable.{part}.") for path in paths for part in parts)

    return outside


class _Plain(nn.Module):
    """The graph with a plain tuple of outputs: a named one cannot be written into the file."""

    def __init__(self, graph: DeployableGraph) -> None:
        super().__init__()
        self.deployable = graph

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.deployable(image))


def _export(module: nn.Module) -> Any:
    image = torch.zeros(1, 1, *_TRACE_SIZE, dtype=torch.uint8)
    height, width = (torch.export.Dim(name, min=_SMALLEST_EDGE, max=LARGEST_EDGE) for name in ("H", "W"))
    with torch.no_grad():
        return torch.export.export(module, (image,), dynamic_shapes=({2: height, 3: width},), strict=False)


def _lower(module: nn.Module) -> bytes:
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    configs = [config for config in ALL_PARTITIONER_CONFIGS if config.__name__ not in _LEFT_OUT]
    edge = to_edge_transform_and_lower(
        _export(module),
        partitioner=[XnnpackPartitioner(configs=configs)],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),  # the antialiased resize is no core operator
    )
    return bytes(edge.to_executorch().buffer)

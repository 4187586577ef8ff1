"""OpenVINO IR (``.xml`` and ``.bin``), converted from the torch module itself.

Not from the ONNX file: OpenVINO's ONNX reader resizes otherwise than the antialiased bilinear of the graph.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from export.errors import ExportError
from export.graph import INPUT_NAME, OUTPUT_NAMES, DeployableGraph
from export.telemetry import decline_telemetry

__all__ = ["check_file", "convert", "save", "write"]

_TRACE_SIZE = (250, 190)
_NUMBERED = re.compile(r"[A-Za-z]\w*_\d+")


def write(graph: DeployableGraph, path: Path) -> None:
    """Write ``graph`` to ``path`` (``.xml``; the weights go beside it as ``.bin``) with float32 weights."""
    save(convert(graph), path)


def convert(graph: DeployableGraph) -> Any:
    """Convert to an ``openvino.Model``: input and outputs named as everywhere, dynamic in H and W.

    Raises
    ------
    ExportError
        An operator has no OpenVINO counterpart.
    """
    decline_telemetry()
    import openvino

    image = torch.zeros(1, 1, *_TRACE_SIZE, dtype=torch.uint8)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(
                graph, example_input=(image,), input=[(INPUT_NAME, [1, 1, -1, -1], openvino.Type.u8)]
            )
    except Exception as error:  # the converter raises types of its own that are not public
        raise ExportError(
            "the graph cannot be converted to OpenVINO",
            got=(str(error).strip().splitlines() or [type(error).__name__])[0][:500],
            remedy="leave out the format openvino",
        ) from error
    model.inputs[0].get_tensor().set_names({INPUT_NAME})
    for port, name in zip(model.outputs, OUTPUT_NAMES, strict=True):
        port.get_tensor().set_names({name})
    return model


def save(model: Any, path: Path, *, half: bool = False) -> None:
    """Save, with float16 weights only where ``half`` asks for it (the tool's default), then check the file."""
    decline_telemetry()
    import openvino

    _name_in_order(model)
    openvino.save_model(model, str(path), compress_to_fp16=half)
    check_file(path)


def _name_in_order(model: Any) -> None:
    """Number the nodes that OpenVINO named after a counter of the process, so that equal models give equal files."""
    model.set_friendly_name("deployable_graph")
    for number, operation in enumerate(model.get_ordered_ops()):
        if _NUMBERED.fullmatch(operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_n{number}")


def check_file(path: Path) -> None:
    """Check the written file's input and outputs: names, element types, shapes.

    Raises
    ------
    ExportError
        They are not those of the graph.
    """
    decline_telemetry()
    import openvino

    model = openvino.Core().read_model(str(path))
    found = [
        (sorted(p.names), p.element_type.to_string(), str(p.partial_shape)) for p in (*model.inputs, *model.outputs)
    ]
    expected = [([INPUT_NAME], "u8"), *(([name], "f32") for name in OUTPUT_NAMES)]
    fixed = all(port.partial_shape.is_static for port in model.outputs)
    if [f[:2] for f in found] != expected or not fixed or found[0][2] != "[1,1,?,?]":
        raise ExportError(
            f"{path.name} has other inputs or outputs than the graph",
            got=str(found),
            expected=f"{expected}, input [1,1,?,?], outputs of fixed shape",
        )

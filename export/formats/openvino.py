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
from export.formats.answering import Shapes
from export.formats.unsupported import modules_of, tracing, unsupported
from export.graph import INPUT_NAME, OUTPUT_NAMES, DeployableGraph, output_shapes
from export.telemetry import decline_telemetry

__all__ = ["check_file", "convert", "save", "write"]

_TRACE_SIZE = (250, 190)
_NO_RULE = re.compile(r"No conversion rule found for operations: (.*)")
_KIND = re.compile(r"[\w.]+::[\w.]+")
_NUMBERED = re.compile(r"[A-Za-z]\w*_\d+")


def write(graph: DeployableGraph, path: Path) -> None:
    """Write ``graph`` to ``path`` (``.xml``; the weights go beside it as ``.bin``) with float32 weights."""
    save(convert(graph), path)
    check_file(path, output_shapes(graph))


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
        raise _explained(error, graph, image) from error
    model.inputs[0].get_tensor().set_names({INPUT_NAME})
    for port, name in zip(model.outputs, OUTPUT_NAMES, strict=True):
        port.get_tensor().set_names({name})
    return model


def save(model: Any, path: Path, *, half: bool = False) -> None:
    """Save, with float16 weights only where ``half`` asks for it (the tool's default), then check the file.

    Raises
    ------
    ExportError
        The file cannot be written, or is not what the runtimes expect.
    """
    decline_telemetry()
    import openvino

    _name_in_order(model)
    try:
        openvino.save_model(model, str(path), compress_to_fp16=half)
    except RuntimeError as error:  # the only kind it raises, whatever is wrong; with valid models it is the disk
        raise ExportError(
            f"{path.name} cannot be written",
            got=_first_line(error),
            expected="a disk with room for it",
            remedy="check the folder's permissions and the disk",
        ) from error
    check_file(path)


def _name_in_order(model: Any) -> None:
    """Number the nodes that OpenVINO named after a counter of the process, so that equal models give equal files."""
    model.set_friendly_name("deployable_graph")
    for number, operation in enumerate(model.get_ordered_ops()):
        if _NUMBERED.fullmatch(operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_n{number}")


def check_file(path: Path, shapes: Shapes | None = None) -> None:
    """Check the written file's input and outputs: names, element types, order, shapes.

    Parameters
    ----------
    shapes
        Of the outputs; without them any fixed ones will do.

    Raises
    ------
    ExportError
        They are not those of the graph.
    """
    decline_telemetry()
    import openvino

    try:
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise ExportError(f"{path.name} is not a whole OpenVINO file", got=_first_line(error)) from error
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
    got = {name: tuple(port.shape) for name, port in zip(OUTPUT_NAMES, model.outputs, strict=True)}
    if shapes is not None and got != {name: tuple(shapes[name]) for name in OUTPUT_NAMES}:
        raise ExportError(
            f"{path.name} has outputs of other shapes than the graph",
            got=str({name: list(shape) for name, shape in got.items()}),
            expected=str({name: list(shapes[name]) for name in OUTPUT_NAMES}),
        )


def _explained(error: Exception, graph: DeployableGraph, image: torch.Tensor) -> ExportError:
    """The converter's error in our words: the operators and the modules they came from."""
    rules = _NO_RULE.search(str(error))
    if rules is not None:
        operators = set(_KIND.findall(rules[1]))
        with torch.no_grad(), warnings.catch_warnings(), tracing(graph, "OpenVINO"):
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(graph, image, check_trace=False)  # type: ignore[no-untyped-call]
        found = modules_of(traced, lambda kind: kind in operators)
        return unsupported("OpenVINO", {name: found.get(name, []) for name in sorted(operators)}, graph)
    try:
        with torch.no_grad(), tracing(graph, "OpenVINO"):
            graph(image)
    except ExportError as place:
        return place
    return ExportError(
        "the graph cannot be converted to OpenVINO", got=_first_line(error), remedy="leave out the format openvino"
    )


def _first_line(error: Exception) -> str:
    """The first line that says something: OpenVINO begins with where in its sources it was."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check "))]
    return (said or [type(error).__name__])[0][:500]

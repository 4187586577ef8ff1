"""ONNX, opset 18: one file, checked, without the paths of the machine that wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from export.errors import ExportError
from export.formats.answering import Shapes
from export.formats.unsupported import tracing, unsupported
from export.graph import INPUT_NAME, OUTPUT_NAMES, DeployableGraph, output_shapes
from export.quiet import quiet

__all__ = ["OPSET", "check_file", "strip_notes", "write"]

OPSET = 18
_LOGGERS = ("onnxscript", "onnx_ir", "torch.onnx")
_TRACE_SIZE = (250, 190)
_LARGEST_EDGE = 65535  # what a DICOM header can say
_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


def write(graph: DeployableGraph, path: Path) -> None:
    """Write ``graph`` to ``path`` as ONNX, dynamic in H and W.

    The exporter on ``torch.export`` is used; the older one cannot export the antialiased resize.

    Raises
    ------
    ExportError
        An operator has no ONNX counterpart, or the file is not valid ONNX with the graph's input and outputs.
    """
    import onnx

    image = torch.zeros(1, 1, *_TRACE_SIZE, dtype=torch.uint8)
    height, width = (torch.export.Dim(name, min=2, max=_LARGEST_EDGE) for name in ("H", "W"))
    try:
        with quiet(*_LOGGERS), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (image,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=list(OUTPUT_NAMES),
                dynamic_shapes={INPUT_NAME: {2: height, 3: width}},
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise _explained(error, graph, image) from error
    assert program is not None
    model = program.model_proto
    strip_notes(model)
    onnx.save_model(model, str(path))
    check_file(path, output_shapes(graph))


def strip_notes(model: Any) -> None:
    """Remove documentation strings and metadata, in place: they hold source paths and stack traces."""
    del model.metadata_props[:]
    model.doc_string = ""
    _strip(model.graph)
    for function in model.functions:
        _strip(function)


def check_file(path: Path, shapes: Shapes | None = None) -> None:
    """Check the written file: valid ONNX, one file, the graph's input and outputs by name, type, order and shape.

    Parameters
    ----------
    shapes
        Of the outputs; without them any fixed ones will do.

    Raises
    ------
    ExportError
        The file is not what the runtimes expect.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name} is not valid ONNX", got=str(error)[:500]) from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError(
            f"{path.name} keeps weights in other files",
            expected="one file",
            remedy="save it with all data inside (onnx.save_model(model, path, save_as_external_data=False))",
        )
    found = [_describe(value) for value in (*model.graph.input, *model.graph.output)]
    types = [onnx.TensorProto.UINT8] + [onnx.TensorProto.FLOAT] * len(OUTPUT_NAMES)
    names = [INPUT_NAME, *OUTPUT_NAMES]
    fixed = all(all(isinstance(d, int) for d in shape) for _, _, shape in found[1:])
    if [f[0] for f in found] != names or [f[1] for f in found] != types or not fixed:
        raise ExportError(
            f"{path.name} has other inputs or outputs than the graph",
            got=str(found),
            expected=f"{names}, element types {types}, outputs of fixed shape",
        )
    if shapes is not None and [tuple(f[2]) for f in found[1:]] != [tuple(shapes[name]) for name in OUTPUT_NAMES]:
        raise ExportError(
            f"{path.name} has outputs of other shapes than the graph",
            got=str({name: shape for name, _, shape in found[1:]}),
            expected=str({name: list(shapes[name]) for name in OUTPUT_NAMES}),
        )
    if found[0][2][:2] != [1, 1] or any(isinstance(d, int) for d in found[0][2][2:]):
        raise ExportError(f"{path.name}: wrong input shape", got=str(found[0][2]), expected="[1, 1, H, W]")


def _describe(value: Any) -> tuple[str, int, list[int | str]]:
    tensor = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
    return value.name, tensor.elem_type, shape


def _strip(graph: Any) -> None:
    graph.doc_string = ""
    values = [*graph.node]
    if hasattr(graph, "initializer"):
        values += [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
        del graph.metadata_props[:]
    for value in values:
        value.doc_string = ""
        del value.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


def _explained(error: BaseException, graph: DeployableGraph, image: torch.Tensor) -> ExportError:
    """The exporter's error in our words: the operator and the module it came from, or the module that cannot be
    traced."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    operator = next((found[1] for e in _chain(error) if (found := _OPERATOR.search(str(e)))), None)
    if operator is not None:
        try:
            with quiet(*_LOGGERS), torch.no_grad():
                exported = torch.export.export(graph, (image,), strict=False)
                # what is written is the decomposed program, where one operator can have become another
                paths = _paths(exported, operator) or _paths(exported.run_decompositions(), operator)
        except Exception:  # the place is not to be had; the operator is known all the same
            paths = []
        return unsupported("ONNX", {operator: paths}, graph)
    try:
        with quiet(*_LOGGERS), torch.no_grad(), tracing(graph, "ONNX"):
            torch.export.export(graph, (image,), strict=False)
    except ExportError as place:
        return place
    return ExportError(
        "the graph cannot be written as ONNX",
        got=(str(cause).strip().splitlines() or [type(cause).__name__])[0][:500],
        remedy="leave out the format onnx",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _paths(exported: Any, operator: str) -> list[str]:
    paths: list[str] = []
    for node in exported.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack and str(node.target).rpartition(".")[0] == operator:
            path = str(list(stack.values())[-1][0])
            if path not in paths:
                paths.append(path)
    return paths

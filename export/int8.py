"""A first int8: ONNX Runtime's and NNCF's own post-training quantization at plain settings.

Plain settings change decisions of EfficientNet (several in a hundred); nothing here claims otherwise, and a
build never recommends what this module makes. The heat map's own arithmetic stays in float: it is cheap, and
a map drawn from 8-bit gradients would mislead.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.formats.onnx import check_file, strip_notes
from export.formats.openvino import save
from export.graph import INPUT_NAME
from export.telemetry import decline_telemetry

__all__ = ["ONNX_SETTINGS", "OPENVINO_SETTINGS", "quantize_onnx", "quantize_openvino"]

Images = Sequence[NDArray[np.uint8]]

ONNX_SETTINGS = (
    "onnxruntime.quantization.quantize_static: QDQ, uint8 activations, int8 weights per channel, 7-bit weight range, "
    "MinMax calibration, Conv, Gemm and MatMul outside the heat map"
)
OPENVINO_SETTINGS = "nncf.quantize: preset MIXED, fast bias correction, heat map left in float"
_HEATMAP = "heatmap"


def quantize_onnx(source: Path, path: Path, images: Images) -> None:
    """Quantize an ONNX file of the deployable graph.

    Weights use 7 of their 8 bits (``reduce_range``): CPUs without VNNI instructions add products of uint8
    and int8 in 16 bits and would saturate, so that the same file would answer differently on an older
    laptop.

    Parameters
    ----------
    source
        ``onnx-fp32``.
    path
        Where the int8 file goes.
    images
        Calibration radiographs, uint8 [H, W], any sizes.
    """
    import onnx

    with _quiet(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            """Feeds the images one by one, as the field does."""

            def __init__(self) -> None:
                self._images = iter(images)

            def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
                image = next(self._images, None)
                return None if image is None else {INPUT_NAME: np.ascontiguousarray(image)[None, None]}

        prepared = Path(folder) / "prepared.onnx"
        # Symbolic shape inference fails on the exporter's graph, and is not needed for fixed sizes behind
        # the resize.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            nodes_to_exclude=_heatmap_nodes(onnx.load(str(prepared))),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(str(path))
    strip_notes(model)
    onnx.save_model(model, str(path))
    check_file(path)


def quantize_openvino(source: Path, path: Path, images: Images) -> None:
    """Quantize an OpenVINO file of the deployable graph with NNCF.

    Parameters
    ----------
    source
        ``openvino-fp32``, the ``.xml``.
    path
        Where the ``.xml`` goes; the weights go beside it.
    images
        Calibration radiographs, uint8 [H, W], any sizes.
    """
    decline_telemetry()
    try:
        with _quiet():
            import nncf
            import openvino

            model = openvino.Core().read_model(str(source))
            nncf.set_log_level(logging.ERROR)
            dataset = nncf.Dataset([np.ascontiguousarray(image)[None, None] for image in images])
            quantized = nncf.quantize(
                model,
                dataset,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                fast_bias_correction=True,
                ignored_scope=nncf.IgnoredScope(names=_heatmap_operations(model), validate=False),
            )
    except ImportError as error:
        raise ExportError(
            "int8 for OpenVINO needs NNCF",
            got=str(error),
            remedy='pip install ".[export]", or build with --no-int8',
        ) from error
    save(quantized, path)


def _heatmap_nodes(model: Any) -> list[str]:
    """Nodes of an ONNX graph that only the heat map needs."""
    producers = {output: node for node in model.graph.node for output in node.output}

    def ancestors(names: list[str]) -> set[str]:
        found: set[str] = set()
        while names:
            node = producers.get(names.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                names.extend(node.input)
        return found

    outputs = [output.name for output in model.graph.output]
    return sorted(ancestors([_HEATMAP]) - ancestors([name for name in outputs if name != _HEATMAP]))


def _heatmap_operations(model: Any) -> list[str]:
    """Operations of an OpenVINO model that only the heat map needs."""

    def ancestors(start: list[Any]) -> set[str]:
        found: set[str] = set()
        while start:
            operation = start.pop()
            if operation.get_friendly_name() not in found:
                found.add(operation.get_friendly_name())
                start.extend(value.get_node() for value in operation.input_values())
        return found

    own = [port.get_node() for port in model.outputs if _HEATMAP in port.names]
    others = [port.get_node() for port in model.outputs if _HEATMAP not in port.names]
    names = ancestors(own) - ancestors(others)
    kinds = ("Constant", "Parameter", "Result")
    return sorted(
        operation.get_friendly_name()
        for operation in model.get_ops()
        if operation.get_friendly_name() in names and operation.get_type_name() not in kinds
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both tools print and log their own progress."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)

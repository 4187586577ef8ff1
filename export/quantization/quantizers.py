"""One way in for all formats: a float graph and its fp32 files become an int8 file by settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import Format
from export.formats import WRITERS
from export.graph import DeployableGraph
from export.quantization.layers import Layer
from export.quantization.settings import QuantizationSettings

__all__ = ["Quantizer", "open_quantizer"]


class Quantizer(Protocol):
    """Writes int8 files of one graph in one format."""

    def write(self, path: Path, settings: QuantizationSettings) -> None:
        """Quantize by ``settings`` and write ``path``."""


def open_quantizer(
    format_: Format,
    graph: DeployableGraph,
    layers: tuple[Layer, ...],
    images: Sequence[NDArray[np.uint8]],
    mean_inputs: dict[str, NDArray[np.float32]],
    fp32: Path | None,
    folder: Path,
) -> Quantizer:
    """Open the quantizer of a format.

    Parameters
    ----------
    format_
        ``onnx``, ``openvino``, ``torchscript`` or ``lite``.
    graph, layers
        What is quantized.
    images
        Calibration radiographs at the network's size, uint8 [S, S].
    mean_inputs
        Of :func:`export.quantization.sensitivity.mean_inputs`.
    fp32
        The graph in this format; None: written here, where the format's tool starts from it.
    folder
        For working files.
    """
    if format_ in ("torchscript", "lite"):
        from export.quantization.torch_int8 import TorchQuantizer

        return TorchQuantizer(graph, layers, images, mean_inputs)
    if fp32 is None:
        fp32 = folder / f"{format_}-fp32{WRITERS[format_].suffixes[0]}"
        WRITERS[format_].write(graph, fp32)
    if format_ == "onnx":
        from export.quantization.onnx_int8 import OnnxQuantizer

        return OnnxQuantizer(fp32, layers, images, mean_inputs, folder)
    from export.quantization.openvino_int8 import OpenVinoQuantizer

    return OpenVinoQuantizer(fp32, layers, images)

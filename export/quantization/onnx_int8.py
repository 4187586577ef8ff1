"""int8 ONNX through ``onnxruntime.quantization``, with a choice of layers, ranges and activation functions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.formats.onnx import check_file, strip_notes
from export.graph import INPUT_NAME
from export.quantization.layers import Layer, float_names
from export.quantization.onnx_weights import store_weights_as_int8
from export.quantization.settings import QuantizationSettings
from export.quantization.weights import corrected_bias
from export.quiet import quiet

__all__ = ["OnnxQuantizer"]

Images = Sequence[NDArray[np.uint8]]

_WEIGHT_LEVELS = 63
"""7 of 8 bits: CPUs without VNNI add products of uint8 and int8 in 16 bits and would saturate, so that the same file
would answer differently on an older laptop."""
_ENTROPY_BINS = 512
_CHUNK = 6  # radiographs whose activations are in memory at a time
_FUNCTIONS = ("Sigmoid", "Mul", "Add", "HardSigmoid", "Relu", "Clip")


class OnnxQuantizer:
    """Quantizes one ONNX file of the deployable graph, as often as the ladder asks; ranges are measured once each.

    Parameters
    ----------
    source
        The fp32 file.
    layers
        The graph's layers, for the kinds and names that stay in float.
    images
        Calibration radiographs, uint8 [H, W].
    mean_inputs
        Layer name -> mean of its input channels, for the bias correction.
    folder
        For working files; the caller removes it.
    """

    def __init__(
        self,
        source: Path,
        layers: tuple[Layer, ...],
        images: Images,
        mean_inputs: dict[str, NDArray[np.float32]],
        folder: Path,
    ) -> None:
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.layers, self.images, self.mean_inputs = layers, images, mean_inputs
        self.prepared = folder / "prepared.onnx"
        self.folder = folder
        with quiet():
            # Symbolic shape inference fails on the exporter's graph, and is not needed for fixed sizes behind the
            # resize.
            quant_pre_process(str(source), str(self.prepared), skip_symbolic_shape=True)
        self._ranges: dict[tuple[str, float], Any] = {}

    def write(self, path: Path, settings: QuantizationSettings) -> None:
        """Quantize by ``settings`` and write ``path``, checked.

        Raises
        ------
        ExportError
            The written file is not what the runtimes expect, or the settings ask for what ONNX Runtime has not.
        """
        import onnx

        keep = float_names(self.layers, settings.float_kinds, settings.float_layers)
        if settings.activations == "int8":
            model = self._quantize_activations(settings, keep)
        else:
            model = onnx.load(str(self.prepared))
        store_weights_as_int8(model, per_channel=settings.per_channel, refined=settings.refined_layers)
        strip_notes(model)
        onnx.save_model(model, str(path))
        check_file(path)

    def _quantize_activations(self, settings: QuantizationSettings, keep: frozenset[str]) -> Any:
        import onnx

        model = onnx.load(str(self.prepared))
        convolutions = layer_nodes(model, self.layers)
        chosen = {node for node, layer in convolutions.items() if layer not in keep}
        if not chosen:
            raise ExportError(
                "no layer is left to quantize", got=", ".join(settings.float_kinds), expected="int8 convolutions"
            )
        if settings.bias_correction == "weights":
            self._correct_biases(model, convolutions, chosen, settings.per_channel)
        if settings.activation_functions:
            chosen |= _functions_between(model, chosen)
        with quiet(), tempfile.TemporaryDirectory(dir=self.folder) as folder:
            from onnxruntime.quantization import QuantType
            from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
            from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

            corrected = Path(folder) / "corrected.onnx"
            onnx.save_model(model, str(corrected))
            quantizer = QDQQuantizer(
                load_model_with_shape_infer(corrected),
                per_channel=settings.per_channel,
                reduce_range=True,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=self._tensor_ranges(settings),
                nodes_to_quantize=sorted(chosen),
                nodes_to_exclude=[],
                op_types_to_quantize=["Conv", *_FUNCTIONS],
                extra_options={"ActivationSymmetric": settings.preset == "symmetric", "WeightSymmetric": True},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()  # the nodes it adds come last
            return quantizer.model.model

    def _tensor_ranges(self, settings: QuantizationSettings) -> Any:
        key = (settings.calibration, settings.percentile if settings.calibration == "percentile" else 0.0)
        if key not in self._ranges:
            self._ranges[key] = self._measure(settings)
        return self._ranges[key]

    def _measure(self, settings: QuantizationSettings) -> Any:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        methods: dict[str, tuple[Any, dict[str, Any]]] = {
            "minmax": (CalibrationMethod.MinMax, {}),
            "percentile": (CalibrationMethod.Percentile, {"percentile": settings.percentile}),
            # with as many bins as levels, its default, it can cut nothing and finds the minimum and maximum
            "entropy": (CalibrationMethod.Entropy, {"num_bins": _ENTROPY_BINS, "num_quantized_bins": 128}),
        }
        if settings.calibration not in methods:
            raise ExportError(
                "ONNX Runtime has no such calibration", got=settings.calibration, expected=", ".join(methods)
            )
        method, extra = methods[settings.calibration]

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            """Feeds the images one by one, as the field does."""

            def __init__(self, images: Images) -> None:
                self._images = iter(images)

            def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
                image = next(self._images, None)
                return None if image is None else {INPUT_NAME: np.ascontiguousarray(image)[None, None]}

        with quiet(), tempfile.TemporaryDirectory(dir=self.folder) as folder:
            calibrator = create_calibrator(
                self.prepared,
                ["Conv", *_FUNCTIONS],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=method,
                extra_options=extra,
            )
            for start in range(0, len(self.images), _CHUNK):
                calibrator.collect_data(Reader(self.images[start : start + _CHUNK]))
            return calibrator.compute_data()

    def _correct_biases(self, model: Any, nodes: dict[str, str], chosen: set[str], per_channel: bool) -> None:
        from onnx import numpy_helper

        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.name not in chosen or len(node.input) < 3 or node.input[2] not in tensors:
                continue
            mean = self.mean_inputs[nodes[node.name]]
            weight, bias = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
            corrected = corrected_bias(weight, bias, mean, per_channel, _WEIGHT_LEVELS)
            tensors[node.input[2]].CopyFrom(numpy_helper.from_array(corrected, node.input[2]))


def layer_nodes(model: Any, layers: tuple[Layer, ...]) -> dict[str, str]:
    """Convolution nodes of an ONNX model and the layer each holds: the exporter names weights after their module."""
    names = {layer.name for layer in layers}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            layer = node.input[1].removesuffix(".weight")
            if layer not in names:
                raise ExportError(
                    "a convolution of the ONNX file belongs to no layer of the graph",
                    got=f"{node.name}, weight {node.input[1]}",
                    expected="a weight named after its module",
                )
            found[node.name] = layer
    return found


def _functions_between(model: Any, convolutions: set[str]) -> set[str]:
    """Activation functions, products and sums that read quantized convolutions, or each other, and nothing else."""
    producers = {name: node for node in model.graph.node for name in node.output}
    inside = set(convolutions)
    found: set[str] = set()
    for node in model.graph.node:  # in topological order
        if node.op_type not in _FUNCTIONS:
            continue
        sources = [producers[name] for name in node.input if name in producers]
        if sources and all(source.name in inside or source.op_type == "ReduceMean" for source in sources):
            inside.add(node.name)
            found.add(node.name)
    return found

"""int8 OpenVINO through NNCF, with a choice of layers, ranges and bias correction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from export.formats.openvino import save
from export.graph import FLOAT_OUTPUTS
from export.quantization.layers import Layer, float_names, match_weights
from export.quantization.openvino_weights import float_weights, store_weights_as_int8
from export.quantization.settings import QuantizationSettings
from export.quiet import quiet
from export.telemetry import decline_telemetry

__all__ = ["OpenVinoQuantizer", "write_half"]

Images = Sequence[NDArray[np.uint8]]
_FUNCTIONS = ("Multiply", "Add", "Swish", "Sigmoid", "Relu", "ReduceMean", "ReduceMax", "Concat", "Subtract", "Divide")
"""What NNCF quantizes beside convolutions; harmless to leave in float, OpenVINO fuses most of them into the
convolution."""


class OpenVinoQuantizer:
    """Quantizes one OpenVINO file of the deployable graph, as often as the ladder asks.

    Parameters
    ----------
    source
        The fp32 ``.xml``.
    layers
        The graph's layers, for the kinds and names that stay in float.
    images
        Calibration radiographs, uint8 [H, W].
    """

    def __init__(self, source: Path, layers: tuple[Layer, ...], images: Images) -> None:
        decline_telemetry()
        self.source, self.layers, self.images = source, layers, images

    def write(self, path: Path, settings: QuantizationSettings) -> None:
        """Quantize by ``settings`` and write ``path`` (``.xml``; the weights go beside it), checked.

        Raises
        ------
        ExportError
            NNCF is not installed; the written file is not what the runtimes expect.
        """
        import openvino

        model = openvino.Core().read_model(str(self.source))
        operations = match_weights(self.layers, float_weights(model))
        keep = float_names(self.layers, settings.float_kinds, settings.float_layers)
        if settings.activations == "int8":
            ignored = [operation for operation, layer in operations.items() if layer in keep]
            arguments = self.arguments(model, settings, ignored)
            with quiet():
                import nncf

                model = nncf.quantize(model, **arguments)
        refined = [operation for operation, layer in operations.items() if layer in settings.refined_layers]
        store_weights_as_int8(
            model, per_channel=settings.per_channel, refined=refined, floating=_float_operations(model)
        )
        save(model, path)

    def arguments(self, model: Any, settings: QuantizationSettings, ignored: Sequence[str]) -> dict[str, Any]:
        """Return what ``nncf.quantize`` is told beside the model.

        Parameters
        ----------
        ignored
            Operations of layers in float, by friendly name.

        Raises
        ------
        ExportError
            NNCF is not installed, or has no such calibration.
        """
        if not settings.activation_functions:
            functions = (op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in _FUNCTIONS)
            ignored = [*ignored, *functions]
        try:
            with quiet():
                import nncf
                from nncf.quantization.range_estimator import (
                    RangeEstimatorParameters,
                    StatisticsCollectorParameters,
                    StatisticsType,
                )
        except ImportError as error:
            raise ExportError(
                "int8 for OpenVINO needs NNCF",
                got=str(error),
                remedy='pip install ".[export]", or build with --no-int8',
            ) from error
        estimator = None
        if settings.calibration == "percentile":
            tail = (100 - settings.percentile) / 100

            def collector() -> Any:
                return StatisticsCollectorParameters(
                    statistics_type=StatisticsType.QUANTILE, quantile_outlier_prob=tail
                )

            estimator = RangeEstimatorParameters(min=collector(), max=collector())
        elif settings.calibration != "minmax":
            raise ExportError("NNCF has no such calibration", got=settings.calibration, expected="minmax, percentile")
        with quiet():
            nncf.set_log_level(logging.ERROR)
            return {
                "calibration_dataset": nncf.Dataset([np.ascontiguousarray(image)[None, None] for image in self.images]),
                "preset": nncf.QuantizationPreset.MIXED
                if settings.preset == "asymmetric"
                else nncf.QuantizationPreset.PERFORMANCE,
                "subset_size": len(self.images),
                "fast_bias_correction": settings.bias_correction != "full",
                "ignored_scope": nncf.IgnoredScope(
                    names=sorted({*_preprocessing_operations(model), *_float_operations(model), *ignored}),
                    validate=False,
                ),
                "advanced_parameters": nncf.AdvancedQuantizationParameters(
                    disable_bias_correction=settings.bias_correction == "none",
                    weights_quantization_params=nncf.AdvancedQuantizationParameters().weights_quantization_params
                    if settings.per_channel
                    else _per_tensor(),
                    **({"activations_range_estimator_params": estimator} if estimator else {}),
                ),
            }


def write_half(source: Path, path: Path) -> None:
    """Write an OpenVINO file with float16 weights; the backend states in which precision they are used."""
    decline_telemetry()
    import openvino

    save(openvino.Core().read_model(str(source)), path, half=True)


def _per_tensor() -> Any:
    from nncf.quantization.advanced_parameters import QuantizationParameters

    return QuantizationParameters(per_channel=False)


def _preprocessing_operations(model: Any) -> list[str]:
    """Operations before the first convolution: NNCF would round the pixels' mean and squares as it does activations."""
    first = next(op for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution"))
    found: set[str] = set()
    waiting = [first.input_value(0).get_node()]
    while waiting:
        operation = waiting.pop()
        if operation.get_friendly_name() not in found:
            found.add(operation.get_friendly_name())
            waiting.extend(value.get_node() for value in operation.input_values())
    kinds = ("Constant", "Parameter", "Result")
    return sorted(
        operation.get_friendly_name()
        for operation in model.get_ops()
        if operation.get_friendly_name() in found and operation.get_type_name() not in kinds
    )


def _float_operations(model: Any) -> list[str]:
    """Operations of an OpenVINO model that only heat map and gate need: they stay in float, for an 8-bit gradient
    misleads, and the gate's limits were set in float."""

    def ancestors(start: list[Any]) -> set[str]:
        found: set[str] = set()
        while start:
            operation = start.pop()
            if operation.get_friendly_name() not in found:
                found.add(operation.get_friendly_name())
                start.extend(value.get_node() for value in operation.input_values())
        return found

    own = [port.get_node() for port in model.outputs if port.names & set(FLOAT_OUTPUTS)]
    others = [port.get_node() for port in model.outputs if not port.names & set(FLOAT_OUTPUTS)]
    names = ancestors(own) - ancestors(others)
    kinds = ("Constant", "Parameter", "Result")
    return sorted(
        operation.get_friendly_name()
        for operation in model.get_ops()
        if operation.get_friendly_name() in names and operation.get_type_name() not in kinds
    )

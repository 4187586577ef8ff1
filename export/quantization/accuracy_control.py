"""NNCF's accuracy control on OpenVINO: which layers to put back to float, found by running the search set.

NNCF ranks every quantized layer by what its reversal gains and reverts one after another until the drop is small
enough, or all are tried: it returns a model either way. What is taken from it is the list of layers that it left in
float. The file is then written by those settings and judged like any other rung's, so nothing rests on NNCF's word,
and a build repeats it without the search.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from export.errors import ExportError
from export.quantization.judging import Target, softmax
from export.quantization.layers import Layer, float_names, match_weights
from export.quantization.openvino_int8 import OpenVinoQuantizer
from export.quantization.openvino_weights import float_weights
from export.quantization.sets import SearchSet
from export.quantization.settings import QuantizationSettings
from export.quiet import quiet

__all__ = ["control_accuracy"]

_RANKED_ON = 60
"""Pictures by which NNCF ranks layers; it validates on all."""
_TIE = 1e-3
"""Share of mean |Δp| that is taken off the agreement: of two layers that flip as many, the noisier counts as worse."""
_PASSED_THROUGH = ("MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Concat")


class _OutOfTimeError(Exception):
    """Raised in the middle of NNCF's search."""


def control_accuracy(
    source: Path,
    layers: tuple[Layer, ...],
    images: Any,
    search: SearchSet,
    settings: QuantizationSettings,
    target: Target,
    *,
    temperature: float,
    seconds: float,
) -> QuantizationSettings:
    """Let NNCF choose the layers in float.

    Parameters
    ----------
    source
        The fp32 ``.xml``.
    layers, images
        The graph's layers and the calibration radiographs, uint8 [S, S].
    search
        Decides: agreement with the full model's decisions.
    settings
        Where the search starts; activation functions are in float.
    target
        Its agreement is what NNCF is asked for.
    temperature
        Of the graph's softmax.
    seconds
        The search is stopped then.

    Returns
    -------
    QuantizationSettings
        ``settings`` with NNCF's layers in float.

    Raises
    ------
    ExportError
        It took too long, or NNCF failed.
    """
    import openvino

    quantizer = OpenVinoQuantizer(source, layers, images)
    model = openvino.Core().read_model(str(source))
    operations = match_weights(layers, float_weights(model))
    keep = float_names(layers, settings.float_kinds, settings.float_layers)
    arguments = quantizer.arguments(model, settings, [op for op, layer in operations.items() if layer in keep])
    arguments["advanced_quantization_parameters"] = arguments.pop("advanced_parameters")
    deadline = time.monotonic() + seconds
    wanted = softmax(search.logits / temperature)

    def validate(compiled: Any, numbers: Iterable[Any]) -> tuple[float, list[float]]:
        values = []
        for number in numbers:
            if time.monotonic() > deadline:
                raise _OutOfTimeError
            image = np.ascontiguousarray(search.images[int(number)])[None, None]
            probabilities = compiled(image)["probabilities"][0]
            full = wanted[int(number)]
            same = float(probabilities.argmax() == full.argmax())
            values.append(same - _TIE * float(np.abs(probabilities - full).mean()))
        return float(np.mean(values)), values

    with quiet():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedAccuracyRestorerParameters, RestoreMode

        try:
            controlled = nncf.quantize_with_accuracy_control(
                model,
                validation_dataset=nncf.Dataset(
                    list(range(len(search.images))),
                    lambda number: np.ascontiguousarray(search.images[int(number)])[None, None],
                ),
                validation_fn=validate,
                max_drop=1 - target.agreement,
                advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(
                    ranking_subset_size=min(_RANKED_ON, len(search.images)),
                    num_ranking_workers=1,
                    restore_mode=RestoreMode.ONLY_ACTIVATIONS,  # the weights stay int8, here as in every rung
                ),
                **arguments,
            )
        except _OutOfTimeError as error:
            raise ExportError(
                "accuracy control was stopped",
                got=f"no end after {seconds:.0f} s",
                remedy="allow it more time: --accuracy-control SECONDS",
            ) from error
        except Exception as error:  # whatever NNCF raises
            raise ExportError(
                "NNCF's accuracy control failed", got=f"{type(error).__name__}: {str(error).strip()[:300]}"
            ) from error
    float_layers = {layer for operation, layer in operations.items() if not _is_int8(controlled, operation)}
    return replace(settings, float_layers=tuple(sorted(float_layers | set(settings.float_layers))))


def _is_int8(model: Any, operation: str) -> bool:
    """Whether the operation's input comes out of a quantizer, looked for behind what only moves values."""
    start = next(op for op in model.get_ops() if op.get_friendly_name() == operation)
    waiting = [start.input_value(0).get_node()]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "FakeQuantize":
            return True
        if node.get_type_name() in _PASSED_THROUGH:
            waiting.append(node.input_value(0).get_node())
    return False

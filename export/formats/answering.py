"""What a written file of torch's formats must answer: such a file holds no names, so its outputs are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from export.errors import ExportError
from export.graph import OUTPUT_NAMES

__all__ = ["Shapes", "check_answers"]

Shapes = Mapping[str, tuple[int, ...]]
"""Output name -> shape, as in the manifest."""

_PROBES = ((97, 128), (160, 131))
"""Two sizes: height and width must be open."""
_AXES = {"probabilities": 2, "logits": 2, "heatmap": 4, "embedding": 2, "gate_score": 1}


def check_answers(run: Callable[[Tensor], Any], name: str, shapes: Shapes | None = None) -> None:
    """Run a file on pictures of two sizes and check that it returns the graph's outputs, in the order of every format.

    Checked are: five tensors, float32, of the shapes of ``shapes`` (without it: of as many axes as each output has)
    at both sizes; probabilities in 0..1 that sum to 1 and rank the classes as the logits do; a heat map in 0..1. So
    an output in another's place is found.

    Parameters
    ----------
    run
        The opened file: uint8 [1, 1, H, W] -> tuple of tensors.
    name
        What the file is called in a message.

    Raises
    ------
    ExportError
        It does not run, or returns something else.
    """
    random = torch.Generator().manual_seed(0)
    for height, width in _PROBES:
        image = torch.randint(0, 256, (1, 1, height, width), dtype=torch.uint8, generator=random)
        try:
            with torch.inference_mode():
                outputs = run(image)
        except Exception as error:  # an interpreter raises types of its own
            raise ExportError(
                f"{name} does not run",
                got=(str(error).strip().splitlines() or [type(error).__name__])[-1][:300],
                expected="input uint8 [1, 1, H, W] of any height and width",
            ) from error
        wrong = _wrong(outputs, shapes)
        if wrong is not None:
            raise ExportError(
                f"{name} has other outputs than the graph",
                got=wrong,
                expected=f"a tuple of {', '.join(OUTPUT_NAMES)}, float32, of fixed shape",
                remedy="export the kit's own graph (export.DeployableGraph): it holds all outputs in this order",
            )


def _wrong(outputs: Any, shapes: Shapes | None) -> str | None:
    if not isinstance(outputs, tuple) or len(outputs) != len(OUTPUT_NAMES):
        return f"{len(outputs)} values" if isinstance(outputs, tuple) else type(outputs).__name__
    named = dict(zip(OUTPUT_NAMES, outputs, strict=True))
    for name, value in named.items():
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return f"{name} of type {getattr(value, 'dtype', type(value).__name__)}"
        shape = tuple(value.shape)
        if len(shape) != _AXES[name] or (shapes is not None and shape != tuple(shapes[name])):
            return f"{name} of shape {list(shape)}"
        if not bool(torch.isfinite(value).all()):
            return f"{name} with values that are no numbers"
    probabilities, logits, heatmap = (named[name] for name in ("probabilities", "logits", "heatmap"))
    if probabilities.shape != logits.shape or heatmap.shape[1] != logits.shape[1]:
        return f"{logits.shape[1]} logits, {probabilities.shape[1]} probabilities, {heatmap.shape[1]} heat maps"
    for name in ("probabilities", "heatmap"):
        if float(named[name].min()) < -1e-4 or float(named[name].max()) > 1 + 1e-4:
            return f"{name} outside 0..1"
    if abs(float(probabilities.sum()) - 1) > 1e-3:
        return f"probabilities that sum to {float(probabilities.sum()):.3f}"
    along_logits = probabilities.gather(1, logits.argsort())
    if bool((along_logits.diff() < -1e-6).any()):
        return "probabilities that rank the classes otherwise than the logits"
    return None

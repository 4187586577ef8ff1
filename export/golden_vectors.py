"""Golden inputs: synthetic radiographs of many shapes, and real ones where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from export.graph import DeployableGraph, GraphOutputs
from train.data.phantom import phantom_pixels

__all__ = ["SHAPES", "build_golden_inputs", "run_graph"]

SHAPES = (
    (256, 256), (320, 256), (256, 320), (401, 331), (227, 311), (512, 424),
    (192, 160), (160, 192), (480, 480), (300, 217), (97, 128), (640, 533),
)  # fmt: skip
"""Height and width in pixels: square, upright, across, odd, smaller and larger than the network's input."""


def build_golden_inputs(labels: Sequence[str], seed: int = 20200705) -> list[NDArray[np.uint8]]:
    """Draw the synthetic golden inputs, uint8 [H, W], one of each of :data:`SHAPES`, the classes in turn.

    Parameters
    ----------
    labels
        The bundle's; those that phantoms do not know are drawn as normal ones.
    seed
        Of the first; the others follow it.
    """
    from train.data.rows import LABELS

    known = [label for label in labels if label in LABELS] or [LABELS[0]]
    inputs = []
    for number, (height, width) in enumerate(SHAPES):
        pixels = phantom_pixels(known[number % len(known)], seed + number, max(height, width))
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        inputs.append(np.asarray(image, np.uint8).copy())
    return inputs


def run_graph(
    graph: DeployableGraph, images: Iterable[NDArray[np.uint8]]
) -> list[tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]]:
    """Run the eager graph on images, uint8 [H, W]; return each with its five outputs, batch axis included."""
    results = []
    with torch.inference_mode():
        for pixels in images:
            outputs: GraphOutputs = graph(torch.from_numpy(pixels.copy())[None, None])
            results.append((pixels, {name: t.numpy().copy() for name, t in outputs._asdict().items()}))
    return results

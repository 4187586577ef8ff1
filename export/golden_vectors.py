"""Golden vectors: synthetic radiographs of many shapes, real ones where asked for, and the full model's answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.errors import Refusal
from edge_runtime.golden import write_golden
from edge_runtime.manifest import Golden
from edge_runtime.reading import read_radiograph
from export.errors import ExportError
from export.graph import DeployableGraph, GraphOutputs
from train.data.phantom import phantom_pixels
from train.data.rows import LABELS, Dataset

__all__ = ["SHAPES", "build_golden_inputs", "run_graph", "write_golden_vectors"]

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


def write_golden_vectors(
    graph: DeployableGraph,
    labels: tuple[str, ...],
    root: Path,
    dataset: Dataset | None,
    real: int,
    notes: list[str],
) -> Golden:
    """Write golden vectors into a bundle folder that is being built, and return the manifest's section.

    Parameters
    ----------
    dataset
        Of the run: validation radiographs, or training ones where there are none, become real inputs.
    real
        How many; 0: none.
    notes
        Gets a sentence where inputs are of people.

    Raises
    ------
    ExportError
        The data set has fewer readable radiographs.
    """
    inputs = build_golden_inputs(labels)
    if real and dataset is not None:
        if not dataset.synthetic:
            notes.append(f"{real} real radiographs are among the golden inputs: keep the bundle where it was built.")
        found = 0
        for row in dataset.splits["valid"] or dataset.splits["train"]:
            if found == real:
                break
            try:
                inputs.append(read_radiograph(dataset.image_path(row)).pixels)
                found += 1
            except Refusal:
                continue
        if found < real:
            raise ExportError(
                "not enough radiographs for the golden vectors",
                got=str(found),
                expected=str(real),
                remedy="lower --golden-real",
            )
    synthetic = not real or (dataset is not None and dataset.synthetic)
    return write_golden(root, labels, run_graph(graph, inputs), synthetic=synthetic)

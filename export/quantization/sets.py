"""The radiographs that set ranges and that choose a recipe: of different patients, none of them the test split's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import Refusal
from edge_runtime.reading import read_radiograph
from export.calibration import CalibrationSet, combined_sha256, load_calibration_set
from export.errors import ExportError
from export.graph import DeployableGraph
from train.data.rows import Dataset
from train.preprocessing import squish

__all__ = ["SearchSet", "build_search_set", "network_size", "read_calibration"]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class SearchSet:
    """Radiographs of the validation split, and changed copies of them, with the full model's answers.

    A copy is mirrored, cropped, darker or brighter. Its diagnosis is not known to be its original's, so accuracy is
    taken on originals alone; whether two models decide alike can be asked of any picture, and small changes put more
    of them near a border.

    Attributes
    ----------
    images
        uint8 [S, S], the network's size.
    truth
        int64 [N], of the original.
    originals
        bool [N].
    logits
        float64 [N, C], the eager model's.
    sha256
        SHA-256 over the sorted SHA-256 of the files.
    """

    images: tuple[Image, ...]
    truth: NDArray[np.int64]
    originals: NDArray[np.bool_]
    logits: NDArray[np.float64]
    sha256: str
    patients: int


def network_size(images: Sequence[Image], size: int) -> tuple[Image, ...]:
    """Squish to the network's size, as the graph does, and round to 8 bits: inside the graph the resize then does
    nothing."""
    result = []
    for image in images:
        resized = squish(torch.from_numpy(np.array(image))[None, None], size)
        result.append(resized[0, 0].float().round().clamp(0, 255).byte().numpy())
    return tuple(result)


def read_calibration(
    dataset: Dataset, labels: tuple[str, ...], count: int, size: int
) -> tuple[CalibrationSet, tuple[Image, ...]]:
    """Read the calibration set (training patients), also at the network's size."""
    calibration = load_calibration_set(dataset, labels, count)
    return calibration, network_size(calibration.images, size)


def build_search_set(
    graph: DeployableGraph, dataset: Dataset, labels: tuple[str, ...], copies: bool = True
) -> SearchSet:
    """Read the validation split, add changed copies, and let the eager model answer.

    Raises
    ------
    ExportError
        The validation split is empty, or lacks a class.
    """
    images: list[Image] = []
    truth: list[int] = []
    rows = []
    for row in dataset.splits["valid"]:
        try:
            pixels = read_radiograph(dataset.image_path(row)).pixels
        except Refusal:
            continue
        images.append(pixels)
        truth.append(labels.index(row.label))
        rows.append(row)
    if missing := [label for number, label in enumerate(labels) if number not in truth]:
        raise ExportError(
            "the search set lacks a class",
            got=f"no readable radiograph of {', '.join(missing)} in the validation split",
            expected="radiographs of each class",
            remedy="build the data set with more sources",
        )
    small = network_size(images, graph.size)
    variants = [small]
    if copies:
        variants += [
            tuple(np.ascontiguousarray(image[:, ::-1]) for image in small),
            network_size([_cropped(image) for image in images], graph.size),
            tuple(_gamma(image, 0.8 if number % 2 else 1.25) for number, image in enumerate(small)),
        ]
    everything = tuple(image for variant in variants for image in variant)
    with torch.inference_mode():
        logits = [
            graph(torch.from_numpy(np.array(image))[None, None]).logits[0].double().numpy() for image in everything
        ]
    return SearchSet(
        images=everything,
        truth=np.asarray(truth * len(variants)),
        originals=np.arange(len(everything)) < len(small),
        logits=np.stack(logits),
        sha256=combined_sha256([row.sha256 for row in rows]),
        patients=len({(row.source, row.patient) for row in rows}),
    )


def _cropped(image: Image) -> Image:
    """Without a twentieth on each side."""
    height, width = image.shape
    return image[height // 20 : height - height // 20, width // 20 : width - width // 20]


def _gamma(image: Image, exponent: float) -> Image:
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return np.ascontiguousarray(table[image])

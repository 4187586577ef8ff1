"""The calibration set: radiographs of training patients that tell a quantizer how large activations get."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import Refusal
from edge_runtime.reading import read_radiograph
from export.errors import ExportError
from train.data.rows import Dataset, Row

__all__ = ["CalibrationSet", "choose_calibration_rows", "load_calibration_set"]

_SMALLEST_SET = 2


@dataclass(frozen=True)
class CalibrationSet:
    """Pixels, uint8 [H, W] of any sizes, and what identifies them in a report."""

    images: tuple[NDArray[np.uint8], ...]
    rows: tuple[Row, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 over the sorted SHA-256 of the files."""
        return combined_sha256([row.sha256 for row in self.rows])


def combined_sha256(hashes: list[str]) -> str:
    """SHA-256 over sorted hexadecimal hashes, one a line."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def choose_calibration_rows(dataset: Dataset, labels: tuple[str, ...], count: int, seed: int = 0) -> list[Row]:
    """Choose rows of the training split: the classes in turn, one radiograph a patient while patients last.

    Raises
    ------
    ExportError
        Fewer than two images a class asked for, or a class without a training image.
    """
    if count < _SMALLEST_SET * len(labels):
        raise ExportError(
            "the calibration set is too small",
            got=f"{count} radiographs",
            expected=f"at least {_SMALLEST_SET} of each of {len(labels)} classes; 100 to 300 are usual",
            remedy="raise --calibration, or build with --no-int8",
        )
    draw = random.Random(seed)
    queues: list[list[Row]] = []
    for label in labels:
        rows = sorted((r for r in dataset.splits["train"] if r.label == label), key=lambda r: r.filename)
        if not rows:
            raise ExportError(
                f"the calibration set has no radiograph of class {label!r}",
                got=f"none in {dataset.root / 'train.csv'}",
                expected="training radiographs of each class: " + ", ".join(labels),
                remedy="give the data set the run was trained on, or build with --no-int8",
            )
        draw.shuffle(rows)
        queues.append(_patients_first(rows))
    chosen: list[Row] = []
    while len(chosen) < count and any(queues):
        chosen.extend(queue.pop(0) for queue in queues if queue)
    return chosen[:count]


def load_calibration_set(dataset: Dataset, labels: tuple[str, ...], count: int, seed: int = 0) -> CalibrationSet:
    """Choose and read the calibration set, through the reader the field uses. What it refuses is left out.

    Raises
    ------
    ExportError
        See :func:`choose_calibration_rows`; or the reader refused every radiograph of a class.
    InputError
        A radiograph that the table lists is not there.
    """
    kept: list[tuple[NDArray[np.uint8], Row]] = []
    for row in choose_calibration_rows(dataset, labels, count, seed):
        try:
            kept.append((read_radiograph(dataset.image_path(row)).pixels, row))
        except Refusal:
            continue
    left = {row.label for _, row in kept}
    if missing := [label for label in labels if label not in left]:
        raise ExportError(
            "the calibration set lacks a class",
            got=f"no readable radiograph of {', '.join(missing)}",
            expected="radiographs of each class",
            remedy="look at them with `edge-runtime predict`, or raise --calibration",
        )
    return CalibrationSet(tuple(image for image, _ in kept), tuple(row for _, row in kept))


def _patients_first(rows: list[Row]) -> list[Row]:
    seen: set[str] = set()
    first: list[Row] = []
    rest: list[Row] = []
    for row in rows:
        (rest if row.patient in seen else first).append(row)
        seen.add(row.patient)
    return first + rest

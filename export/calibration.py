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

_SMALLEST_CLASS = 2
"""Radiographs of a class."""


@dataclass(frozen=True)
class CalibrationSet:
    """Pixels, uint8 [H, W] of any sizes, and what identifies them in a report.

    ``asked`` is how many were asked for, ``refused`` how many the reader refused on the way.
    """

    images: tuple[NDArray[np.uint8], ...]
    rows: tuple[Row, ...]
    asked: int
    refused: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know of it: that it is smaller than asked for, that radiographs were refused."""
        said = []
        if len(self.rows) < self.asked:
            said.append(
                f"The calibration set has {len(self.rows)} radiographs, not the {self.asked} asked for: the training "
                "split has no more."
            )
        if self.refused:
            said.append(f"The reader refused {self.refused} radiographs on the way to the calibration set.")
        return tuple(said)

    @property
    def sha256(self) -> str:
        """SHA-256 over the sorted SHA-256 of the files."""
        return combined_sha256([row.sha256 for row in self.rows])


def combined_sha256(hashes: list[str]) -> str:
    """SHA-256 over sorted hexadecimal hashes, one a line."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def choose_calibration_rows(dataset: Dataset, labels: tuple[str, ...], count: int, seed: int = 0) -> list[Row]:
    """Choose rows of the training split: the classes in turn, one radiograph a patient while patients last.

    Returns
    -------
    list
        ``count`` rows, or the whole split where it has fewer; with a larger ``count`` the same ones come first.

    Raises
    ------
    ExportError
        Fewer than two images a class asked for, or a class without a training image.
    """
    if count < _SMALLEST_CLASS * len(labels):
        raise ExportError(
            "the calibration set is too small",
            got=f"{count} radiographs",
            expected=f"at least {_SMALLEST_CLASS} of each of {len(labels)} classes; 100 to 300 are usual",
            remedy="raise --calibration, or build with --no-int8",
        )
    queues = _queues(dataset, labels, seed)
    chosen: list[Row] = []
    while len(chosen) < count and any(queues):
        chosen.extend(queue.pop(0) for queue in queues if queue)
    return chosen[:count]


def load_calibration_set(dataset: Dataset, labels: tuple[str, ...], count: int, seed: int = 0) -> CalibrationSet:
    """Choose and read the calibration set, through the reader the field uses.

    What the reader refuses is left out, and the next one of its class taken instead; where the training split
    has no more, the set is smaller than asked for and says so in its ``notes``.

    Raises
    ------
    ExportError
        See :func:`choose_calibration_rows`; or fewer than two readable radiographs of a class.
    InputError
        A radiograph that the table lists is not there.
    """
    choose_calibration_rows(dataset, labels, count, seed)  # for its errors
    queues = _queues(dataset, labels, seed)
    kept: list[tuple[NDArray[np.uint8], Row]] = []
    refused = 0
    while len(kept) < count and any(queues):
        for queue in queues:
            while queue and len(kept) < count:
                row = queue.pop(0)
                try:
                    kept.append((read_radiograph(dataset.image_path(row)).pixels, row))
                    break
                except Refusal:
                    refused += 1
    found = {label: sum(row.label == label for _, row in kept) for label in labels}
    if short := [f"{number} of {label}" for label, number in found.items() if number < _SMALLEST_CLASS]:
        raise ExportError(
            "the calibration set has too few radiographs of a class",
            got=", ".join(short) + (f"; the reader refused {refused}" if refused else ""),
            expected=f"at least {_SMALLEST_CLASS} readable training radiographs of each class",
            remedy="look at the refused ones with `edge-runtime predict`, give a data set with more, or build with "
            "--no-int8",
        )
    return CalibrationSet(tuple(image for image, _ in kept), tuple(row for _, row in kept), count, refused)


def _queues(dataset: Dataset, labels: tuple[str, ...], seed: int) -> list[list[Row]]:
    """The training rows of each class, in the order in which a calibration set takes them."""
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
    return queues


def _patients_first(rows: list[Row]) -> list[Row]:
    seen: set[str] = set()
    first: list[Row] = []
    rest: list[Row] = []
    for row in rows:
        (rest if row.patient in seen else first).append(row)
        seen.add(row.patient)
    return first + rest

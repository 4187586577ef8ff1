"""What a dataset is made of: rows, boxes, splits, and the error all of ``train.data`` raises."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import EdgeRuntimeError
from train.data.record import DatasetRecord

__all__ = ["IMAGES_NAME", "LABELS", "SPLITS", "Box", "DataError", "Dataset", "Row", "file_sha256"]

LABELS = ("normal", "pneumonia", "COVID-19")
SPLITS = ("train", "valid", "test")
IMAGES_NAME = "images"


class DataError(EdgeRuntimeError):
    """A data source or a dataset folder is missing, incomplete, or contradicts itself."""


@dataclass(frozen=True)
class Row:
    """One image of a dataset: a line of ``train.csv``, ``valid.csv`` or ``test.csv``. Empty: not known."""

    patient_id: str
    """The source's own patient number; a patient is the pair of ``source`` and ``patient_id``."""
    filename: str
    """Name inside ``images/``, always PNG: the stem of the source's name and ``.png``."""
    label: str
    source: str
    """``cohen``, ``fig1``, ``actmed``, ``sirm``, ``rsna``, or ``phantom``."""
    view: str = ""
    """As the source writes it: ``PA``, ``AP``, ``AP Supine``, ..."""
    age: str = ""
    """Years, a plain number."""
    sex: str = ""
    """``M`` or ``F``."""
    sha256: str = ""
    """Of the PNG file, lower-case hexadecimal."""

    @property
    def patient(self) -> str:
        """The patient, unique over all sources: ``<source>:<patient_id>``."""
        return f"{self.source}:{self.patient_id}"


@dataclass(frozen=True)
class Box:
    """A marked opacity. Fractions of the image's width and height, 0 to 1, from the upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Dataset:
    """A dataset folder, read. The images themselves stay on disk."""

    root: Path
    labels: tuple[str, ...]
    synthetic: bool
    splits: dict[str, list[Row]]
    """``train``, ``valid`` and ``test``; a split whose table is absent is an empty list."""
    boxes: dict[str, list[Box]] = field(default_factory=dict)
    """By file name, for the images that have any."""
    record: DatasetRecord | None = None

    def image_path(self, row: Row) -> Path:
        """Where a row's PNG file is."""
        return self.root / IMAGES_NAME / row.filename


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

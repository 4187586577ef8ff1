"""The published split tables of COVIDx: which image is whose, and in training or test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from train.data.rows import DataError
from train.data.sources.source_table import need_folder, read_table

__all__ = ["Published", "load_published"]


@dataclass(frozen=True)
class Published:
    """The published tables. A source is its ``label_short``, an image the stem of its ``fname``."""

    tables: tuple[Path, ...]
    images: dict[tuple[str, str], tuple[str, str]]
    """(source, stem) -> (``train`` or ``test``, label)."""
    patients: dict[tuple[str, str], frozenset[str]]
    """(source, patient_id) -> ``train``, ``test``, or both."""


def load_published(folder: Path) -> Published:
    """Read ``train_split_v3.csv`` and ``test_split_v3.csv`` (or another version's tables of that shape)."""
    need_folder(folder, "--splits", "train_split_v3.csv and test_split_v3.csv")
    images: dict[tuple[str, str], tuple[str, str]] = {}
    patients: dict[tuple[str, str], frozenset[str]] = {}
    tables = []
    for split in ("train", "test"):
        found = sorted(folder.glob(f"{split}_split*.csv"))
        if len(found) != 1:
            raise DataError(
                f"--splits: {folder} has {len(found) or 'no'} {split} tables",
                got=", ".join(path.name for path in found) or None,
                expected=f"one {split}_split_v3.csv",
            )
        tables += found
        for row in read_table(found[0], ["patient_id", "fname", "label", "label_short"]):
            image = (row["label_short"], PurePosixPath(row["fname"]).stem)
            if images.setdefault(image, (split, row["label"])) != (split, row["label"]):
                raise DataError(
                    f"--splits: {row['fname']} is listed twice and not alike",
                    got=f"{images[image]} and {(split, row['label'])}",
                )
            patient = (row["label_short"], row["patient_id"])
            patients[patient] = patients.get(patient, frozenset()) | {split}
    return Published(tuple(tables), images, patients)

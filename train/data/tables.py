"""The dataset folder: ``images/``, one table a split, ``boxes.csv`` and ``dataset.json``.

``data build`` and ``data phantom`` write it; ``fit``, ``export`` and the evaluation read it. Every table is
UTF-8 CSV with a header line; see ``docs/data.md``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path, PurePath

import msgspec

from train.data.checking import check_dataset, check_patients
from train.data.record import DatasetRecord
from train.data.rows import IMAGES_NAME, LABELS, SPLITS, Box, DataError, Dataset, Row, file_sha256

__all__ = [
    "BOXES_NAME",
    "IMAGES_NAME",
    "LABELS",
    "RECORD_NAME",
    "SPLITS",
    "Box",
    "DataError",
    "Dataset",
    "Row",
    "check_dataset",
    "check_patients",
    "count_rows",
    "file_sha256",
    "load_dataset",
    "split_sha256",
    "write_atomically",
    "write_dataset",
]

BOXES_NAME = "boxes.csv"
RECORD_NAME = "dataset.json"


def write_dataset(
    root: Path,
    splits: Mapping[str, Sequence[Row]],
    record: DatasetRecord,
    boxes: Mapping[str, Sequence[Box]] | None = None,
) -> DatasetRecord:
    """Write the tables and ``dataset.json`` of a folder whose ``images/`` are there already.

    Each file is replaced as a whole, ``dataset.json`` last. Rows keep their order.

    Returns
    -------
    DatasetRecord
        As written: with ``counts`` and ``tables`` filled in.
    """
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise DataError("a dataset has no such split", got=", ".join(sorted(unknown)), expected=", ".join(SPLITS))
    root.mkdir(parents=True, exist_ok=True)
    hashes = {}
    names = [column.name for column in fields(Row)]
    for split in SPLITS:
        lines = [astuple(row) for row in splits.get(split, ())]
        hashes[f"{split}.csv"] = _write_csv(root / f"{split}.csv", names, lines)
    box_lines = [
        (filename, *(f"{value:.6f}" for value in astuple(box)))
        for filename, of_image in sorted((boxes or {}).items())
        for box in of_image
    ]
    hashes[BOXES_NAME] = _write_csv(root / BOXES_NAME, ["filename", *(c.name for c in fields(Box))], box_lines)
    record = msgspec.structs.replace(record, tables=hashes, counts=count_rows(splits, record.labels))
    write_atomically(root / RECORD_NAME, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return record


def load_dataset(folder: str | Path) -> Dataset:
    """Read a dataset folder's tables.

    Raises
    ------
    DataError
        The folder, ``dataset.json`` or ``train.csv`` is not there, or a table cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"there is no dataset folder {root}", remedy="build one: python -m train data build --help")
    record_path = root / RECORD_NAME
    if not record_path.is_file():
        raise DataError(
            f"{root} is not a dataset folder",
            got=f"no {RECORD_NAME} in it",
            expected="a folder that `python -m train data build` or `data phantom` wrote to its end",
            remedy="run that command (again): an interrupted build goes on where it stopped",
        )
    try:
        record = msgspec.json.decode(record_path.read_bytes(), type=DatasetRecord)
    except msgspec.DecodeError as error:
        raise DataError(f"{record_path} cannot be read", got=str(error), remedy="build the dataset again") from error
    if not (root / "train.csv").is_file():
        raise DataError(f"{root} has no train.csv", remedy="build the dataset again")
    splits = {split: _load_rows(root / f"{split}.csv") for split in SPLITS}
    return Dataset(root, record.labels, record.synthetic, splits, _load_boxes(root / BOXES_NAME), record)


def split_sha256(folder: str | Path) -> dict[str, str]:
    """SHA-256 of the split tables that are in a dataset folder, by file name."""
    paths = [Path(folder) / f"{split}.csv" for split in SPLITS]
    return {path.name: file_sha256(path) for path in paths if path.is_file()}


def count_rows(splits: Mapping[str, Iterable[Row]], labels: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Images by split, label and source; every split and label has an entry."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split in SPLITS:
        found = Counter((row.label, row.source) for row in splits.get(split, ()))
        counts[split] = {label: {s: n for (at, s), n in sorted(found.items()) if at == label} for label in labels}
    return counts


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole: whoever reads it sees the old content or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    content = text.getvalue().encode()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def _read_csv(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = reader.fieldnames or []
            lines = [{key: value for key, value in line.items() if key is not None} for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table", got=str(error)) from error
    absent = [name for name in needed if name not in header]
    if absent:
        raise DataError(f"{path} lacks columns", got=", ".join(header) or "no header", expected=", ".join(needed))
    return lines


def _load_rows(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    names = [column.name for column in fields(Row)]
    rows = []
    for number, line in enumerate(_read_csv(path, names), start=2):
        row = Row(**{name: line[name] for name in names})
        if not row.filename or PurePath(row.filename).name != row.filename:
            raise DataError(f"{path} line {number}: not a file name", got=repr(row.filename), expected="a bare name")
        rows.append(row)
    return rows


def _load_boxes(path: Path) -> dict[str, list[Box]]:
    boxes: dict[str, list[Box]] = {}
    if not path.is_file():
        return boxes
    names = [column.name for column in fields(Box)]
    for number, line in enumerate(_read_csv(path, ["filename", *names]), start=2):
        try:
            box = Box(**{name: float(line[name]) for name in names})
        except ValueError as error:
            raise DataError(f"{path} line {number}: not a box", got=str(error), expected="four numbers") from error
        boxes.setdefault(line["filename"], []).append(box)
    return boxes

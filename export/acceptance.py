"""The radiographs that judge, and that they are of other patients than those that chose ranges and recipe."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_runtime.bundle import Bundle
from export.errors import ExportError
from export.parity_result import CaseSet
from train.data.checking import check_patients
from train.data.rows import SPLITS, Dataset, Row
from train.data.tables import load_dataset

__all__ = ["acceptance_rows", "describe_sets"]

_BUILD_REPORT = "reports/build.json"
_PURPOSES: dict[str, Literal["calibration", "search"]] = {"calibration_set": "calibration", "search_set": "search"}


def acceptance_rows(
    data: str | Path, split: str, labels: tuple[str, ...], limit: int | None
) -> tuple[Dataset, list[Row]]:
    """Read a data set and choose the rows of a split, evenly spread where there is a limit.

    Raises
    ------
    ExportError
        No such split, an empty one, or other classes than the bundle's.
    DataError
        A patient is in two splits.
    """
    if split not in SPLITS:
        raise ExportError(f"there is no split {split!r}", expected=", ".join(SPLITS))
    dataset = load_dataset(data)
    if tuple(dataset.labels) != labels:
        raise ExportError(
            f"the data set {data} has other classes than the bundle",
            got=", ".join(dataset.labels),
            expected=", ".join(labels),
        )
    check_patients(dataset.splits)
    rows = dataset.splits[split]
    if not rows:
        raise ExportError(
            f"the split {split} of {data} is empty",
            expected="at least one radiograph",
            remedy="choose another --split, or build the data set with more sources",
        )
    if limit is not None and limit < len(rows):
        rows = [rows[number * len(rows) // limit] for number in range(limit)]
    return dataset, rows


def describe_sets(
    bundle: Bundle, dataset: Dataset, split: str, precisions: Collection[str], *, gate: bool
) -> tuple[tuple[CaseSet, ...], tuple[str, ...]]:
    """Return the sets that the build report names, and what is to be said of them.

    The splits share no patient (checked when the data set is read), so sets of different splits are disjoint. A set
    of the split that is to judge is an error when there is a gate: int8 would be judged on what it was fitted to.

    Parameters
    ----------
    precisions
        Of the artifacts that are judged; fp32 and fp16 are fitted to nothing.

    Raises
    ------
    ExportError
        As said; or the report is not what a build writes.
    """
    quantized = not set(precisions) <= {"fp32", "fp16"}
    sets: list[CaseSet] = []
    notes: list[str] = []
    for key, found in _named_sets(bundle):
        purpose = _PURPOSES[key]
        used = str(found["split"])
        sets.append(CaseSet(purpose, used, int(found["radiographs"]), found.get("patients"), str(found["sha256"])))
        if used == split and quantized:
            if gate:
                raise ExportError(
                    f"the split {split} cannot judge quantized artifacts",
                    got=f"their {purpose} set is of the same split",
                    expected="patients that chose neither ranges nor recipe",
                    remedy="judge on --split test, or measure without judging: --no-gate",
                )
            notes.append(f"The {purpose} set is of the same split: the quantized artifacts were fitted to it.")
    if quantized and not sets:
        notes.append("The bundle does not say what its quantized artifacts were calibrated on.")
    if dataset.record is None:
        notes.append("The data set has no record of how it was built.")
    return tuple(sets), tuple(notes)


def _named_sets(bundle: Bundle) -> list[tuple[str, dict[str, Any]]]:
    entry = next((entry for entry in bundle.manifest.reports if entry.path == _BUILD_REPORT), None)
    if entry is None:
        return []
    try:
        content = msgspec.json.decode(bundle.path(entry).read_bytes(), type=dict[str, Any])
        found = [(key, content[key]) for key in _PURPOSES if content.get(key)]
        for _, one in found:
            if not {"split", "radiographs", "sha256"} <= set(one):
                raise msgspec.ValidationError("a set without split, radiographs or sha256")
    except (msgspec.DecodeError, AttributeError, TypeError) as error:
        raise ExportError(
            f"{_BUILD_REPORT} of the bundle {bundle.source} is not what a build writes", got=str(error)[:200]
        ) from error
    return found

"""RSNA Pneumonia Detection Challenge (Kaggle), stage 2: two tables and ``stage_2_train_images/*.dcm``."""

from __future__ import annotations

from pathlib import Path

from train.data.rows import DataError
from train.data.sources.listing import Listing, PixelBox
from train.data.sources.source_table import need_file, need_folder, read_table

__all__ = ["list_rsna"]

_CLASSES = "stage_2_detailed_class_info.csv"
_LABELS = "stage_2_train_labels.csv"
_PATIENT_COLUMNS = ("nihPatient", "PatientID")


def list_rsna(folder: Path) -> Listing:
    """List the images of class "Normal" and those with Target = 1; the third class is left out.

    ``patientId`` of the challenge numbers images. The person is ``nihPatient`` or ``PatientID`` where a table
    has such a column, else the header's Patient ID (in the challenge's own files the image number again).
    """
    classes_path = need_file(folder, "--rsna", [_CLASSES])
    labels_path = need_file(folder, "--rsna", [_LABELS])
    images = need_folder(folder / "stage_2_train_images", "--rsna", "the DICOM files of " + _LABELS)
    classes = {row["patientId"]: row for row in read_table(classes_path, ["patientId", "class"])}
    targets: dict[str, dict[str, str]] = {}
    boxes: dict[str, list[PixelBox]] = {}
    for row in read_table(labels_path, ["patientId", "x", "y", "width", "height", "Target"]):
        targets.setdefault(row["patientId"], row)  # one row a box
        if row["x"]:
            boxes.setdefault(row["patientId"], []).append(_box(row, labels_path))

    listing = Listing("rsna", [classes_path, labels_path])
    for image in {**classes, **targets}:
        row = {**classes.get(image, {}), **targets.get(image, {})}
        is_normal = row.get("class") == "Normal"
        has_opacity = row.get("Target", "").split(".")[0] == "1"
        file = f"{image}.dcm"
        if is_normal and has_opacity:
            listing.drop(file, "class 'Normal' and Target = 1 contradict each other")
        elif not (is_normal or has_opacity):
            listing.drop(file, f"class {row.get('class', '')!r} is neither Normal nor Target = 1")
        else:
            person = next((row[name] for name in _PATIENT_COLUMNS if row.get(name)), "")
            listing.take(
                images,
                file,
                patient_id=person or image,
                label="pneumonia" if has_opacity else "normal",
                row=row,
                patient_in_header=not person,
                boxes=tuple(boxes.get(image, ())) if has_opacity else (),
            )
    return listing


def _box(row: dict[str, str], table: Path) -> PixelBox:
    try:
        return PixelBox(*(float(row[name]) for name in ("x", "y", "width", "height")))
    except ValueError as error:
        raise DataError(f"{table}: the box of {row['patientId']} is not four numbers", got=str(error)) from error

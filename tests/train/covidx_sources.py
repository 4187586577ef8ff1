"""Small sources in the layout of the real ones, with images of noise, for the tests of the builder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def picture(seed: int, edge: int = 160) -> NDArray[np.uint8]:
    """Return a smooth picture, unlike that of any other seed: uint8 [edge, edge]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((edge, edge), Image.Resampling.BICUBIC))


def write_table(path: Path, rows: Iterable[Mapping[str, object]], encoding: str = "utf-8") -> None:
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_image(path: Path, seed: int, edge: int = 160) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, edge)).save(path)
    return path


def write_dicom(path: Path, seed: int, patient: str) -> None:
    """Write a MONOCHROME1 file: the reader must invert it, and what comes out is ``picture(seed)``."""
    pixels = 255 - picture(seed)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", "AP"
    data.PatientID, data.PatientSex, data.PatientAge = patient, "F", "058Y"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME1", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def cohen_row(
    patient: object, file: str, finding: str = "COVID-19", view: str = "PA", **more: object
) -> dict[str, object]:
    return {
        "patientid": patient,
        "finding": finding,
        "view": view,
        "modality": "X-ray",
        "filename": file,
        **more,
    }


def write_cohen(folder: Path, rows: Iterable[Mapping[str, object]], absent: Iterable[str] = ()) -> Path:
    """Write the table and, for each row's file but the ``absent`` ones, a picture of its own."""
    rows = list(rows)
    write_table(folder / "metadata.csv", rows)
    (folder / "images").mkdir(exist_ok=True)
    for seed, file in enumerate(sorted({str(row["filename"]) for row in rows} - set(absent))):
        write_image(folder / "images" / file, seed)
    return folder


def write_rsna(
    folder: Path,
    images: Mapping[str, tuple[str, str]],
    *,
    patient_column: bool = True,
    boxes: Mapping[str, list[tuple[float, ...]]] | None = None,
) -> Path:
    """Write the challenge's layout; ``images`` maps an image number to (class, patient)."""
    labels = []
    for seed, (image, (kind, patient)) in enumerate(images.items()):
        write_dicom(folder / "stage_2_train_images" / f"{image}.dcm", 1000 + seed, patient)
        target = int(kind == "Lung Opacity")
        for box in (boxes or {}).get(image, [("", "", "", "")]):
            row = {
                "patientId": image,
                **dict(zip(("x", "y", "width", "height"), box, strict=True)),
                "Target": target,
            }
            labels.append({**row, "nihPatient": patient} if patient_column else row)
    write_table(folder / "stage_2_train_labels.csv", labels)
    classes = [{"patientId": image, "class": kind} for image, (kind, _) in images.items()]
    write_table(folder / "stage_2_detailed_class_info.csv", classes)
    return folder


def write_published(
    folder: Path, train: Iterable[tuple[object, str, str, str]], test: Iterable[tuple[object, str, str, str]]
) -> Path:
    """Write the split tables from (patient, file name, label, source)."""
    names = ("patient_id", "fname", "label", "label_short")
    for split, rows in (("train", train), ("test", test)):
        (folder).mkdir(parents=True, exist_ok=True)
        with (folder / f"{split}_split_v3.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
    return folder

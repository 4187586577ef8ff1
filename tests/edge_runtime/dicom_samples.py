"""DICOM files that the reading tests write: one small radiograph, any element of it changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def ramp(bits: int = 12, signed: bool = False, rows: int = 128, columns: int = 160) -> NDArray[Any]:
    """An image in which every value of the bits occurs that fits into it, smallest and largest among them."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = np.rint(np.linspace(low, high, rows * columns)).reshape(rows, columns)
    return values.astype(("i" if signed else "u") + ("1" if bits <= 8 else "2"))


def radiograph(pixels: NDArray[Any], *, bits: int | None = None, **elements: Any) -> Dataset:
    """A DX data set around pixels of 8 or 16 bits allocated; an element given as None is left out."""
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = DX
    data_set.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    allocated = 8 * pixels.dtype.itemsize
    values: dict[str, Any] = {
        "SOPClassUID": DX,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "DX",
        "PatientID": "P1",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1 if pixels.ndim == 2 else 3,
        "PhotometricInterpretation": "MONOCHROME2" if pixels.ndim == 2 else "RGB",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": allocated,
        "BitsStored": bits or allocated,
        "HighBit": (bits or allocated) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if pixels.ndim == 3 else {}),
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(data_set, keyword, value)
    data_set.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data_set["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return data_set


def save(data_set: Dataset, path: Path) -> Path:
    """Write a data set as a DICOM file in its own transfer syntax."""
    data_set.save_as(path, enforce_file_format=True)
    return path

"""A phantom as a DICOM file: Digital X-Ray (PA) or Computed Radiography (AP), 12 bits, marked synthetic."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from train.data.phantom import Phantom
from train.data.phantom_exposure import BITS

__all__ = ["PATIENT_NAME", "Identity", "build_dicom", "write_dicom"]

PATIENT_NAME = "Phantom^Synthetic"
_NAMESPACE = uuid.UUID("5d0f5a52-3f0b-5c1e-9a57-6a1d0c7f4b11")
_FIRST_DAY = date(2020, 1, 1)


@dataclass(frozen=True)
class Identity:
    """Which study of which patient of a dataset a phantom is."""

    patient_id: str
    study: int
    """1 for a patient's first."""


def _uid(kind: str, phantom: Phantom, identity: Identity) -> UID:
    """A UID under the root 2.25 (DICOM PS3.5 B.2) from a name-based UUID: the same phantom, the same UID."""
    facts = phantom.facts
    rows, columns = phantom.stored.shape
    drawn = (facts.label, facts.seed, facts.patient_seed, rows, columns)
    name = (kind, identity.patient_id, identity.study, *drawn)
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, repr(name)).int}")


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def build_dicom(phantom: Phantom, identity: Identity) -> Dataset:
    """The data set of a phantom. The label is not in it: a file gives the answer away by its pixels alone."""
    facts = phantom.facts
    portable = facts.view == "AP"
    day = (_FIRST_DAY + timedelta(days=3 * (identity.study - 1))).strftime("%Y%m%d")
    clock = f"{8 + identity.study:02d}0000"

    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 100"
    data.ImageType = ["ORIGINAL", "PRIMARY", ""]
    data.SOPClassUID = ComputedRadiographyImageStorage if portable else DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = _uid("image", phantom, identity)
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = day
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = clock
    data.AccessionNumber = ""
    data.Modality = "CR" if portable else "DX"
    data.ConversionType = "SYN"
    data.Manufacturer = "cxr-edge-runtime (SYNTHETIC)"
    data.InstitutionName = "SYNTHETIC"
    data.ReferringPhysicianName = ""
    data.StudyDescription = "SYNTHETIC chest radiograph"
    data.SeriesDescription = f"SYNTHETIC chest {facts.view}"
    data.ManufacturerModelName = "phantom"

    data.PatientName = PATIENT_NAME
    data.PatientID = identity.patient_id
    data.PatientBirthDate = ""
    data.PatientSex = facts.sex
    data.PatientAge = f"{facts.age:03d}Y"
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "SYNTHETIC: drawn by a program, no patient"

    data.BodyPartExamined = "CHEST"
    data.DistanceSourceToDetector = f"{facts.distance:.1f}"
    data.SoftwareVersions = "phantom 1"
    data.ImagerPixelSpacing = [f"{facts.pixel_spacing:.6f}"] * 2
    data.ViewPosition = facts.view

    data.StudyInstanceUID = _uid("study", phantom, identity)
    data.SeriesInstanceUID = _uid("series", phantom, identity)
    data.StudyID = str(identity.study)
    data.SeriesNumber = 1
    data.InstanceNumber = 1
    data.PatientOrientation = ["L", "F"]
    data.ImageComments = "SYNTHETIC: a computed phantom, not a patient. For demonstrations and tests only."
    if not portable:
        data.PresentationIntentType = "FOR PRESENTATION"
        data.ImageLaterality = "U"
        data.AnatomicRegionSequence = _code("43799004", "SCT", "Chest")
        data.ViewCodeSequence = _code("399348003", "SCT", "postero-anterior")
        data.AcquisitionContextSequence = Sequence([])
    return _with_pixels(data, phantom)


def _with_pixels(data: Dataset, phantom: Phantom) -> Dataset:
    facts = phantom.facts
    largest = 2**BITS - 1
    stored, centre = phantom.stored, facts.window_centre
    if facts.inverted:
        stored = (largest - stored.astype(np.int32)).astype(np.uint16)
        # mirrors the window; LINEAR counts from half a value below the centre (PS3.3 C.11.2.1.2)
        centre = largest - centre + (0.0 if facts.sigmoid else 1.0)
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if facts.inverted else "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, BITS, BITS - 1, 0
    data.BurnedInAnnotation = "NO"
    data.PixelIntensityRelationship = "LOG"
    data.PixelIntensityRelationshipSign = 1 if facts.inverted else -1
    data.WindowCenter, data.WindowWidth = f"{centre:g}", f"{facts.window_width:g}"
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.VOILUTFunction = "SIGMOID" if facts.sigmoid else "LINEAR"
    data.LossyImageCompression = "00"
    data.PresentationLUTShape = "INVERSE" if facts.inverted else "IDENTITY"
    data.PixelData = stored.astype("<u2").tobytes()
    data["PixelData"].VR = "OW"

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(f"2.25.{_NAMESPACE.int}")
    meta.ImplementationVersionName = "CXR-PHANTOM-1"
    data.file_meta = meta
    return data


def write_dicom(path: Path, phantom: Phantom, identity: Identity) -> None:
    """Write a phantom as a DICOM file; the bytes follow from the arguments alone."""
    build_dicom(phantom, identity).save_as(path, enforce_file_format=True)

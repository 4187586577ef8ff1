"""Results as DICOM objects: a structured report (TID 1500) and a secondary capture with the heat map.

Both are new objects in the radiograph's study, in series of their own, with UIDs drawn from the study's key: made a
second time, after a kill for instance, they have the same. The report is partial and unverified; both say that they are
not for clinical use. The capture carries no name in its pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edge_runtime import __version__
from edge_runtime.heatmap import overlay
from edge_runtime.reading.dicom_file import load_data_set
from edge_runtime.reading.limits import DEFAULT_LIMITS
from edge_runtime.records import Records, Study

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["build_capture", "build_report", "result_files", "write_results"]

NOT_FOR_CLINICAL_USE: Final = "NOT FOR CLINICAL USE"
_MAKER: Final = "cxr-edge-runtime"
_SCHEME: Final = "99CXREDGE"
_SERIES: Final = {"report": 9901, "capture": 9902}
_EDGE: Final = 1024
_NEEDED: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)


def result_files(folder: Path, study: Study) -> dict[str, Path]:
    """Return where a study's report and capture are written."""
    return {kind: folder / f"{study.key}.{kind}.dcm" for kind in _SERIES}


def write_results(records: Records, study: Study, source: Path, folder: Path) -> list[Path]:
    """Write a study's report and capture, as far as they are not there; nothing for a study without an answer.

    Parameters
    ----------
    source
        The DICOM file that was answered.

    Returns
    -------
    list[Path]
        The files, whether they were there or not.
    """
    if study.answer["status"] != "ok" or study.source_format != "DICOM":
        return []
    files = result_files(folder, study)
    if not all(path.exists() for path in files.values()):
        pixels, heatmap = records.files.pixels(study.key), records.heatmap(study.key)
        header = _header(source, study)
        assert pixels is not None
        assert heatmap is not None
        _save(build_report(header, study), files["report"])
        _save(build_capture(header, study, pixels, heatmap), files["capture"])
    return list(files.values())


def build_report(header: Dataset, study: Study) -> Dataset:
    """Build the structured report.

    Parameters
    ----------
    header
        Of the radiograph.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    answer = study.answer
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_uid(study.checkpoint_sha256 or "", "device"),
            name=_short(study.model or "model", 64),
            manufacturer_name=_MAKER,
            model_name=_short(f"{answer['artifact']} on {answer['backend']}", 64),
        ),
    )
    source = sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)
    algorithm = sr.AlgorithmIdentification(name=_short(study.model or "model", 64), version=__version__)
    measurements = [
        sr.Measurement(
            name=sr.CodedConcept(_value(label), _SCHEME, _short(f"Probability of {label}", 64)),
            value=float(round(probability, 4)),
            unit=codes.UCUM.NoUnits,
        )
        for label, probability in answer["probabilities"].items()
    ]
    evaluations = [
        sr.QualitativeEvaluation(
            name=sr.CodedConcept("CLASS", _SCHEME, "Most probable class by the model"),
            value=sr.CodedConcept(_value(answer["label"]), _SCHEME, _short(answer["label"], 64)),
        ),
        sr.QualitativeEvaluation(
            name=sr.CodedConcept("USE", _SCHEME, "Intended use"),
            value=sr.CodedConcept("RESEARCH", _SCHEME, "Research and demonstration only, not for clinical use"),
        ),
    ]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid(study.key, "tracking"), identifier="Whole radiograph"),
        finding_type=sr.CodedConcept("CLASSIFICATION", _SCHEME, "Classification of a chest radiograph"),
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[source],
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=sr.CodedConcept("399208008", "SCT", "Plain X-ray of chest"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report: Dataset = sr.ComprehensiveSR(
        evidence=[header],
        content=content[0],
        series_instance_uid=_uid(study.key, "report series"),
        series_number=_SERIES["report"],
        sop_instance_uid=_uid(study.key, "report"),
        instance_number=1,
        manufacturer=_MAKER,
        is_complete=False,
        is_final=False,
        is_verified=False,
    )
    report.SeriesDescription = f"Model's answer - {NOT_FOR_CLINICAL_USE}"
    report.ManufacturerModelName = _short(study.model or "model", 64)
    report.SoftwareVersions = __version__
    report.DeviceSerialNumber = (study.checkpoint_sha256 or "0")[:16]
    return report


def build_capture(header: Dataset, study: Study, pixels: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> Dataset:
    """Build the secondary capture: the radiograph under the heat map of the most probable class, RGB.

    Parameters
    ----------
    pixels, heatmap
        uint8 [H, W] and float32 [C, h, w] in [0, 1].
    """
    from highdicom.sc import SCImage

    label = study.answer["label"]
    index = list(study.answer["probabilities"]).index(label)
    capture: Dataset = SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=_picture(pixels, heatmap[index], label, study.answer["probabilities"][label]),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=_uid(study.key, "capture series"),
        series_number=_SERIES["capture"],
        sop_instance_uid=_uid(study.key, "capture"),
        instance_number=1,
        manufacturer=_MAKER,
        patient_orientation=_orientation(header),
    )
    capture.Modality = "OT"
    capture.BodyPartExamined = "CHEST"  # not paired: then Laterality (type 2C) is not asked for
    capture.SeriesDescription = f"Model's heat map - {NOT_FOR_CLINICAL_USE}"
    capture.ImageComments = "What weighed for the model's answer. Research and demonstration only."
    capture.DerivationDescription = "Radiograph with the model's heat map laid over it"
    capture.BurnedInAnnotation = "NO"  # of a patient's identity
    capture.SoftwareVersions = __version__
    return capture


def _picture(
    pixels: NDArray[np.uint8], heatmap: NDArray[np.float32], label: str, probability: float
) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    image.thumbnail((_EDGE, _EDGE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    drawn = Image.fromarray(overlay(np.asarray(image), heatmap))
    bar = max(28, drawn.height // 24)
    out = Image.new("RGB", (max(drawn.width, 480), drawn.height + 2 * bar))
    out.paste(drawn, ((out.width - drawn.width) // 2, bar))
    draw = ImageDraw.Draw(out)
    size = bar * 0.55
    draw.text((8, bar * 0.2), f"{label}  {probability:.2f}   heat map of a model", fill="white", font_size=size)
    draw.text((8, drawn.height + bar * 1.2), f"{NOT_FOR_CLINICAL_USE} - research only", fill="yellow", font_size=size)
    return np.asarray(out, np.uint8)


def _header(source: Path, study: Study) -> Dataset:
    with source.open("rb") as stream:
        header = load_data_set(stream, source.stat().st_size, DEFAULT_LIMITS)
    if "PixelData" in header:
        del header.PixelData
    for keyword in _NEEDED:  # type 2: may be empty, must be there
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not header.get(keyword):
            setattr(header, keyword, _uid(study.key, keyword))
    return header


def _orientation(header: Dataset) -> tuple[str, str] | None:
    value: Any = header.get("PatientOrientation")
    if value is not None and len(value) == 2 and all(str(part).strip() for part in value):
        return str(value[0]), str(value[1])
    return ("L", "F")  # a frontal radiograph as it hangs: to the right the patient's left, down the feet


def _save(data_set: Dataset, path: Path) -> None:
    temporary = path.with_name(f".{path.name}")
    data_set.save_as(temporary, enforce_file_format=True)
    temporary.chmod(0o600)
    temporary.replace(path)


def _uid(*sources: str) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["cxr-edge-runtime", *sources]))


def _value(label: str) -> str:
    plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in label).upper()
    return plain[:16] or "CLASS"


def _short(text: str, length: int) -> str:
    return text[:length]

"""Results as DICOM objects: a structured report (TID 1500) and a secondary capture with the heat map.

Both are new objects in the radiograph's study, in series of their own, with UIDs drawn from the study's key and the
answer: made a second time, after a kill for instance, they have the same; of a newer answer they are new objects. Both
carry the classes that cannot be ruled out and whether a reader should decide. The report is partial and unverified;
both say that they are not for clinical use. The capture carries no name in its pixels.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edge_runtime import __version__
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.heatmap import overlay
from edge_runtime.reading.dicom_file import load_data_set
from edge_runtime.reading.limits import DEFAULT_LIMITS
from edge_runtime.records import Records, Study
from edge_runtime.records.on_disk import write_file

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["ResultError", "build_capture", "build_report", "referral", "result_files", "write_results"]

NOT_FOR_CLINICAL_USE: Final = "NOT FOR CLINICAL USE"
_MAKER: Final = "cxr-edge-runtime"
_SCHEME: Final = "99CXREDGE"
_SERIES: Final = {"report": 9901, "capture": 9902}
_EDGE: Final = 1024
_NEEDED: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)


class ResultError(EdgeRuntimeError):
    """No DICOM result can be made for a study, at any attempt."""


def result_files(folder: Path, study: Study) -> dict[str, Path]:
    """Return where a study's report and capture are written."""
    return {kind: folder / f"{study.key}.{kind}.dcm" for kind in _SERIES}


def write_results(records: Records, study: Study, source: Path, folder: Path) -> list[Path]:
    """Write a study's report and capture, as far as those of its newest answer are not there, whole and on disk when
    this returns; nothing for a study without an answer.

    Parameters
    ----------
    source
        The DICOM file that was answered.

    Returns
    -------
    list[Path]
        The files, whether they were there or not.

    Raises
    ------
    ResultError
        The radiograph's header does not allow it, or the records lack the pixels: trying again does not help.
    OSError
        They could not be written, of a full disk for instance.
    """
    if study.answer["status"] != "ok" or study.source_format != "DICOM":
        return []
    files = result_files(folder, study)
    if all(_is_there(path, _answer_uid(study, kind)) for kind, path in files.items()):
        return list(files.values())
    pixels, heatmap = records.files.pixels(study.key), records.heatmap(study.key)
    if pixels is None or heatmap is None:
        raise ResultError(f"the pixels or the heat map of study {study.key} are gone from the records")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the header: names do not belong on a terminal or in a journal
            header = _header(source, study)
            made = {"report": build_report(header, study), "capture": build_capture(header, study, pixels, heatmap)}
            contents = {kind: _bytes(data_set) for kind, data_set in made.items()}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever pydicom or highdicom find wrong with a header that somebody else wrote
        raise ResultError(
            f"the radiograph's header does not allow a DICOM result for study {study.key}",
            got=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="the answer itself is in the records and beside the file",
        ) from error
    for kind, content in contents.items():
        write_file(files[kind], content)
    return list(files.values())


def referral(study: Study) -> str | None:
    """Return the sentence that asks for a reader; None where the answer does not refer."""
    if not study.answer.get("refer"):
        return None
    notes = (note for note in study.answer["notes"] if note.startswith("Refer to a reader"))
    return next(notes, f"{_sentence_case(study.word)}.")


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
    if answer.get("prediction_set") is not None:
        evaluations += [
            sr.QualitativeEvaluation(
                name=sr.CodedConcept("POSSIBLE", _SCHEME, "Class that cannot be ruled out"),
                value=sr.CodedConcept(_value(label), _SCHEME, _short(label, 64)),
            )
            for label in answer["prediction_set"] or ("None of the classes",)
        ]
        evaluations.append(
            sr.QualitativeEvaluation(
                name=sr.CodedConcept("REFER", _SCHEME, "Refer to a reader"),
                value=codes.SCT.Yes if answer["refer"] else codes.SCT.No,
            )
        )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=_uid(study.key, "tracking"), identifier="Whole radiograph"),
        finding_type=sr.CodedConcept("CLASSIFICATION", _SCHEME, "Classification of a chest radiograph"),
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[source],
    )
    # TID 1501 is extensible: the sentences that belong to the answer, the referral first
    sentence = referral(study)
    sentences = dict.fromkeys((*(() if sentence is None else (sentence,)), *answer["notes"]))
    comments = [
        sr.TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        for text in sentences
    ]
    group[0].ContentSequence.extend(comments)
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
        sop_instance_uid=_answer_uid(study, "report"),
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

    label, probability = study.answer["label"], study.answer["probabilities"][study.answer["label"]]
    index = list(study.answer["probabilities"]).index(label)
    sentence = referral(study)
    word = study.word if sentence else f"{label}  {probability:.2f}"
    lines = (
        f"{word[0].upper()}{word[1:]}",
        f"Heat map of {label} ({probability:.2f}), the model's most probable class",
    )
    capture: Dataset = SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=_picture(pixels, heatmap[index], lines),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=_uid(study.key, "capture series"),
        series_number=_SERIES["capture"],
        sop_instance_uid=_answer_uid(study, "capture"),
        instance_number=1,
        manufacturer=_MAKER,
        patient_orientation=_orientation(header),
    )
    capture.Modality = "OT"
    capture.BodyPartExamined = "CHEST"  # not paired: then Laterality (type 2C) is not asked for
    capture.SeriesDescription = f"Model's heat map - {NOT_FOR_CLINICAL_USE}"
    capture.ImageComments = " ".join(
        (*((sentence,) if sentence else ()), "What weighed for the model's answer. Research and demonstration only.")
    )
    capture.DerivationDescription = "Radiograph with the model's heat map laid over it"
    capture.BurnedInAnnotation = "NO"  # of a patient's identity
    capture.SoftwareVersions = __version__
    return capture


def _picture(pixels: NDArray[np.uint8], heatmap: NDArray[np.float32], lines: tuple[str, ...]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    image.thumbnail((_EDGE, _EDGE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    drawn = Image.fromarray(overlay(np.asarray(image), heatmap))
    bar = max(28, drawn.height // 24)
    width = max(drawn.width, 480)
    size = bar * 0.55
    written = [part for line in lines for part in _wrapped(line, size, width - 16)]
    top = bar * len(written)
    out = Image.new("RGB", (width, top + drawn.height + bar))
    out.paste(drawn, ((width - drawn.width) // 2, top))
    draw = ImageDraw.Draw(out)
    warning = f"{NOT_FOR_CLINICAL_USE} - research only"
    rows = [(number * bar, line, "white") for number, line in enumerate(written)]
    for y, line, colour in (*rows, (top + drawn.height, warning, "yellow")):
        draw.text((8, y + bar * 0.2), line, fill=colour, font_size=size)
    return np.asarray(out, np.uint8)


def _wrapped(text: str, size: float, width: int) -> list[str]:
    """Break a line between words, so that nothing of it is cut off."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font_size=size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


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


def _bytes(data_set: Dataset) -> bytes:
    content = io.BytesIO()
    data_set.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _is_there(path: Path, uid: str) -> bool:
    """Tell whether a file is the whole object of this UID: an empty or cut one, or an older answer's, is not."""
    from pydicom import dcmread

    try:
        return bool(dcmread(path).SOPInstanceUID == uid)
    except Exception:  # absent, empty, cut off, or anything else
        return False


def _answer_uid(study: Study, kind: str) -> str:
    return _uid(study.key, study.answered, kind)


def _uid(*sources: str) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["cxr-edge-runtime", *sources]))


def _value(label: str) -> str:
    plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in label).upper()
    return plain[:16] or "CLASS"


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short(text: str, length: int) -> str:
    return text[:length]

"""What a DICOM header says about suitability: is this a frontal radiograph of the chest at all?

Apart from decoding, so that a file can be read right and refused, and each be tested. Only clear statements
refuse; what is absent or unknown is accepted with a note.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from edge_runtime.errors import Reason, Refusal
from edge_runtime.reading.dicom_header import first_item, text

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["check_suitable"]

_RADIOGRAPHY: Final = frozenset(("CR", "DX", "RG", "DR", "XR", "CRX"))
"""Modality (PS3.3 C.7.3.1.1.1) of projection radiographs; DR, XR and CRX are not defined but written."""
_PERHAPS: Final = frozenset(("OT", "SC", "RF", "HC"))
"""Secondary captures, spot films and digitised films: they can be radiographs."""

_SOP_CLASS_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_OTHER_SOP_CLASSES: Final[tuple[tuple[str, str], ...]] = (
    ("2", "a CT image"),
    ("4", "an MR image"),
    ("3", "an ultrasound image"),
    ("6", "an ultrasound image"),
    ("20", "a nuclear medicine image"),
    ("128", "a PET image"),
    ("130", "a PET image"),
    ("1.2", "a mammogram"),
    ("1.3", "a dental radiograph"),
    ("12", "an angiogram"),
    ("13", "a 3D X-ray image"),
    ("66", "a segmentation or registration"),
    ("30", "a parametric map"),
    ("77", "a photograph or microscopy image"),
    ("481", "a radiotherapy object"),
    ("88", "a report"),
    ("9", "a waveform"),
    ("11", "a presentation state"),
    ("104", "an encapsulated document"),
)
"""Starts of SOP Class UIDs below PS3.4's storage root, with what they hold."""
_XRAY_RF: Final = "12.2"
_FOR_PROCESSING: Final = _SOP_CLASS_ROOT + "1.1.1"
_DIRECTORY: Final = "1.2.840.10008.1.3.10"

_CHEST: Final = re.compile(
    r"CHEST|THORA|TORA[XC]|LUNG|PULM|POUMON|PECHO|BRUST|HEART|RIB|STERN|TRUNK|BABYGRAM|WHOLEBODY"
)
_OTHER_PART: Final = re.compile(
    r"ABDOM|PELVI|HIP|KNEE|HAND|WRIST|FOOT|FEET|ANKLE|ELBOW|SHOULDER|SKULL|HEAD|BRAIN|NECK|SPINE|SINUS|EXTREMIT|LEG|"
    r"ARM|FEMUR|TIBIA|FIBULA|HUMERUS|RADIUS|ULNA|FINGER|THUMB|TOE|JAW|MANDIB|MAXILL|TEETH|TOOTH|BREAST|CLAVIC|SCAPULA|"
    r"SACRUM|COCCYX|CALCAN|PATELLA|ORBIT|NASAL|BLADDER|KIDNEY|COLON|STOMACH|UTERUS|PROSTATE|LIVER"
)

_LATERAL: Final = frozenset(("L", "R", "LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LATL", "LATR", "LTLAT", "RTLAT"))
_OBLIQUE: Final = frozenset(("RLO", "LLO", "RAO", "LAO", "RPO", "LPO", "OBL", "OBLIQUE"))
"""View Position, PS3.3 C.8.1.3 and C.8.7.5, and common free forms; letters only."""


def check_suitable(data_set: Dataset) -> tuple[str, ...]:
    """Refuse what the header says is no frontal chest radiograph.

    Returns
    -------
    notes
        Plain sentences about what the header leaves open.

    Raises
    ------
    Refusal
        ``not_a_radiograph`` or ``lateral_view``.
    """
    notes = [*_check_modality(data_set), *_check_body_part(data_set)]
    _check_view(data_set)
    intent = (text(data_set, "PresentationIntentType") or "").upper()
    if intent == "FOR PROCESSING" or text(data_set, "SOPClassUID") == _FOR_PROCESSING:
        notes.append("The image is marked FOR PROCESSING: it may lack the contrast that the model was trained on.")
    return tuple(notes)


def _not_a_radiograph(what: str, got: str) -> Refusal:
    return Refusal(
        Reason.NOT_A_RADIOGRAPH,
        what,
        got=got,
        expected="a frontal chest radiograph (modality CR or DX)",
        remedy="choose the study's frontal chest radiograph",
    )


def _check_modality(data_set: Dataset) -> tuple[str, ...]:
    meta = getattr(data_set, "file_meta", None)
    sop_class = text(data_set, "SOPClassUID") or (text(meta, "MediaStorageSOPClassUID") if meta else None) or ""
    if sop_class == _DIRECTORY:
        raise _not_a_radiograph("the file is the index of a DICOM disc, not an image", "a DICOMDIR")
    modality = (text(data_set, "Modality") or "").upper()
    if modality and modality not in _RADIOGRAPHY | _PERHAPS:
        raise _not_a_radiograph("the header says that this is no projection radiograph", f"modality {modality}")
    if sop_class.startswith(_SOP_CLASS_ROOT):
        kind = sop_class.removeprefix(_SOP_CLASS_ROOT)
        for start, words in _OTHER_SOP_CLASSES:
            if (kind == start or kind.startswith(start + ".")) and not kind.startswith(_XRAY_RF):
                raise _not_a_radiograph("the header says that this is no projection radiograph", words)
    if modality in _RADIOGRAPHY:
        return ()
    return (f"The header does not say that this is a projection radiograph (modality {modality or 'absent'}).",)


def _check_body_part(data_set: Dataset) -> tuple[str, ...]:
    part = text(data_set, "BodyPartExamined") or _code_meaning(data_set, "AnatomicRegionSequence")
    if part is None:
        return ()
    letters = re.sub(r"[^A-Z]", "", part.upper())
    if _CHEST.search(letters) and "SPINE" not in letters:
        return ()
    if _OTHER_PART.search(letters):
        raise _not_a_radiograph("the header names another part of the body", f"body part {part}")
    return (f"The header names an unknown part of the body ({part}).",) if letters else ()


def _check_view(data_set: Dataset) -> None:
    view = text(data_set, "ViewPosition")
    found: str | None = None
    if view is not None:
        letters = re.sub(r"[^A-Z]", "", view.upper())
        lateral = letters in _LATERAL or (letters.startswith(("LAT", "LEFTLAT", "RIGHTLAT")) and "DEC" not in letters)
        if lateral or letters in _OBLIQUE:
            found = f"view position {view}"
    elif meaning := _code_meaning(data_set, "ViewCodeSequence"):
        words = meaning.lower()
        if ("lateral" in words and "decubitus" not in words) or "oblique" in words:
            found = f"view {meaning}"
    if found is None and view is None:
        # PS3.3 C.7.6.1.1.1, the rows' direction: to the patient's front or back is a view from the side.
        orientation = (text(data_set, "PatientOrientation") or "").upper()
        if orientation.startswith(("A", "P")):
            found = f"patient orientation {orientation}"
    if found is not None:
        raise Refusal(
            Reason.LATERAL_VIEW,
            "the header says that this is not a frontal view",
            got=found,
            expected="a PA or AP view",
            remedy="choose the study's frontal view",
        )


def _code_meaning(data_set: Dataset, keyword: str) -> str | None:
    item = first_item(data_set, keyword)
    return None if item is None else text(item, "CodeMeaning")

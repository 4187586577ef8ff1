"""Reading single header elements without trust: any may be missing, empty, of a wrong kind or damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from edge_runtime.errors import Reason, Refusal
from edge_runtime.radiograph import HeaderFacts

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["first_item", "has_value", "header_facts", "number", "numbers", "text", "whole_number"]

_MAX_SEQUENCE_BYTES: Final = 4 * 2**20
"""A LUT has at most 128 KiB; a sequence is parsed into objects many times its size."""


def value_of(data_set: Dataset, keyword: str) -> Any:
    """Return an element's value, or None where it is absent, empty or cannot be converted."""
    try:
        value = data_set.get(keyword)
    except Exception:  # pydicom's converters raise whatever the damage leads to
        return None
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def has_value(data_set: Dataset, keyword: str) -> bool:
    """Tell whether an element is there and not empty, without converting its value."""
    try:
        return keyword in data_set and data_set.get_item(keyword).value not in (None, b"", "")
    except Exception:  # an element without a length and of a damaged VR is converted at once
        return False


def text(data_set: Dataset, keyword: str) -> str | None:
    """Return the element as stripped text (several values joined by backslashes), or None."""
    value = value_of(data_set, keyword)
    if value is None:
        return None
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        value = "\\".join(str(part) for part in value)
    return str(value).strip(" \0") or None


def numbers(data_set: Dataset, keyword: str) -> list[float]:
    """Return the element's numbers; an empty list where there are none or one of them is no number."""
    value = value_of(data_set, keyword)
    if value is None:
        return []
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        value = [value]
    try:
        return [float(part) for part in value]
    except (TypeError, ValueError):
        return []


def number(data_set: Dataset, keyword: str) -> float | None:
    """Return the element's first number, or None."""
    return next(iter(numbers(data_set, keyword)), None)


def whole_number(data_set: Dataset, keyword: str, default: int | None = None) -> int:
    """Return a whole number that decoding needs.

    Raises
    ------
    Refusal
        ``unreadable``: absent without a default, or no whole number.
    """
    if default is not None and not has_value(data_set, keyword):
        return default
    value = number(data_set, keyword)
    if value is None or value != int(value):
        from pydicom.datadict import dictionary_description

        raise Refusal(
            Reason.UNREADABLE,
            f"the header has no usable {dictionary_description(keyword)}",
            got="nothing" if value is None else f"{value:g}",
            expected="a whole number",
            remedy="export the image again; the file is damaged or no image",
        )
    return int(value)


def first_item(data_set: Dataset, keyword: str, index: int = 0, limit: int = _MAX_SEQUENCE_BYTES) -> Dataset | None:
    """Return an item of a sequence, or None; a sequence of more than ``limit`` bytes is not parsed.

    Raises
    ------
    Refusal
        ``too_large``.
    """
    if keyword not in data_set:
        return None
    raw = data_set.get_item(keyword)
    size = len(raw.value) if isinstance(raw.value, bytes) else 0
    if size > limit:
        raise Refusal(
            Reason.TOO_LARGE,
            f"the header's {keyword} is larger than this runtime parses",
            got=f"{size} bytes",
            expected=f"at most {limit} bytes",
        )
    sequence = value_of(data_set, keyword)
    return sequence[index] if sequence is not None and len(sequence) > index else None


def header_facts(data_set: Dataset) -> HeaderFacts:
    """Collect what an answer may show of the header."""
    return HeaderFacts(
        modality=text(data_set, "Modality"),
        view=text(data_set, "ViewPosition"),
        body_part=text(data_set, "BodyPartExamined"),
        sex=text(data_set, "PatientSex"),
        age=text(data_set, "PatientAge"),
        study_date=text(data_set, "StudyDate"),
        patient_id=text(data_set, "PatientID"),
        sop_instance_uid=text(data_set, "SOPInstanceUID"),
    )

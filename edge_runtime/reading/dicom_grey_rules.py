"""What a DICOM header says about turning stored values into grey, read into `GreyRules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.errors import Reason, Refusal
from edge_runtime.reading.dicom_grey import Floats, GreyRules, LookupTable, Rescale, Window
from edge_runtime.reading.dicom_header import first_item, has_value, number, numbers, text

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["grey_rules"]


def grey_rules(
    views: Sequence[Dataset], *, photometric: str, signed: bool, little_endian: bool, window: int = 1
) -> tuple[GreyRules, tuple[str, ...]]:
    """Read the rules of one frame.

    Parameters
    ----------
    views
        Where to look, most specific first: the frame's functional groups, the shared ones, the data set.
    photometric
        ``MONOCHROME1`` or ``MONOCHROME2``.
    signed
        Pixel Representation is 1.
    window
        Which window (or VOI LUT) to take where there are several, 1 the first.

    Returns
    -------
    rules, notes

    Raises
    ------
    Refusal
        ``unreadable``: a LUT that is damaged, an unknown window function, a window that does not exist.
    """
    notes: list[str] = []
    modality = _modality(views, signed, little_endian)
    # CT-like rescaling makes negative values of unsigned pixels, and a VOI LUT counts in those.
    negative = signed or (isinstance(modality, Rescale) and modality.intercept < 0)
    voi = _voi(views, negative, little_endian, window, notes)
    shape = (text(views[-1], "PresentationLUTShape") or "").upper()
    if shape not in ("", "IDENTITY", "INVERSE"):
        notes.append(f"Presentation LUT Shape {shape} is unknown and was not applied.")
    rules = GreyRules(
        padding=_padding(views[-1], signed),
        modality=modality,
        voi=voi,
        inverted=photometric == "MONOCHROME1" or shape == "INVERSE",
    )
    return rules, tuple(notes)


def _padding(data_set: Dataset, signed: bool) -> tuple[int, int] | None:
    value = number(data_set, "PixelPaddingValue")
    if value is None:
        return None
    limit = number(data_set, "PixelPaddingRangeLimit")
    low, high = sorted(_as_pixel(int(end), signed) for end in (value, value if limit is None else limit))
    return low, high


def _as_pixel(value: int, signed: bool) -> int:
    """Read a US-or-SS value with the signedness of the pixels; writers confuse the two."""
    if signed and value > 0x7FFF:
        return value - 0x10000
    return value + 0x10000 if not signed and value < 0 else value


def _holder(views: Sequence[Dataset], *keywords: str) -> Dataset | None:
    """The most specific place that has a value for any of the keywords."""
    for view in views:
        if any(has_value(view, keyword) for keyword in keywords):
            return view
    return None


def _modality(views: Sequence[Dataset], signed: bool, little_endian: bool) -> Callable[[Floats], Floats] | None:
    holder = _holder(views, "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
    if holder is None:
        return None
    item = first_item(holder, "ModalityLUTSequence")
    if item is not None:
        return _lookup_table(item, signed, little_endian)
    slope, intercept = number(holder, "RescaleSlope"), number(holder, "RescaleIntercept")
    if slope in (None, 1.0) and intercept in (None, 0.0):
        return None
    return Rescale(1.0 if slope is None else slope, intercept or 0.0)


def _voi(
    views: Sequence[Dataset], signed: bool, little_endian: bool, window: int, notes: list[str]
) -> Callable[[Floats], Floats] | None:
    holder = _holder(views, "VOILUTSequence", "WindowCenter")
    if holder is None:
        _check_choice(window, 0)
        notes.append("The header has no window: the full range of the pixel values is shown.")
        return None
    # C.11.2 leaves the choice to the viewer where both are there; the LUT is the more specific of the two.
    if first_item(holder, "VOILUTSequence") is not None:
        count = len(holder.VOILUTSequence)
        _check_choice(window, count)
        if count > 1:
            notes.append(f"VOI LUT {window} of {count} was used.")
        return _lookup_table(holder.VOILUTSequence[window - 1], signed, little_endian).fraction
    centers, widths = numbers(holder, "WindowCenter"), numbers(holder, "WindowWidth")
    count = min(len(centers), len(widths))
    function = (text(holder, "VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Refusal(
            Reason.UNREADABLE,
            "the header asks for a window function that DICOM does not define",
            got=function,
            expected="LINEAR, LINEAR_EXACT or SIGMOID",
        )
    if not count:
        notes.append("The header's window cannot be used: the full range of the pixel values is shown.")
        return None
    _check_choice(window, count)
    center, width = centers[window - 1], widths[window - 1]
    if count > 1:
        notes.append(f"Window {window} of {count} was used (center {center:g}, width {width:g}).")
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        notes.append(f"The header's window has the invalid width {width:g}: the full range is shown.")
        return None
    if function == "LINEAR" and width < 1:  # C.11.2.1.2.1 forbids it; the exact form says what was meant
        notes.append(f"The header's window is narrower than 1 ({width:g}): read as LINEAR_EXACT.")
        function = "LINEAR_EXACT"
    return Window(center, width, function).fraction


def _check_choice(window: int, count: int) -> None:
    if window != 1 and not 1 <= window <= count:
        raise Refusal(
            Reason.UNREADABLE,
            f"the file has no window {window}",
            got=f"{count} windows or VOI LUTs",
            remedy="choose another window, or none for the first",
        )


def _lookup_table(item: Dataset, signed: bool, little_endian: bool) -> LookupTable:
    """Read LUT Descriptor (entries, where 0 is 65,536; first input; bits) and LUT Data, PS3.3 C.11.1.1.1."""
    descriptor = [int(value) for value in numbers(item, "LUTDescriptor")]
    if len(descriptor) != 3:
        raise _bad_table(f"a descriptor of {len(descriptor)} values")
    count, first, bits = descriptor[0] % 0x10000 or 0x10000, descriptor[1], descriptor[2]
    if not 1 <= bits <= 16:
        raise _bad_table(f"{bits} bits an entry")
    data: Any = item.get("LUTData")
    entries: Floats
    if isinstance(data, bytes | bytearray):
        if len(data) >= 2 * count:
            entries = np.frombuffer(data, "<u2" if little_endian else ">u2", count).astype(np.float64)
        elif len(data) >= count and bits <= 8:  # packed, two entries to a word
            entries = np.frombuffer(data, np.uint8, count).astype(np.float64)
        else:
            raise _bad_table(f"{len(data)} bytes for {count} entries")
    else:
        values = numbers(item, "LUTData")
        if len(values) < count:
            raise _bad_table(f"{len(values)} of {count} entries")
        entries = np.asarray(values[:count], dtype=np.float64)
    # Some writers state fewer bits than their entries have.
    maximum = max(float(2**bits - 1), float(entries.max()))
    return LookupTable(_as_pixel(first, signed) if signed else first, entries, maximum)


def _bad_table(got: str) -> Refusal:
    return Refusal(
        Reason.UNREADABLE,
        "a lookup table in the header is damaged",
        got=got,
        expected="a descriptor of three values and as many entries as it says (PS3.3 C.11.1.1)",
        remedy="export the image again",
    )

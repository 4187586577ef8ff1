"""DICOM radiographs: parse within limits, judge the header, decode a frame, show it in grey.

The steps have modules of their own: `dicom_file`, `dicom_suitability`, `dicom_frame`, `dicom_grey`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from edge_runtime.errors import Reason, Refusal
from edge_runtime.radiograph import Radiograph
from edge_runtime.reading.colour import grey_from_colour
from edge_runtime.reading.dicom_file import load_data_set, refusing_damage
from edge_runtime.reading.dicom_frame import Frame, decode_frame
from edge_runtime.reading.dicom_grey import to_display
from edge_runtime.reading.dicom_grey_rules import grey_rules
from edge_runtime.reading.dicom_header import first_item, header_facts
from edge_runtime.reading.dicom_suitability import check_suitable
from edge_runtime.reading.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from edge_runtime.reading.limits import ReadingLimits

__all__ = ["read_dicom", "show_frame"]

_MAX_FUNCTIONAL_GROUP_BYTES: Final = 64 * 2**20


def read_dicom(
    file: BinaryIO,
    size: int,
    name: str,
    limits: ReadingLimits = DEFAULT_LIMITS,
    *,
    frame: int | None = None,
    window: int = 1,
) -> Radiograph:
    """Read a chest radiograph from a DICOM file: parse, judge the header, decode, show.

    Parameters
    ----------
    file, size, name
        The file, open for reading bytes, its size, and how to call it in messages.
    frame
        Which frame of a multi-frame object, 1 the first; None accepts single frames only.
    window
        Which of several windows or VOI LUTs, 1 the first.

    Raises
    ------
    Refusal
        With a reason code.
    InputError
        The decoder of the transfer syntax is not installed.
    """
    with warnings.catch_warnings(), refusing_damage(f"{name} cannot be read"):
        warnings.simplefilter("ignore")  # pydicom warns of harmless deviations in thousands of real files
        data_set = load_data_set(file, size, limits)
        notes = check_suitable(data_set)
        facts = header_facts(data_set)
        decoded = decode_frame(data_set, name, limits, frame=frame)
        limits.check_edge(name, *decoded.values.shape[:2])
        del data_set["PixelData"]  # the decoded values are all that is needed from here on
        pixels, more_notes = show_frame(data_set, decoded, name, frame=frame, window=window)
    return Radiograph(pixels, "DICOM", facts, (*notes, *decoded.notes, *more_notes))


def show_frame(
    data_set: Dataset, decoded: Frame, name: str, *, frame: int | None = None, window: int = 1
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Turn a decoded frame into grey: the greyscale pipeline, or colour that is grey in fact.

    Returns
    -------
    pixels, notes
        uint8 [H, W], 0 black.

    Raises
    ------
    Refusal
        ``unreadable``, ``colour_photo`` or ``no_contrast``.
    """
    values = decoded.values
    if decoded.photometric in ("MONOCHROME1", "MONOCHROME2") and values.ndim == 2:
        rules, notes = grey_rules(
            _views(data_set, (frame or 1) - 1),
            photometric=decoded.photometric,
            signed=values.dtype.kind == "i",
            little_endian=data_set.file_meta.TransferSyntaxUID.is_little_endian,
            window=window,
        )
        return to_display(values, rules), notes
    bits = decoded.bits
    if decoded.photometric == "PALETTE COLOR" and values.ndim == 2:
        values, bits = _apply_palette(data_set, values, name)
    elif decoded.photometric != "RGB" or values.ndim != 3 or values.dtype.kind != "u":
        raise Refusal(
            Reason.UNREADABLE,
            f"{name} has a colour space that this runtime does not read",
            got=decoded.photometric,
            expected="MONOCHROME1, MONOCHROME2, RGB, YBR or PALETTE COLOR",
            remedy="export the image in grey",
        )
    if bits > 8:
        values = values >> (bits - 8)
    elif bits < 8:
        values = values << (8 - bits)
    grey, notes = grey_from_colour(name, values.astype(np.uint8, copy=False))
    if grey.min() == grey.max():
        raise Refusal(Reason.NO_CONTRAST, f"{name} is one even grey", remedy="export the image again")
    return grey, ("The radiograph is stored as a colour image; it has no window to apply.", *notes)


def _views(data_set: Dataset, index: int) -> Sequence[Dataset]:
    """Where to look for window and rescale: enhanced objects have functional groups (PS3.3 C.7.6.16)."""
    views: list[Dataset] = []
    for keyword, position in (
        ("PerFrameFunctionalGroupsSequence", index),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        group = first_item(data_set, keyword, position, limit=_MAX_FUNCTIONAL_GROUP_BYTES)
        if group is not None:
            inner = (first_item(group, part) for part in ("FrameVOILUTSequence", "PixelValueTransformationSequence"))
            views += [item for item in inner if item is not None]
    return [*views, data_set]


def _apply_palette(data_set: Dataset, values: NDArray[Any], name: str) -> tuple[NDArray[Any], int]:
    """Look up PALETTE COLOR (PS3.3 C.7.6.3.1.5, C.7.9); returns RGB and its bits."""
    from pydicom.pixels.processing import apply_color_lut

    with refusing_damage(f"the palette of {name} is damaged"):
        count, _, depth = data_set.RedPaletteColorLookupTableDescriptor
        if not data_set.file_meta.TransferSyntaxUID.is_little_endian:
            # pydicom 3.0 reads these words as little endian whatever the transfer syntax
            for channel in ("Red", "Green", "Blue"):
                keyword = f"{channel}PaletteColorLookupTableData"
                entries = data_set.get(keyword)
                if entries is not None and len(entries) == 2 * (count or 0x10000):
                    setattr(data_set, keyword, np.frombuffer(entries, np.uint16).byteswap().tobytes())
        rgb = apply_color_lut(values, data_set)[..., :3]
    is_deep = int(rgb.max()) >= 2 ** int(depth)  # the descriptor may state fewer bits than the entries have
    return rgb, 8 * rgb.dtype.itemsize if is_deep else int(depth)

"""Decoding one frame of a data set to its stored values.

What the header and the compressed stream claim is checked before a decoder allocates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import get_frame

from edge_runtime.errors import Reason, Refusal
from edge_runtime.reading.dicom_codestream import read_codestream
from edge_runtime.reading.dicom_decoders import decoder_for
from edge_runtime.reading.dicom_file import damaged, refusing_damage
from edge_runtime.reading.dicom_header import has_value, text, whole_number
from edge_runtime.reading.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from edge_runtime.reading.limits import ReadingLimits

__all__ = ["Frame", "decode_frame"]


class Frame(NamedTuple):
    """One decoded frame: its values as stored, and what they mean now."""

    values: NDArray[Any]
    """[H, W] stored values or [H, W, 3] samples, unused bits cleared or sign-extended; may be read-only."""
    photometric: str
    """Photometric Interpretation of ``values``; RGB where the decoder turned YBR into it."""
    bits: int
    """Bits Stored."""
    notes: tuple[str, ...] = ()


def decode_frame(
    data_set: Dataset, name: str, limits: ReadingLimits = DEFAULT_LIMITS, *, frame: int | None = None
) -> Frame:
    """Decode one frame, without judging whether the image is suitable.

    Parameters
    ----------
    data_set
        As `load_data_set` leaves it, with ``file_meta``.
    frame
        Which frame, 1 the first; None accepts single frames only.

    Raises
    ------
    Refusal
        ``unreadable``, ``multi_frame``, ``too_large``; ``not_a_radiograph`` for floating-point values.
    InputError
        The decoder of the transfer syntax is not installed.
    """
    if not has_value(data_set, "PixelData"):
        _refuse_no_pixels(data_set, name)
    index = _frame_index(data_set, name, frame)
    rows, columns = whole_number(data_set, "Rows"), whole_number(data_set, "Columns")
    samples = whole_number(data_set, "SamplesPerPixel", 1)
    allocated = whole_number(data_set, "BitsAllocated")
    stored = whole_number(data_set, "BitsStored", allocated)
    high_bit = whole_number(data_set, "HighBit", stored - 1)
    if (
        min(rows, columns) < 1
        or samples not in (1, 3)
        or allocated not in (1, 8, 16, 32)
        or not 1 <= stored <= high_bit + 1 <= allocated
    ):
        raise Refusal(
            Reason.UNREADABLE,
            f"the header of {name} describes no image",
            got=f"{columns} x {rows} x {samples} samples, {stored} of {allocated} bits, high bit {high_bit}",
            expected="1 or 3 samples of up to 32 bits",
            remedy="export the image again",
        )
    limits.check_pixels(name, rows, columns)
    syntax = data_set.file_meta.TransferSyntaxUID
    spoken = syntax.name if syntax.name != str(syntax) else f"transfer syntax {syntax}"
    with refusing_damage(f"the image in {name} cannot be decoded ({spoken})"):
        decoder, plugin = decoder_for(syntax)
        # In other compressed streams the values are whole samples and High Bit means nothing.
        shift = high_bit + 1 - stored if decoder.is_native or syntax == uid.RLELossless else 0
        options: dict[str, Any] = {"decoding_plugin": plugin, "allow_excess_frames": False}
        if shift:
            options["correct_unused_bits"] = False
        if decoder.is_native:
            _check_native(data_set, rows * columns * samples * allocated, index)
            # A view spares a copy where pydicom would not change the values anyway.
            options["view_only"] = samples == 1 and (allocated == stored or shift > 0)
        elif syntax != uid.RLELossless:  # the RLE decoder fills a buffer of the header's size and no more
            _check_compressed(data_set, index, rows, columns, samples)
        values, properties = decoder.as_array(data_set, index=index, **options)
        photometric = str(properties["photometric_interpretation"])
    if not shift:
        return Frame(values, photometric, stored)
    note = f"The header's High Bit is {high_bit} for {stored} bits: the values were shifted by {shift}."
    return Frame(_shifted(values, shift, stored), photometric, stored, (note,))


def _refuse_no_pixels(data_set: Dataset, name: str) -> None:
    if "FloatPixelData" in data_set or "DoubleFloatPixelData" in data_set:
        raise Refusal(
            Reason.NOT_A_RADIOGRAPH,
            f"{name} holds floating-point values (a parametric map), not a radiograph",
            expected="whole numbers of up to 16 bits",
            remedy="choose the study's frontal chest radiograph",
        )
    raise Refusal(
        Reason.UNREADABLE,
        f"{name} is DICOM but holds no image, or ends before it",
        got=f"modality {text(data_set, 'Modality') or 'absent'}",
        expected="Pixel Data",
        remedy="choose the radiograph itself, or copy the file again",
    )


def _frame_index(data_set: Dataset, name: str, frame: int | None) -> int:
    count = max(1, whole_number(data_set, "NumberOfFrames", 1))
    if frame is None and count > 1:
        raise Refusal(
            Reason.MULTI_FRAME,
            f"{name} holds {count} frames; a radiograph has one",
            remedy="choose the frame to judge, or export it alone",
        )
    if frame is not None and not 1 <= frame <= count:
        raise Refusal(Reason.MULTI_FRAME, f"{name} has no frame {frame}", expected=f"a frame from 1 to {count}")
    return 0 if frame is None else frame - 1


def _check_native(data_set: Dataset, frame_bits: int, index: int) -> None:
    """Check that native pixel data reach to the end of the frame (sub-sampled YBR takes two thirds)."""
    if (text(data_set, "PhotometricInterpretation") or "") == "YBR_FULL_422":
        frame_bits = frame_bits * 2 // 3
    needed, found = -(-frame_bits * (index + 1) // 8), len(data_set.PixelData)
    if found < needed:
        raise Refusal(
            Reason.UNREADABLE,
            "the file's pixel data end too early: it is truncated",
            got=f"{found} bytes",
            expected=f"{needed} bytes",
            remedy="copy or export the file again",
        )


def _check_compressed(data_set: Dataset, index: int, rows: int, columns: int, samples: int) -> None:
    """Check that the compressed frame is of the size that the header says, and whole."""
    count = max(1, whole_number(data_set, "NumberOfFrames", 1))
    stream = read_codestream(get_frame(data_set.PixelData, index, number_of_frames=count))
    if not stream.is_complete:
        raise damaged("the file's compressed image has no end: it is truncated")
    if (stream.rows, stream.columns, stream.components) != (rows, columns, samples):
        raise Refusal(
            Reason.UNREADABLE,
            "the file's header and its compressed image disagree about its size",
            got=f"{stream.columns} x {stream.rows} pixels of {stream.components} samples in the image",
            expected=f"{columns} x {rows} pixels of {samples} samples, as the header says",
            remedy="export the image again",
        )


def _shifted(values: NDArray[Any], shift: int, stored: int) -> NDArray[Any]:
    """Take the stored bits from the middle of the word, where High Bit says they are (PS3.5 8.1.1)."""
    native = values.astype(values.dtype.newbyteorder("="))
    up = 8 * native.dtype.itemsize - stored - shift
    raised: NDArray[Any] = np.left_shift(native, up)
    result: NDArray[Any] = np.right_shift(raised, up + shift)  # keeps the sign of signed values
    return result

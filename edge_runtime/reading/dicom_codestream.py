"""The size that a compressed frame itself claims, read before a decoder allocates for it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Codestream", "read_codestream"]


@dataclass(frozen=True)
class Codestream:
    """Rows, columns and components that a stream states, and whether it has its end marker."""

    rows: int
    columns: int
    components: int
    is_complete: bool


def read_codestream(frame: bytes) -> Codestream:
    """Read the frame header of a JPEG family stream.

    Parameters
    ----------
    frame
        One encoded frame: JPEG (ISO 10918-1), JPEG-LS (14495-1), JPEG 2000 or HTJ2K (15444-1 and -15),
        bare or in a JP2 file.

    Raises
    ------
    ValueError
        It is none of them, or ends before its frame header.
    """
    # Both families end with FFD9; padding to even length and stray bytes may follow.
    is_complete = b"\xff\xd9" in frame[-64:]
    try:
        if frame[:2] == b"\xff\xd8":
            rows, columns, components = _jpeg_size(frame)
        else:
            rows, columns, components = _jpeg2000_size(frame)
    except (struct.error, IndexError) as error:
        raise ValueError("the compressed frame ends before its header") from error
    return Codestream(rows, columns, components, is_complete)


def _jpeg_size(frame: bytes) -> tuple[int, int, int]:
    offset = 2
    while True:
        if frame[offset] != 0xFF:
            raise ValueError("the JPEG stream is damaged")
        while frame[offset + 1] == 0xFF:  # fill bytes, ISO 10918-1 B.1.1.2
            offset += 1
        marker = frame[offset + 1]
        # SOF0-15 without DHT, JPG, DAC, and SOF55 of JPEG-LS
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns, components = struct.unpack_from(">HHB", frame, offset + 5)
            return rows, columns, components
        (length,) = struct.unpack_from(">H", frame, offset + 2)
        if length < 2:
            raise ValueError("the JPEG stream is damaged")
        offset += 2 + length


def _jpeg2000_size(frame: bytes) -> tuple[int, int, int]:
    offset = 0 if frame[:2] == b"\xff\x4f" else _jp2_codestream(frame)
    if frame[offset : offset + 4] != b"\xff\x4f\xff\x51":
        raise ValueError("the compressed frame is no JPEG, JPEG-LS or JPEG 2000 stream")
    right, bottom, left, top = struct.unpack_from(">IIII", frame, offset + 8)
    (components,) = struct.unpack_from(">H", frame, offset + 40)
    return bottom - top, right - left, components


def _jp2_codestream(frame: bytes) -> int:
    """Offset of the codestream in a JP2 file (DICOM forbids the JP2 header; some writers leave it on)."""
    offset = 0
    while offset + 8 <= len(frame):
        (length,) = struct.unpack_from(">I", frame, offset)
        if frame[offset + 4 : offset + 8] == b"jp2c":
            return offset + 8
        if length < 8:
            break
        offset += length
    raise ValueError("the compressed frame is no JPEG, JPEG-LS or JPEG 2000 stream")

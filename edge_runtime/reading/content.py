"""What a file is, judged by its first bytes and never by its name."""

from __future__ import annotations

import struct
from typing import Final, Literal

__all__ = ["HEAD_BYTES", "Kind", "describe", "recognize"]

Kind = Literal["DICOM", "PNG", "JPEG", "TIFF"]

HEAD_BYTES: Final = 512
"""How much of the start of a file `recognize` and `describe` want to see."""

_IMAGES: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

_OTHERS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive (or an Office document)"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (0, b"\x00\x00\x00\x0cjP  ", "a bare JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a bare JPEG 2000 image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyp", "a video or HEIC/AVIF image"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document"),
    (0, b"SQLite format 3", "a database"),
    (257, b"ustar", "a tar archive"),
    (344, b"n+1\x00", "a NIfTI volume"),
)

# VRs that the first elements of a data set can have (PS3.5 table 6.2-1: those of groups 0002 and 0008).
_FIRST_VRS: Final = frozenset((b"UL", b"OB", b"UI", b"SH", b"AE", b"CS", b"DA", b"TM", b"LO", b"DT", b"ST"))


def recognize(head: bytes) -> Kind | None:
    """Tell the kind of a file from its first bytes.

    DICOM comes first: PS3.10 7.1 lets a preamble hold another format's magic number (dual-personality TIFF).

    Parameters
    ----------
    head
        The first `HEAD_BYTES` bytes of the file (fewer where it has fewer).
    """
    if head[128:132] == b"DICM":
        return "DICOM"
    for magic, kind in _IMAGES:
        if head.startswith(magic):
            return kind
    return "DICOM" if _is_bare_data_set(head) else None


def _is_bare_data_set(head: bytes) -> bool:
    """Tell whether a file without preamble starts like a DICOM data set: an element of group 0002 or 0008."""
    if len(head) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack_from(f"{order}HH", head)
        if group not in (0x0002, 0x0008) or element > 0x1200:
            continue
        if head[4:6] in _FIRST_VRS:
            return True
        (length,) = struct.unpack_from(f"{order}I", head, 4)
        # Implicit VR: little endian only, and the first values are short.
        if order == "<" and length <= 1024 and length % 2 == 0:
            return True
    return False


def describe(head: bytes) -> str:
    """Say in plain words what a file that is no radiograph seems to be."""
    if not head.strip(b"\x00"):
        return "nothing but zero bytes"
    for offset, magic, words in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            return words
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith((b"<?xml", b"<svg")):
        return "an XML file"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n\f" or byte >= 0xC2 for byte in head)
    if printable >= 0.95 * len(head) and b"\x00" not in head:
        return "a text file"
    return "data of an unknown kind"

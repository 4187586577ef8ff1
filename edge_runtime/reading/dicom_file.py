"""Parsing a DICOM file into a data set within limits: bytes read, elements, inflated size."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset

from edge_runtime.errors import EdgeRuntimeError, Reason, Refusal

if TYPE_CHECKING:
    from pydicom.tag import BaseTag

    from edge_runtime.reading.limits import ReadingLimits

__all__ = ["BoundedFile", "damaged", "load_data_set", "refusing_damage"]

_READS_PER_ELEMENT: Final = 2
_STEP: Final = 1 << 20
_ALWAYS_INFLATED: Final = 16 << 20


class BoundedFile:
    """A binary file for pydicom that never reads beyond its end and gives up after so many reads.

    pydicom makes one to three reads an element, two for most, so this bounds the time and memory of a header that is
    made of millions of tiny elements; and a length field of 4 GiB allocates nothing.
    """

    def __init__(self, file: BinaryIO, size: int, max_elements: int) -> None:
        self._file = file
        self._size = size
        self._max_elements = max_elements
        self._reads_left = max_elements * _READS_PER_ELEMENT

    def read(self, count: int | None = -1, /) -> bytes:
        """Read up to ``count`` bytes, at most to the end of the file."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise Refusal(
                Reason.TOO_LARGE,
                "the file's header has more elements than this runtime parses",
                expected=f"at most {self._max_elements} elements",
                remedy="export the single radiograph; the file is damaged or no image",
            )
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if count is None or count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def load_data_set(file: BinaryIO, size: int, limits: ReadingLimits) -> Dataset:
    """Parse a DICOM file, or a bare data set without preamble or file meta information (PS3.10 7.1).

    Parameters
    ----------
    file, size
        Open for reading bytes, and its size.

    Returns
    -------
    Dataset
        With ``file_meta``, whose Transfer Syntax UID is the one that the pixel data have now: a deflated data
        set is inflated (Explicit VR Little Endian), and one that does not say is read as its bytes show.

    Raises
    ------
    Refusal
        ``unreadable`` or ``too_large``.
    """
    with refusing_damage("the file starts like DICOM but cannot be parsed"):
        return _parse(BoundedFile(file, size, limits.max_header_elements), limits)


@contextmanager
def refusing_damage(what: str) -> Iterator[None]:
    """Turn whatever pydicom or a decoder raises on damaged data into a refusal that starts with ``what``."""
    try:
        yield
    except EdgeRuntimeError:
        raise
    except EOFError as error:
        raise damaged("the file ends in the middle: it is truncated", error) from error
    except MemoryError as error:
        raise Refusal(Reason.TOO_LARGE, "the file needs more memory than this device has") from error
    except Exception as error:
        raise damaged(what, error) from error


def damaged(what: str, error: Exception | None = None) -> Refusal:
    """Build the refusal of a file that is damaged; only the first line of a library's message is shown."""
    lines = str(error).strip().splitlines() if error is not None else []
    detail = None if error is None else f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    return Refusal(Reason.UNREADABLE, what, got=detail, remedy="copy or export the file again")


def _parse(file: BoundedFile, limits: ReadingLimits) -> Dataset:
    file.seek(128)
    file.seek(132 if file.read(4) == b"DICM" else 0)
    meta = FileMetaDataset()
    # Some files lie about the length of this group or lack it; its elements end where another group starts.
    if _peek(file, 2) == b"\x02\x00":
        stream = cast(BinaryIO, file)
        for element in read_dataset(stream, False, True, stop_when=_after_meta).elements():
            meta[element.tag] = element
    syntax: uid.UID | None = meta.get("TransferSyntaxUID")
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        content = _inflate(file, limits)
        file = BoundedFile(io.BytesIO(content), len(content), limits.max_header_elements)
        syntax = uid.ExplicitVRLittleEndian
    elif not syntax:
        syntax = _guess_syntax(file)
    implicit, little = (False, True) if syntax.is_private else (syntax.is_implicit_VR, syntax.is_little_endian)
    data_set = read_dataset(cast(BinaryIO, file), implicit, little)
    data_set.set_original_encoding(implicit, little, data_set._character_set)
    meta.TransferSyntaxUID = syntax
    data_set.file_meta = meta
    return data_set


def _after_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _peek(file: BoundedFile, count: int) -> bytes:
    start = file.tell()
    head = file.read(count)
    file.seek(start)
    return head


def _guess_syntax(file: BoundedFile) -> uid.UID:
    """Tell the encoding from the first element: VR letters or none, the group's small byte first or last."""
    head = _peek(file, 6)
    if not head[4:6].isalpha():
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if head[1] == 0 else uid.ExplicitVRBigEndian


def _inflate(file: BoundedFile, limits: ReadingLimits) -> bytes:
    """Inflate the rest of the file (PS3.5 A.5: a raw deflate stream), a step at a time, and stop at the limit."""
    deflated = file.read()
    limit = min(limits.max_inflated_bytes, max(_ALWAYS_INFLATED, len(deflated) * limits.max_inflated_ratio))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = bytearray()
    for start in range(0, len(deflated), _STEP):
        waiting = deflated[start : start + _STEP]
        while waiting and not inflater.eof:
            content += inflater.decompress(waiting, _STEP)
            waiting = inflater.unconsumed_tail
            if len(content) > limit:
                raise Refusal(
                    Reason.TOO_LARGE,
                    "the file inflates to more than this runtime opens",
                    got=f"more than {limit / 2**20:.0f} MiB out of {len(deflated) / 2**20:.1f} MiB",
                    expected=f"at most {limit / 2**20:.0f} MiB",
                    remedy="export the single radiograph without deflating",
                )
        if inflater.eof:
            break
    if not inflater.eof:
        content += inflater.flush()
    if not inflater.eof:
        raise EOFError("the deflated stream has no end")
    return bytes(content)

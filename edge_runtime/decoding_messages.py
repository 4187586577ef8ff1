"""What the runtime and a decoding process say to each other: JSON and pixels, checked as they come.

No pickles: a decoder that a hostile file has taken over can send wrong pixels, and no code.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from dataclasses import asdict, dataclass
from multiprocessing import BufferTooShort, reduction
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from edge_runtime.errors import EdgeRuntimeError, InputError, Reason, Refusal
from edge_runtime.radiograph import HeaderFacts, Radiograph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.reading.limits import ReadingLimits

__all__ = ["Request", "SharedPixels", "receive_radiograph", "send_failure", "send_radiograph"]

_MOST_BYTES: Final = 1 << 20
_PIXELS_SECONDS: Final = 10.0
_KEPT_BYTES: Final = 4 << 20


class SharedPixels:
    """Memory that the runtime and one decoding process both see (Linux): a pipe takes a millisecond a megapixel.

    It grows as it is written, and what is large is given back after each radiograph. Handed to a process as one of
    ``multiprocessing``'s arguments.
    """

    def __init__(self, size: int, duplicate: Any = None) -> None:
        assert sys.platform == "linux"
        self._size = size
        if duplicate is None:
            self._descriptor = os.memfd_create("edge-runtime-pixels", os.MFD_CLOEXEC)
            os.ftruncate(self._descriptor, size)
        else:
            self._descriptor = duplicate.detach()
        try:
            self._map = mmap.mmap(self._descriptor, size)
        except OSError:
            os.close(self._descriptor)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedPixels, (self._size, reduction.DupFd(self._descriptor))

    @classmethod
    def there(cls, size: int) -> SharedPixels | None:
        """Return such memory, or None where the system has none."""
        if sys.platform != "linux":
            return None
        try:
            return cls(size)
        except OSError:
            return None

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Put pixels, uint8 [H, W], at the start."""
        np.ndarray(pixels.shape, np.uint8, self._map)[...] = pixels

    def take(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return a copy of the pixels, and give back what is large."""
        pixels: NDArray[np.uint8] = np.ndarray(shape, np.uint8, self._map).copy()
        if pixels.size > _KEPT_BYTES:
            assert sys.platform == "linux"
            self._map.madvise(mmap.MADV_REMOVE)
        return pixels

    def close(self) -> None:
        """Let go of it."""
        self._map.close()
        os.close(self._descriptor)


@dataclass(frozen=True)
class Request:
    """A file to read, as :func:`~edge_runtime.reading.read_radiograph` takes it."""

    path: str
    frame: int | None = None
    window: int = 1

    def encode(self) -> bytes:
        """Return it as JSON; a path that is no text survives (``\\udcxx``)."""
        return json.dumps(asdict(self)).encode()


class _Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    what: str
    got: str | None
    expected: str | None
    remedy: str | None
    reason: Reason | None
    """Of a refusal; None for a file that could not be reached."""


class _Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    shape: tuple[int, int]
    source_format: str
    facts: HeaderFacts
    notes: tuple[str, ...]


class _Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two."""

    picture: _Picture | None = None
    failure: _Failure | None = None


def send_radiograph(pipe: Connection, radiograph: Radiograph, shared: SharedPixels | None = None) -> None:
    """Send what was read: its pixels through the shared memory and its description, or one after the other."""
    rows, columns = radiograph.pixels.shape
    picture = _Picture((rows, columns), radiograph.source_format, radiograph.facts, radiograph.notes)
    if shared is not None:
        shared.write(radiograph.pixels)
    _send(pipe, _Reply(picture=picture))
    if shared is None:
        pipe.send_bytes(np.ascontiguousarray(radiograph.pixels).data.cast("B"))


def send_failure(pipe: Connection, error: EdgeRuntimeError) -> None:
    """Send why it was not read."""
    reason = error.reason if isinstance(error, Refusal) else None
    _send(pipe, _Reply(failure=_Failure(error.what, error.got, error.expected, error.remedy, reason)))


def receive_radiograph(pipe: Connection, limits: ReadingLimits, shared: SharedPixels | None = None) -> Radiograph:
    """Return what :func:`send_radiograph` sent, or raise what :func:`send_failure` did.

    Raises
    ------
    Refusal, InputError
        As sent.
    OSError, EOFError
        The other side is gone, or sent something else.
    """
    try:
        reply = msgspec.convert(json.loads(pipe.recv_bytes(_MOST_BYTES)), _Reply, strict=False)
    except ValueError as error:  # msgspec's and json's errors are ValueErrors
        raise OSError("the decoder's reply cannot be read") from error
    failure, picture = reply.failure, reply.picture
    if failure is not None:
        details = {"got": failure.got, "expected": failure.expected, "remedy": failure.remedy}
        if failure.reason is not None:
            raise Refusal(failure.reason, failure.what, **details)
        raise InputError(failure.what, **details)
    if picture is None or min(picture.shape) < 1 or picture.shape[0] * picture.shape[1] > limits.max_pixels:
        raise OSError("the decoder's reply holds no radiograph")
    pixels = _pixels_from(pipe, picture.shape) if shared is None else shared.take(picture.shape)
    return Radiograph(pixels, picture.source_format, picture.facts, picture.notes)


def _pixels_from(pipe: Connection, shape: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = np.empty(shape, np.uint8)
    try:
        whole = pipe.poll(_PIXELS_SECONDS) and pipe.recv_bytes_into(pixels.data.cast("B")) == pixels.size
    except BufferTooShort:
        whole = False
    if not whole:
        raise OSError("the decoder's pixels are not whole")
    return pixels


def _send(pipe: Connection, reply: _Reply) -> None:
    pipe.send_bytes(json.dumps(msgspec.to_builtins(reply)).encode())

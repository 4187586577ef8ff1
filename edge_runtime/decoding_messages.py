"""What the runtime and a decoding process say to each other: JSON and pixels, checked as they come.

No pickles: a decoder that a hostile file has taken over can send wrong pixels, and no code.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from multiprocessing import BufferTooShort
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from edge_runtime.errors import EdgeRuntimeError, InputError, Reason, Refusal
from edge_runtime.radiograph import HeaderFacts, Radiograph

if TYPE_CHECKING:
    from edge_runtime.reading.limits import ReadingLimits

__all__ = ["Request", "receive_radiograph", "send_failure", "send_radiograph"]

_MOST_BYTES: Final = 1 << 20
_PIXELS_SECONDS: Final = 10.0


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


def send_radiograph(pipe: Connection, radiograph: Radiograph) -> None:
    """Send what was read: its description, then its pixels."""
    rows, columns = radiograph.pixels.shape
    picture = _Picture((rows, columns), radiograph.source_format, radiograph.facts, radiograph.notes)
    _send(pipe, _Reply(picture=picture))
    pipe.send_bytes(np.ascontiguousarray(radiograph.pixels).data.cast("B"))


def send_failure(pipe: Connection, error: EdgeRuntimeError) -> None:
    """Send why it was not read."""
    reason = error.reason if isinstance(error, Refusal) else None
    _send(pipe, _Reply(failure=_Failure(error.what, error.got, error.expected, error.remedy, reason)))


def receive_radiograph(pipe: Connection, limits: ReadingLimits) -> Radiograph:
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
    pixels = np.empty(picture.shape, np.uint8)
    try:
        whole = pipe.poll(_PIXELS_SECONDS) and pipe.recv_bytes_into(pixels.data.cast("B")) == pixels.size
    except BufferTooShort:
        whole = False
    if not whole:
        raise OSError("the decoder's pixels are not whole")
    return Radiograph(pixels, picture.source_format, picture.facts, picture.notes)


def _send(pipe: Connection, reply: _Reply) -> None:
    pipe.send_bytes(json.dumps(msgspec.to_builtins(reply)).encode())

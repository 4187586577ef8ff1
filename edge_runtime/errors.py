"""The runtime's errors: what happened, what was found, what was expected, and what to do about it."""

from __future__ import annotations

from enum import Enum

__all__ = [
    "BackendError",
    "BundleError",
    "DecoderError",
    "EdgeRuntimeError",
    "Fault",
    "InputError",
    "Reason",
    "Refusal",
    "UsageError",
]


class EdgeRuntimeError(Exception):
    """Base of everything the runtime raises on purpose.

    Parameters
    ----------
    what
        One plain sentence: what went wrong, naming the file or the setting.
    got, expected
        What was found and what would have been right; either may be left out.
    remedy
        What the reader can do next.
    """

    def __init__(
        self, what: str, *, got: str | None = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.got = got
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.what]
        if self.got is not None:
            parts.append(f"got: {self.got}")
        if self.expected is not None:
            parts.append(f"expected: {self.expected}")
        if self.remedy is not None:
            parts.append(f"remedy: {self.remedy}")
        return "; ".join(parts)


class UsageError(EdgeRuntimeError):
    """The request itself is wrong (an artifact or backend that does not exist): exit code 2."""


class BundleError(EdgeRuntimeError):
    """A bundle is missing, damaged, tampered with, or of a schema this runtime does not read."""


class BackendError(EdgeRuntimeError):
    """A backend is not installed, or cannot open or run an artifact."""


class InputError(EdgeRuntimeError):
    """A file could not be reached (absent, no permission): the answer's status is ``error``."""


class Reason(str, Enum):
    """Why a file was refused. The values are part of the machine-readable output."""

    UNREADABLE = "unreadable"
    NOT_A_RADIOGRAPH = "not_a_radiograph"
    LATERAL_VIEW = "lateral_view"
    INVERTED = "inverted"
    ROTATED = "rotated"
    CHILD_UNDER_LIMIT = "child_under_limit"
    COLOUR_PHOTO = "colour_photo"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    MULTI_FRAME = "multi_frame"
    NO_CONTRAST = "no_contrast"


class Fault(str, Enum):
    """Why a file ended in ``error``: not its content, but its absence or our own fault. Machine-readable."""

    UNREACHABLE = "unreachable"
    """Absent, or the operating system would not read it."""
    NO_IMAGES = "no_images"
    """A folder without a file to read."""
    BACKEND_FAILED = "backend_failed"
    OUT_OF_MEMORY = "out_of_memory"
    DECODER_TIMED_OUT = "decoder_timed_out"
    """Reading took longer than a file may take, and was given up."""
    DECODER_DIED = "decoder_died"
    """The process that read the file ended: its decoder crashed, or the system killed it."""
    INTERNAL_ERROR = "internal_error"


class DecoderError(EdgeRuntimeError):
    """A file's decoder hung or died, which says nothing of the file for sure: the answer's status is ``error``."""

    def __init__(self, fault: Fault, what: str, *, got: str | None = None, remedy: str | None = None) -> None:
        super().__init__(what, got=got, remedy=remedy)
        self.fault = fault


class Refusal(EdgeRuntimeError):  # noqa: N818 - a refusal is an answer, not a fault
    """The file was reached but cannot be judged: the answer's status is ``refused``."""

    def __init__(
        self,
        reason: Reason,
        what: str,
        *,
        got: str | None = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, got=got, expected=expected, remedy=remedy)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Refusal], tuple[Reason, str], dict[str, object]]:
        # An exception is pickled as type(*args): without this a refusal in a worker process breaks its pool.
        return type(self), (self.reason, self.what), self.__dict__

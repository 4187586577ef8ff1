"""Any file in, a displayable radiograph out, or a refusal that says why.

Nothing heavy is imported before a file asks for it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from edge_runtime.errors import InputError, Reason, Refusal
from edge_runtime.reading.content import HEAD_BYTES, describe, recognize
from edge_runtime.reading.limits import DEFAULT_LIMITS, ReadingLimits

if TYPE_CHECKING:
    from edge_runtime.radiograph import Radiograph

__all__ = ["ReadingLimits", "looks_readable", "read_radiograph"]

_SUFFIXES: Final = frozenset((".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff"))


def read_radiograph(
    path: str | Path,
    limits: ReadingLimits = DEFAULT_LIMITS,
    *,
    frame: int | None = None,
    window: int = 1,
) -> Radiograph:
    """Read a frontal chest radiograph from a DICOM, PNG, JPEG or TIFF file, judged by its content.

    Parameters
    ----------
    path
        The file; its name and suffix decide nothing.
    limits
        Caps on bytes, elements and pixels, checked before anything is spent.
    frame
        Which frame of a multi-frame object or page of a TIFF, 1 the first; None accepts single images only.
    window
        Which of several DICOM windows or VOI LUTs, 1 the first.

    Returns
    -------
    Radiograph
        uint8 [H, W], 0 black, bone bright; header facts; notes that the answer should carry.

    Raises
    ------
    Refusal
        The file was read and cannot be judged, with a reason code and a remedy.
    InputError
        The file could not be reached, or a decoder is not installed.
    """
    path = Path(path)
    name = path.name or str(path)
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise InputError(
                f"{path} is a folder, not a file", remedy="name the files in it, or let the command walk it"
            )
        if not stat.S_ISREG(state.st_mode):
            raise InputError(f"{path} is not a regular file", remedy="copy the image to a file")
        limits.check_file(name, state.st_size)
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size, name, limits, frame, window)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", remedy="check the name and the folder") from error
    except PermissionError as error:
        raise InputError(
            f"{path} may not be read by this user", remedy="give the user permission to read it"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read", got=error.strerror or str(error)) from error


def _read(file: BinaryIO, size: int, name: str, limits: ReadingLimits, frame: int | None, window: int) -> Radiograph:
    limits.check_file(name, size)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        raise Refusal(Reason.UNREADABLE, f"{name} is empty", got="0 bytes", remedy="copy or export the file again")
    kind = recognize(head)
    if kind is None:
        raise Refusal(
            Reason.UNREADABLE,
            f"{name} is no image that this runtime reads",
            got=describe(head),
            expected="a DICOM, PNG, JPEG or TIFF file",
            remedy="export the radiograph as DICOM or PNG",
        )
    if kind == "DICOM":
        from edge_runtime.reading.dicom import read_dicom

        return read_dicom(file, size, name, limits, frame=frame, window=window)
    from edge_runtime.reading.imaging import read_image

    return read_image(file, kind, name, limits, frame=frame)


def looks_readable(path: str | Path) -> bool:
    """Tell whether a walk over a folder should pick a file up: by its suffix, else by its first bytes.

    A text file named ``.dcm`` is picked up (and then refused with a reason); hidden files and a disc's
    DICOMDIR are not.
    """
    path = Path(path)
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    try:
        if not path.is_file():
            return False
        if path.suffix.lower() in _SUFFIXES:
            return True
        with path.open("rb") as file:
            return recognize(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False

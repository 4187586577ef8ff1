"""One file of a bundle: described when it is written, checked before it is used."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path, PurePosixPath

from edge_runtime.errors import BundleError
from edge_runtime.manifest import FileEntry

__all__ = ["GET_AGAIN", "check_file", "damaged", "file_entry", "missing", "unreadable"]

_CHUNK = 1024 * 1024
GET_AGAIN = "get the bundle again from where it was built, and do not use this copy"


def file_entry(root: Path, relative: str) -> FileEntry:
    """Describe one file of a bundle folder: its path inside the bundle, its size, its SHA-256."""
    size, digest = _size_and_sha256(root / relative)
    return FileEntry(path=PurePosixPath(relative).as_posix(), bytes=size, sha256=digest)


def check_file(path: Path, entry: FileEntry, source: Path) -> None:
    """Check that ``path`` is what ``entry`` says; reads in pieces of 1 MiB.

    Raises
    ------
    BundleError
        Absent, not a plain file, of another size or of other content. ``source`` names the bundle in the
        message.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise damaged(source, entry.path, "not a plain file")
        if status.st_size != entry.bytes:
            raise damaged(source, entry.path, f"{status.st_size} bytes", f"{entry.bytes} bytes")
        _, digest = _size_and_sha256(path)
    except FileNotFoundError:
        raise missing(source, entry.path) from None
    except OSError as error:
        raise unreadable(path, error) from error
    if digest != entry.sha256:
        raise damaged(source, entry.path, f"SHA-256 {digest[:16]}...", f"SHA-256 {entry.sha256[:16]}...")


def missing(source: Path, relative: str) -> BundleError:
    """Return the error for a listed file that is not there."""
    return BundleError(
        f"{relative} of bundle {source} is missing", got="no such file",
        expected="the file that the manifest lists",
        remedy=GET_AGAIN,
    )  # fmt: skip


def damaged(source: Path, relative: str, got: str, expected: str = "what the manifest says") -> BundleError:
    """Return the error for a file whose content is not what the manifest says."""
    return BundleError(
        f"{relative} of bundle {source} is damaged or was changed",
        got=got,
        expected=expected,
        remedy=GET_AGAIN,
    )


def unreadable(path: Path, error: OSError) -> BundleError:
    """Return the error for a file that the operating system would not read."""
    return BundleError(
        f"{path} cannot be read",
        got=error.strerror or str(error),
        remedy="check the file's permissions and the disk",
    )


def _size_and_sha256(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    view = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(view):
            digest.update(view[:count])
            size += count
    return size, digest.hexdigest()

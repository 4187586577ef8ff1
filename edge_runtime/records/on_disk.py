"""Files that are safe on disk and private: what is acknowledged afterwards is not lost when the power goes."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import IO, Final

__all__ = ["copy_file", "make_private", "sync_file", "sync_folder", "write_file", "write_new"]

_NOT_OFFERED: Final = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
_CHUNK: Final = 1 << 20


def sync_file(path: Path) -> None:
    """Wait until a file's content is on disk. An OSError says that it is not: a full or failing disk, for instance."""
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on disk.

    File systems that have no such call for folders (some network drives, all of Windows) are taken as they are: the
    files' contents are synced all the same. Any other failure is an OSError.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(descriptor)


def write_new(path: Path) -> IO[bytes]:
    """Open a file that does not exist, for writing, readable by its owner alone (mode 0600)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    return os.fdopen(descriptor, "wb")


def write_file(path: Path, content: bytes) -> None:
    """Write a file (mode 0600) whole or not at all, in place of one that is there; on disk when this returns."""
    temporary = _beside(path)
    try:
        with write_new(temporary) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file (mode 0600, not the source's) whole or not at all; on disk when this returns."""
    temporary = _beside(path)
    try:
        with source.open("rb") as stream, write_new(temporary) as out:
            shutil.copyfileobj(stream, out, _CHUNK)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_private(path: Path) -> bool:
    """Take a file's or folder's access by others away (0600, 0700); tell whether others have none now.

    False: it belongs to another user. Windows has no modes: there the folder's own access list rules, and this is True.
    """
    if sys.platform == "win32":
        return True
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return True
    try:
        path.chmod(mode & 0o700)
    except PermissionError:
        return False
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")

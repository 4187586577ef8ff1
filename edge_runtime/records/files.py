"""The files of a study: the original as it came, and the grey pixels that the model saw. Private, whole or absent."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.records.database import RecordsError, make_private_folder

__all__ = ["StudyFiles"]

_ORIGINAL = "original"
_PIXELS = "pixels.png"
_COPY_CHUNK = 1024 * 1024
_ORPHAN_SECONDS = 3600


class StudyFiles:
    """A folder of folders, ``<site>/studies/<first two digits>/<key>/``.

    A study's folder is filled under a temporary name, made safe on disk and renamed; only then is the study
    written into the database. A folder without a row is what a killed process left, and :meth:`tidy` removes it.
    """

    def __init__(self, site: Path) -> None:
        self.root = site / "studies"
        make_private_folder(self.root)

    def folder(self, key: str) -> Path:
        """Return a study's folder."""
        return self.root / key[:2] / key

    def write(self, key: str, original: Path | None, pixels: NDArray[np.uint8] | None) -> None:
        """Store a study's files, on disk when this returns.

        Raises
        ------
        RecordsError
            The disk is full, or the folder may not be written.
        """
        folder = self.folder(key)
        temporary = folder.with_name(f".{key}")
        try:
            make_private_folder(folder.parent)
            temporary.mkdir(mode=0o700)
            if original is not None:
                _copy(original, temporary / _ORIGINAL)
            if pixels is not None:
                _write_png(pixels, temporary / _PIXELS)
            _sync_folder(temporary)
            temporary.rename(folder)
            _sync_folder(folder.parent)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise RecordsError(
                f"the files of a study cannot be written to {self.root}", got=error.strerror or str(error),
                remedy="check the disk's free space and the permissions; `edge-runtime doctor` looks at both",
            ) from error  # fmt: skip

    def original(self, key: str) -> Path | None:
        """Return the path of the file as it came, or None where it was not kept."""
        path = self.folder(key) / _ORIGINAL
        return path if path.is_file() else None

    def pixels_file(self, key: str) -> Path | None:
        """Return the path of the 8-bit grey PNG that the model saw, or None where nothing was read."""
        path = self.folder(key) / _PIXELS
        return path if path.is_file() else None

    def pixels(self, key: str) -> NDArray[np.uint8] | None:
        """Return the pixels that the model saw, uint8 [H, W], 0 black; None where nothing was read."""
        from PIL import Image

        path = self.pixels_file(key)
        if path is None:
            return None
        with Image.open(path, formats=["PNG"]) as image:
            return np.array(image, np.uint8)

    def remove(self, key: str) -> None:
        """Remove a study's files; what is not there is fine."""
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def tidy(self, known: Container[str]) -> int:
        """Remove folders that no study of ``known`` owns and that are an hour old; return how many."""
        removed = 0
        for folder in self.root.glob("??/*"):
            with suppress(OSError):
                if folder.name not in known and folder.stat().st_mtime < time.time() - _ORPHAN_SECONDS:
                    shutil.rmtree(folder)
                    removed += 1
        return removed


def _copy(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with source.open("rb") as stream, os.fdopen(descriptor, "wb") as out:
        shutil.copyfileobj(stream, out, _COPY_CHUNK)
        out.flush()
        os.fsync(out.fileno())


def _write_png(pixels: NDArray[np.uint8], target: Path) -> None:
    from PIL import Image

    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as out:
        # run lengths (3) at the lowest level: on radiographs quicker and smaller than zlib's usual strategy
        Image.fromarray(pixels).save(out, "PNG", compress_level=1, compress_type=3)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # folders cannot be synced there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems do not know fsync
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

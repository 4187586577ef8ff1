"""The files of a study: the original as it came, and the grey pixels that the model saw. Private, whole or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.grey_png import grey_png
from edge_runtime.records.database import RecordsError, make_private_folder
from edge_runtime.records.on_disk import sync_folder, write_new

__all__ = ["StudyFiles", "file_sha256"]

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

    def write(self, key: str, original: Path | None, pixels: NDArray[np.uint8] | None) -> dict[str, str]:
        """Store a study's files, on disk when this returns.

        Returns
        -------
        dict[str, str]
            The SHA-256 of each file by its name.

        Raises
        ------
        RecordsError
            The disk is full, or the folder may not be written.
        """
        folder = self.folder(key)
        temporary = folder.with_name(f".{key}")
        digests: dict[str, str] = {}
        try:
            make_private_folder(folder.parent)
            temporary.mkdir(mode=0o700)
            if original is not None:
                digests[_ORIGINAL] = _copy(original, temporary / _ORIGINAL)
            if pixels is not None:
                digests[_PIXELS] = _write_png(pixels, temporary / _PIXELS)
            sync_folder(temporary)
            temporary.rename(folder)
            sync_folder(folder.parent)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _unwritten(self.root, error) from error
        return digests

    def write_pixels(self, key: str, pixels: NDArray[np.uint8]) -> dict[str, str]:
        """Store the pixels of a study that has its folder already; return the SHA-256 of each of its files by name.

        Raises
        ------
        RecordsError
            The disk is full, or the folder may not be written.
        """
        folder = self.folder(key)
        temporary = folder / f".{_PIXELS}.{uuid.uuid4().hex[:8]}"
        try:
            _write_png(pixels, temporary)
            temporary.replace(folder / _PIXELS)
            sync_folder(folder)
        except OSError as error:
            raise _unwritten(self.root, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return self.digests(key)

    def digests(self, key: str) -> dict[str, str]:
        """Return the SHA-256 of each of a study's files by its name, read anew; an unreadable file is absent."""
        found: dict[str, str] = {}
        for name in (_ORIGINAL, _PIXELS):
            with suppress(OSError):
                found[name] = file_sha256(self.folder(key) / name)
        return found

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

    def remove(self, key: str) -> bool:
        """Remove a study's files; what is not there is fine. Tell whether nothing is left."""
        folder = self.folder(key)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    def tidy(self, known: Container[str]) -> int:
        """Remove folders that no study of ``known`` owns and that are an hour old; return how many."""
        removed = 0
        for folder in self.root.glob("??/*"):
            with suppress(OSError):
                if folder.name not in known and folder.stat().st_mtime < time.time() - _ORPHAN_SECONDS:
                    shutil.rmtree(folder)
                    removed += 1
        return removed


def _unwritten(root: Path, error: OSError) -> RecordsError:
    return RecordsError(
        f"the files of a study cannot be written to {root}", got=error.strerror or str(error),
        remedy="check the disk's free space and the permissions; `edge-runtime doctor` looks at both",
    )  # fmt: skip


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_COPY_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as stream, write_new(target) as out:
        while chunk := stream.read(_COPY_CHUNK):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _write_png(pixels: NDArray[np.uint8], target: Path) -> str:
    content = grey_png(pixels)
    with write_new(target) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    return hashlib.sha256(content).hexdigest()

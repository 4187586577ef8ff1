"""Decoded, resized radiographs on disk, memory-mapped: the loader is never the limit.

One array a split and size: uint8 [N, S, S], written once by the very ``squish`` that the exported graph holds (rounded
to whole grey levels), beside the data set in ``cache/`` or wherever ``--cache`` says. The key holds the hashes of the
radiographs, so a changed image is decoded again and a stale array is never used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.errors import EdgeRuntimeError
from train.preprocessing import squish
from train.progress import track

__all__ = ["CacheError", "cached_images", "load_grey"]


class CacheError(EdgeRuntimeError):
    """A radiograph of the data set cannot be read, or the cache cannot be written."""


def load_grey(path: Path) -> NDArray[np.uint8]:
    """Read a data set image as uint8 [H, W].

    Raises
    ------
    CacheError
        Missing, unreadable or truncated.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, Image.DecompressionBombError) as error:
        raise CacheError(
            f"{path} cannot be read",
            got=str(error),
            remedy="build the data set again (`python -m train data build`)",
        ) from error


def cached_images(
    images: Path, filenames: Sequence[str], sha256: Sequence[str], size: int, cache: Path, workers: int = 2
) -> NDArray[np.uint8]:
    """Return the radiographs as a memory-mapped uint8 array [N, size, size], made on the first call.

    Parameters
    ----------
    images
        The data set's ``images`` folder.
    filenames, sha256
        The radiographs in order, and the SHA-256 of each file.
    size
        Edge in pixels.
    cache
        Folder of the arrays; made where it is absent.
    workers
        Processes that decode.

    Raises
    ------
    CacheError
        An unreadable radiograph (named), or no room for the array.
    """
    key = hashlib.sha256(f"v1 {size} {' '.join(sha256)}".encode()).hexdigest()[:20]
    path = cache / f"{key}-{size}.npy"
    if not path.is_file():
        _build(path, images, filenames, size, workers)
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return array


def _build(path: Path, images: Path, filenames: Sequence[str], size: int, workers: int) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # np.save writes the bytes now: a full disk is an error here, not a bus error in a memory map later.
        array = np.empty((len(filenames), size, size), dtype=np.uint8)
        jobs = [(images / name, size) for name in filenames]
        with ProcessPoolExecutor(max_workers=max(1, workers)) as pool:
            results = pool.map(_decode, jobs, chunksize=16)
            for index, pixels in enumerate(track(results, f"decoding at {size} px", len(jobs))):
                array[index] = pixels
        with temporary.open("wb") as stream:
            np.save(stream, array)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CacheError(
            f"the image cache {path} cannot be written",
            got=str(error),
            expected=f"{len(filenames) * size * size / 1e6:.0f} MB of free space",
            remedy="free some space, or name another folder with --cache",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _decode(job: tuple[Path, int]) -> NDArray[np.uint8]:
    path, size = job
    torch.set_num_threads(1)
    image = torch.from_numpy(load_grey(path).copy())[None, None]
    resized: NDArray[np.uint8] = squish(image, size)[0, 0].round().clamp(0, 255).to(torch.uint8).numpy()
    return resized

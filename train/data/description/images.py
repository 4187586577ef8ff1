"""One pass over the images of a data set: size, hashes, thumbnail."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from train.data.near_duplicates import PERCEPTUAL_HASH_SIZE
from train.data.rows import DataError, Dataset, Row
from train.progress import track

__all__ = ["ImageFacts", "read_images"]


@dataclass(frozen=True)
class ImageFacts:
    """What the pixels of one image say."""

    width: int
    height: int
    pixel_sha256: str
    """Of shape and grey values: equal for copies of an image, whatever its file."""
    perceptual_hash: str
    """imagehash ``phash``, 256 bits, hexadecimal."""
    thumbnail: NDArray[np.uint8] | None
    """uint8 [t, t], the image in its aspect on black; None where none was asked for."""


def read_images(dataset: Dataset, rows: Sequence[Row], thumbnail: Sequence[int], workers: int = 2) -> list[ImageFacts]:
    """Decode every image once.

    Parameters
    ----------
    dataset, rows
        The images.
    thumbnail
        For each row the thumbnail's edge in pixels, 0 for none.
    workers
        Threads; decoding leaves the interpreter's lock.

    Raises
    ------
    DataError
        Images that are missing, unreadable or other than their table says; the first three are named.
    """
    jobs = [(dataset, row, edge) for row, edge in zip(rows, thumbnail, strict=True)]
    facts: list[ImageFacts] = []
    problems: list[str] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for result in track(pool.map(lambda job: _read(*job), jobs), "reading images", len(jobs)):
            if isinstance(result, str):
                problems.append(result)
            else:
                facts.append(result)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(
            f"{len(problems)} of {len(rows)} images of {dataset.root} cannot be used",
            got="; ".join(problems[:3]) + more,
            remedy="run the command that built the dataset again: it writes only what is missing or changed",
        )
    return facts


def _read(dataset: Dataset, row: Row, edge: int) -> ImageFacts | str:
    try:
        content = dataset.image_path(row).read_bytes()
        if row.sha256 and hashlib.sha256(content).hexdigest() != row.sha256:
            return f"{row.filename} is not the file that was written"
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("L")
    except FileNotFoundError:
        return f"{row.filename} is missing"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{row.filename} is unreadable ({error})"
    shape = f"{image.height}x{image.width}:".encode()
    return ImageFacts(
        width=image.width,
        height=image.height,
        pixel_sha256=hashlib.sha256(shape + image.tobytes()).hexdigest(),
        perceptual_hash=str(imagehash.phash(image, hash_size=PERCEPTUAL_HASH_SIZE)),
        thumbnail=_thumbnail(image, edge) if edge else None,
    )


def _thumbnail(image: Image.Image, edge: int) -> NDArray[np.uint8]:
    small = image.copy()
    small.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
    tile = Image.new("L", (edge, edge))
    tile.paste(small, ((edge - small.width) // 2, (edge - small.height) // 2))
    return np.asarray(tile)

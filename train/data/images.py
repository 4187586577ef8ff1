"""From a source's file to a grey PNG of the dataset, over all cores, and never twice."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import imagehash
import msgspec
from PIL import Image

import edge_runtime
from edge_runtime.errors import InputError, Refusal
from edge_runtime.reading import read_radiograph
from train.data.near_duplicates import PERCEPTUAL_HASH_SIZE
from train.data.rows import DataError

__all__ = ["ImageEntry", "ImageTask", "convert_images", "is_current", "reader_versions"]


@dataclass(frozen=True)
class ImageTask:
    """One image to write."""

    source: str
    path: Path
    filename: str
    """Name to write under ``images/``."""
    target: Path


class ImageEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one written (or refused) image; a line of the build's index."""

    filename: str
    source: str
    source_file: str
    source_size: int
    source_mtime_ns: int
    reader: str
    refused: str | None = None
    """Why the reader refused it; all that follows is then empty."""
    try_again: bool = False
    """It was not the image's fault (no permission, a decoder not installed): the next run reads it again."""
    removed: bool = False
    """A copy of another image: read, and not kept."""
    sha256: str = ""
    written_size: int = 0
    written_mtime_ns: int = 0
    pixel_sha256: str = ""
    """Of shape and grey values: equal for copies of an image in different file formats."""
    perceptual_hash: str = ""
    width: int = 0
    height: int = 0
    view: str = ""
    age: str = ""
    sex: str = ""
    patient_id: str = ""
    """The four from the DICOM header, empty for other formats."""


def reader_versions() -> dict[str, str]:
    """Name and version of what decides the pixels: another version writes the images anew."""
    packages = {name: version(name) for name in ("pydicom", "pillow", "imagehash")}
    return {"edge_runtime": edge_runtime.__version__, **packages}


def is_current(entry: ImageEntry | None, task: ImageTask, reader: str) -> bool:
    """Tell whether ``entry`` still describes both the source's file and the written one, by size and time."""
    if entry is None or entry.try_again or entry.reader != reader:
        return False
    source = task.path.stat()
    of_source = (entry.source, entry.source_file, entry.source_size, entry.source_mtime_ns)
    if of_source != (task.source, task.path.name, source.st_size, source.st_mtime_ns):
        return False
    if entry.refused is not None or entry.removed:
        return True
    try:
        written = task.target.stat()
    except FileNotFoundError:
        return False
    return (entry.written_size, entry.written_mtime_ns) == (written.st_size, written.st_mtime_ns)


def convert_images(tasks: Iterable[ImageTask], workers: int, reader: str) -> Iterator[ImageEntry]:
    """Write the images and yield an entry for each as it is done, in no fixed order.

    Raises
    ------
    DataError
        An image could not be written: no permission, a full disk.
    """
    tasks = list(tasks)
    if workers <= 1 or len(tasks) < 8:
        for task in tasks:
            yield _convert(task, reader)
        return
    # spawn: the parent shows progress from a thread, and forking beside threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_follow_parent)
    try:
        for future in as_completed([pool.submit(_convert, task, reader) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that reads images was ended from outside",
            expected="about 300 MB of memory a process",
            remedy="run the command again, with fewer --workers: it goes on where it stopped",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it does: else a pool outlives a killed parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _convert(task: ImageTask, reader: str) -> ImageEntry:
    try:
        status = task.path.stat()
        entry = ImageEntry(
            filename=task.filename,
            source=task.source,
            source_file=task.path.name,
            source_size=status.st_size,
            source_mtime_ns=status.st_mtime_ns,
            reader=reader,
        )
        try:
            radiograph = read_radiograph(task.path)
        except (Refusal, InputError) as error:
            task.target.unlink(missing_ok=True)
            reason = error.reason.value if isinstance(error, Refusal) else "unreached"
            return msgspec.structs.replace(entry, refused=f"{reason}: {error}", try_again=isinstance(error, InputError))
        image = Image.fromarray(radiograph.pixels)
        content = io.BytesIO()
        image.save(content, "PNG", compress_level=3)  # half the time of 6, 13 % more bytes
        temporary = task.target.with_name(f".{task.filename}.partial")
        temporary.write_bytes(content.getvalue())
        temporary.replace(task.target)
        written = task.target.stat()
    except OSError as error:
        raise DataError(
            f"{task.path.name} of {task.source} could not be converted",
            got=str(error),
            remedy="free space or mend the permissions, and run the command again to go on",
        ) from error
    facts = radiograph.facts
    shape = f"{image.height}x{image.width}:".encode()
    return msgspec.structs.replace(
        entry,
        sha256=hashlib.sha256(content.getvalue()).hexdigest(),
        written_size=written.st_size,
        written_mtime_ns=written.st_mtime_ns,
        pixel_sha256=hashlib.sha256(shape + radiograph.pixels.tobytes()).hexdigest(),
        perceptual_hash=str(imagehash.phash(image, hash_size=PERCEPTUAL_HASH_SIZE)),
        width=image.width,
        height=image.height,
        view=facts.view or "",
        age=facts.age or "",
        sex=facts.sex or "",
        patient_id=facts.patient_id or "",
    )

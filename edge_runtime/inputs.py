"""What a command line names: files, folders and patterns, turned into files in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.answer import Answer, error_answer
from edge_runtime.errors import Fault
from edge_runtime.reading import looks_readable

__all__ = ["InputFile", "expand_inputs"]


@dataclass(frozen=True)
class InputFile:
    """One file to answer, and what to call it: the name as given, or the folder's name as given and the
    rest.
    """

    path: Path
    name: str


def expand_inputs(named: Iterable[str]) -> Iterator[InputFile | Answer]:
    """Turn names into files, in the order given; the same name twice is answered twice.

    A folder gives the radiographs and images below it, sorted, hidden files left out. A pattern (``*``,
    ``?``, ``[...]``, ``**``) that no file bears as its name gives what it matches, sorted: shells do that
    themselves, but not on Windows. A folder without an image, a folder that cannot be listed and a pattern
    without a match give an answer with status ``error``. An absent file is passed on: reading it says what
    is wrong.
    """
    for name in named:
        path = Path(name)
        if path.is_dir():
            yield from _folder(name)
        elif path.exists() or not any(c in name for c in "*?["):
            yield InputFile(path, name)
        else:
            yield from _pattern(name)


def _pattern(name: str) -> Iterator[InputFile | Answer]:
    import glob  # here: most calls name their files

    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - keeps the name's own form, "./" included
    if not matches:
        yield error_answer(name, Fault.UNREACHABLE, f"No file matches {name}", "check the pattern")
    for match in matches:
        if Path(match).is_dir():
            yield from _folder(match)
        else:
            yield InputFile(Path(match), match)


def _folder(name: str) -> Iterator[InputFile | Answer]:
    found = False
    unlisted: list[OSError] = []
    for folder, below, files in os.walk(name, onerror=unlisted.append):
        below[:] = sorted(b for b in below if not b.startswith("."))
        for file in sorted(files):
            path = os.path.join(folder, file)  # noqa: PTH118 - keeps the name as given
            if not file.startswith(".") and looks_readable(path):
                found = True
                yield InputFile(Path(path), path)
    for error in unlisted:
        found = True
        message = f"The folder cannot be listed: {error.strerror}"
        yield error_answer(str(error.filename), Fault.UNREACHABLE, message, "check its permissions")
    if not found:
        message = f"There is no radiograph or image in the folder {name}"
        yield error_answer(name, Fault.NO_IMAGES, message, "name a folder that holds DICOM, PNG, JPEG or TIFF files")

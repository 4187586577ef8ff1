"""What a build has written so far, one JSON line an image: a killed build goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import msgspec

from train.data.images import ImageEntry
from train.data.rows import DataError
from train.data.tables import write_atomically

__all__ = ["INDEX_NAME", "BuildIndex"]

INDEX_NAME = ".build-index.jsonl"


class BuildIndex:
    """The index of an output folder, open for adding; a context manager.

    Raises
    ------
    DataError
        The folder holds something that no build wrote: nothing in it is touched.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / INDEX_NAME
        if root.is_dir() and any(root.iterdir()) and not self._path.is_file():
            raise DataError(
                f"{root} is not empty and was not made by `data build`",
                got=", ".join(sorted(path.name for path in root.iterdir())[:4]),
                expected="a new folder, an empty one, or the folder of an earlier build",
                remedy="name another folder with --out",
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            self.entries = _read(self._path)
            self._file = self._path.open("ab")
        except OSError as error:
            raise DataError(f"--out: {root} cannot be written", got=str(error)) from error

    def __enter__(self) -> BuildIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: ImageEntry) -> None:
        """Note an image that is on disk now."""
        self.entries[entry.filename] = entry
        self._file.write(msgspec.json.encode(entry) + b"\n")
        self._file.flush()

    def keep_only(self, filenames: Iterable[str]) -> None:
        """Forget all other images, and write the index anew with a line for each that is left."""
        kept = set(filenames)
        self.entries = {name: entry for name, entry in self.entries.items() if name in kept}
        self._file.close()
        lines = [msgspec.json.encode(self.entries[name]) + b"\n" for name in sorted(self.entries)]
        write_atomically(self._path, b"".join(lines))
        self._file = self._path.open("ab")


def _read(path: Path) -> dict[str, ImageEntry]:
    entries: dict[str, ImageEntry] = {}
    if not path.is_file():
        return entries
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        # Killed while it wrote a line: cut it off, or the next line would be glued to it.
        content = content[: content.rfind(b"\n") + 1]
        write_atomically(path, content)
    for line in content.splitlines():
        try:
            entry = msgspec.json.decode(line, type=ImageEntry)
        except msgspec.DecodeError:
            continue  # of another version of this program: its image is written again
        entries[entry.filename] = entry
    return entries

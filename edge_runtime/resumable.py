"""Output of a long run that survives an interruption: rows are kept as they come, and a later run goes on after them.

Rows go to ``<name>.part`` beside the output, which takes its name when the run is whole. A run that resumes reads the
output or its ``.part``, leaves out a torn last row and the rows of files that ended in ``error``, and skips the rest.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from edge_runtime.answer import Answer
from edge_runtime.answer_files import OutputError, table_columns, table_row
from edge_runtime.answer_lines import json_line
from edge_runtime.errors import UsageError

__all__ = ["ResumableOutput"]

_Row = tuple[str, str, "str | None", "str | None", Any]
"""File, status, artifact, heat map picture, and the row itself."""


class ResumableOutput:
    """A CSV table or JSON lines, by the name's end (``.csv``, else JSON lines), row by row on disk. A context manager.

    Attributes
    ----------
    done
        Names of the files that the output already holds.
    pictures
        Names of heat map pictures that it names.

    Raises
    ------
    OutputError
        It cannot be read or written, or holds something else.
    UsageError
        It was made with another artifact.
    """

    def __init__(self, path: Path, labels: Sequence[str], artifact: str, *, resume: bool) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.done: set[str] = set()
        self.pictures: set[str] = set()
        self._labels = labels
        self._csv = path.suffix.lower() == ".csv"
        temporary = self.part.with_name(f".{self.part.name}.{os.getpid()}")
        try:
            self._stream = temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            self._rows = csv.writer(self._stream)
            if self._csv:
                self._rows.writerow(table_columns(labels))
            for row in self._kept(artifact) if resume else ():
                self._write(row)
            self._flush()
            temporary.replace(self.part)
        except BaseException as error:
            with suppress(AttributeError, OSError):
                self._stream.close()
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(path, error) from error
            raise

    def add(self, answer: Answer) -> None:
        """Add an answer, unless an earlier run did; it is with the operating system before this returns."""
        if answer.file in self.done:
            return
        try:
            self._write(table_row(answer, self._labels) if self._csv else answer.to_json_object())
            self._stream.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def __enter__(self) -> ResumableOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._stream:
                self._flush()
            if kind is None:
                self.part.replace(self.path)
        except OSError as failure:
            raise _unwritable(self.path, failure) from failure

    def _write(self, row: Any) -> None:
        if self._csv:
            self._rows.writerow(row)
        else:
            self._stream.write(json_line(row).decode())

    def _flush(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _kept(self, artifact: str) -> Iterator[Any]:
        """Yield the rows that stay, one at a time: an output of any length costs the memory of its files' names."""
        source = self.part if self.part.exists() else self.path
        if not source.exists():
            return
        with source.open("rb") as stream:
            rows = self._table(_whole_lines(stream), source) if self._csv else _lines(_whole_lines(stream), source)
            for file, status, made_with, picture, row in rows:
                if made_with and made_with != artifact:
                    raise UsageError(
                        f"{source} was made with another artifact", got=made_with, expected=artifact,
                        remedy=f"name that one (--artifact {made_with}), or another output",
                    )  # fmt: skip
                if status != "error":
                    self.done.add(file)
                    if picture:
                        self.pictures.add(Path(picture).name)
                    yield row

    def _table(self, lines: Iterator[str], source: Path) -> Iterator[_Row]:
        columns = table_columns(self._labels)
        places = [columns.index(name) for name in ("file", "status", "artifact", "heatmap_file")]
        try:
            for number, row in enumerate(csv.reader(lines)):
                if number == 0 and row != columns:
                    raise _foreign(source, "a table with other columns")
                if number and len(row) == len(columns):
                    yield row[places[0]], row[places[1]], row[places[2]], row[places[3]], row
        except (UnicodeDecodeError, csv.Error) as error:
            raise _foreign(source, f"{type(error).__name__}: {error}") from error


def _whole_lines(stream: BinaryIO) -> Iterator[str]:
    """Yield lines with their ends; a last one without was being written."""
    for line in stream:
        if line.endswith(b"\n"):
            yield line.decode("utf-8")


def _lines(lines: Iterator[str], source: Path) -> Iterator[_Row]:
    try:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                yield row["file"], row["status"], row["artifact"], row["heatmap_file"], row
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(source, f"{type(error).__name__}: {error}") from error


def _foreign(source: Path, got: str) -> OutputError:
    return OutputError(
        f"{source} is not an output that can be resumed", got=got, expected="what `predict --resume` wrote",
        remedy="name another output",
    )  # fmt: skip


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written", got=error.strerror or str(error),
        remedy="choose a place that exists and that you can write to, and check the disk's free space",
    )  # fmt: skip

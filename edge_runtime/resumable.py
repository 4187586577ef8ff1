"""Output of a long run that survives an interruption: rows are kept as they come, and a later run goes on after them.

Rows go to ``<name>.part`` beside the output, which takes its name when the run is whole. A run that resumes reads the
output or its ``.part``, leaves out a torn last row and the rows of files that ended in ``error``, and skips the rest.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_runtime.answer import Answer
from edge_runtime.answer_files import OutputError, table_columns, table_row
from edge_runtime.answer_lines import json_line
from edge_runtime.errors import UsageError

__all__ = ["ResumableOutput"]


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
        try:
            kept = self._kept(artifact) if resume else []
            temporary = self.part.with_name(f".{self.part.name}.{os.getpid()}")
            self._stream = temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            self._rows = csv.writer(self._stream)
            if self._csv:
                self._rows.writerow(table_columns(labels))
            for row in kept:
                self._write(row)
            self._flush()
            temporary.replace(self.part)
        except OSError as error:
            raise _unwritable(path, error) from error

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

    def _kept(self, artifact: str) -> list[Any]:
        source = self.part if self.part.exists() else self.path
        if not source.exists():
            return []
        text = source.read_text(encoding="utf-8", errors="strict")
        text = text[: text.rfind("\n") + 1]  # a row without its end was being written
        rows = self._table(text, source) if self._csv else self._lines(text, source)
        kept = []
        for file, status, made_with, picture, row in rows:
            if made_with and made_with != artifact:
                raise UsageError(
                    f"{source} was made with another artifact", got=made_with, expected=artifact,
                    remedy=f"name that one (--artifact {made_with}), or another output",
                )  # fmt: skip
            if status != "error":
                kept.append(row)
                self.done.add(file)
                if picture:
                    self.pictures.add(Path(picture).name)
        return kept

    def _table(self, text: str, source: Path) -> list[tuple[str, str, str | None, str | None, Any]]:
        rows = list(csv.reader(text.splitlines(keepends=True)))
        columns = table_columns(self._labels)
        if rows and rows[0] != columns:
            raise _foreign(source, "a table with other columns")
        places = [columns.index(name) for name in ("file", "status", "artifact", "heatmap_file")]
        whole = [row for row in rows[1:] if len(row) == len(columns)]
        return [(row[places[0]], row[places[1]], row[places[2]], row[places[3]], row) for row in whole]

    def _lines(self, text: str, source: Path) -> list[tuple[str, str, str | None, str | None, Any]]:
        try:
            rows = [json.loads(line) for line in text.splitlines() if line]
            return [(row["file"], row["status"], row["artifact"], row["heatmap_file"], row) for row in rows]
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

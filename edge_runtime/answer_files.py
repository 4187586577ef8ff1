"""What ``predict`` leaves on disk: a table of answers and heat map pictures, each whole or not there."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from edge_runtime.answer import Answer, Outcome
from edge_runtime.errors import EdgeRuntimeError

__all__ = ["AnswerTable", "HeatmapFolder", "OutputError", "table_columns", "table_row"]


class OutputError(EdgeRuntimeError):
    """A place to write to cannot be written."""


class AnswerTable:
    """A CSV file of answers, one row a file; in place only after the last row. A context manager.

    Columns: file, status, reason, label, prediction_set (joined by " | "), refer (true, false), gate_score, one
    ``probability_<label>`` a class, artifact, backend, precision,
    ``<part>_ms``, message, remedy, notes (joined by " | "), heatmap_file. UTF-8.

    Raises
    ------
    OutputError
        The file cannot be written; known before the first answer.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self.path = path
        self._labels = labels
        if path.is_dir():
            raise OutputError(f"{path} is a folder", expected="a file to write", remedy="give a file name")
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._temporary = Path(temporary)
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")
        self._rows = csv.writer(self._stream)
        self._rows.writerow(table_columns(labels))

    def add(self, answer: Answer) -> None:
        """Add one row."""
        self._rows.writerow(table_row(answer, self._labels))

    def __enter__(self) -> AnswerTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._stream:
                self._stream.flush()
                os.fsync(self._stream.fileno())
            if kind is None:
                self._temporary.chmod(_default_mode())  # mkstemp's 0600 is for temporary files
                self._temporary.replace(self.path)
        except OSError as failure:
            raise _unwritable(self.path, failure) from failure
        finally:
            self._temporary.unlink(missing_ok=True)


def table_columns(labels: Sequence[str]) -> list[str]:
    """Return the table's column names."""
    return [
        *("file", "status", "reason", "label", "prediction_set", "refer", "gate_score"),
        *(f"probability_{label}" for label in labels),
        *("artifact", "backend", "precision", "read_ms", "predict_ms", "total_ms"),
        *("message", "remedy", "notes", "heatmap_file"),
    ]


def table_row(answer: Answer, labels: Sequence[str]) -> list[str | None]:
    """Return an answer's row of the table."""
    probabilities = answer.probabilities or {}
    times = [answer.timings_ms.get(part) for part in ("read", "predict", "total")]
    return [
        *(answer.file, answer.status, answer.reason, answer.label),
        None if answer.prediction_set is None else " | ".join(answer.prediction_set),
        None if answer.refer is None else str(answer.refer).lower(),
        None if answer.gate_score is None else f"{answer.gate_score:.4f}",
        *(repr(probabilities[name]) if name in probabilities else None for name in labels),
        *(answer.artifact, answer.backend, answer.precision),
        *(None if ms is None else f"{ms:.2f}" for ms in times),
        *(answer.message, answer.remedy, " | ".join(answer.notes), answer.heatmap_file),
    ]


class HeatmapFolder:
    """A folder of PNG pictures, one a file that was answered, named after it: ``chest.dcm`` gives
    ``chest.png``.

    Two files of one name in a run give ``chest.png`` and ``chest-2.png``.

    Raises
    ------
    OutputError
        The folder cannot be made or written; known before the first answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise _unwritable(folder, error) from error

    def reserve(self, pictures: Iterable[str]) -> None:
        """Keep names of pictures that an earlier run wrote from being given again."""
        self._taken.update(Path(name).stem.casefold() for name in pictures)

    def add(self, outcome: Outcome) -> Path | None:
        """Draw the predicted class's heat map and return the picture's path; None where there is nothing to
        draw.

        Raises
        ------
        OutputError
            The picture cannot be written.
        """
        if outcome.radiograph is None or outcome.prediction is None:
            return None
        from edge_runtime.heatmap import overlay_png

        prediction = outcome.prediction
        heatmap = prediction.heatmap[list(prediction.probabilities).index(prediction.label)]
        path = self.folder / self._name(outcome.answer.file)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(overlay_png(outcome.radiograph.pixels, heatmap))
            temporary.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def _name(self, file: str) -> str:
        stem = Path(file).stem
        name, number = stem, 1
        while name.casefold() in self._taken:  # some file systems do not tell case
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return f"{name}.png"


def _default_mode() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written",
        got=error.strerror or str(error),
        remedy="choose a place that exists and that you can write to, and check the disk's free space",
    )

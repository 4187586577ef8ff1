"""Answers that a device wrote down, to be judged like those of an artifact that was run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec
import numpy as np

from edge_runtime.manifest import Manifest
from export.errors import ExportError
from export.parity_judging import Answers
from export.parity_result import Coverage

__all__ = ["recorded_answers"]


class _Line(msgspec.Struct):
    """What is needed of a line of ``edge-runtime predict --json``; other keys are passed over."""

    file: str
    status: str
    probabilities: dict[str, float] | None = None
    artifact: str | None = None
    precision: str | None = None
    reason: str | None = None


def recorded_answers(
    path: str | Path, manifest: Manifest, files: Sequence[str], only: Sequence[str] = ()
) -> tuple[list[Answers], tuple[str, ...]]:
    """Read answers and match them to radiographs by file name, folders left out.

    Parameters
    ----------
    path
        JSON lines as ``edge-runtime predict --json`` prints them, of one artifact or of several.
    files
        File names of the M radiographs that are judged on.
    only
        Names of artifacts to judge; all by default.

    Returns
    -------
    answers, notes
        One :class:`Answers` for each artifact named in the lines; and what was left out, in sentences.

    Raises
    ------
    ExportError
        The file cannot be read, a line is no answer, a radiograph is answered twice, other classes, or nothing fits.
    """
    path = Path(path)
    numbers = {name: number for number, name in enumerate(files)}
    found: dict[str, dict[int, list[float]]] = {}
    precisions: dict[str, str] = {}
    refusals: dict[str | None, dict[int, str]] = {}
    strangers = 0
    for line, where in _lines(path):
        name = PureWindowsPath(PurePosixPath(line.file).name).name
        number = numbers.get(name)
        if number is None:
            strangers += 1
            continue
        if line.status != "ok" or line.probabilities is None:
            refusals.setdefault(line.artifact, {})[number] = line.reason or line.status
            continue
        if set(line.probabilities) != set(manifest.labels):
            raise ExportError(
                f"{where} has other classes than the bundle",
                got=", ".join(line.probabilities),
                expected=", ".join(manifest.labels),
            )
        artifact = line.artifact or "recorded"
        if only and artifact not in only:
            continue
        values = [line.probabilities[label] for label in manifest.labels]
        if not np.isfinite(values).all() or min(values) < 0 or abs(sum(values) - 1) > 1e-3:
            raise ExportError(f"{where}: these are no probabilities", got=str(values), expected="0..1 that sum to 1")
        of_artifact = found.setdefault(artifact, {})
        if number in of_artifact:
            raise ExportError(f"{where} answers {name} a second time", expected="one answer for each radiograph")
        of_artifact[number] = values
        known = manifest.artifact(artifact)
        precisions[artifact] = known.precision if known is not None else line.precision or "unknown"
    if not found:
        unanswered = sum(len(of_artifact) for of_artifact in refusals.values())
        raise ExportError(
            f"{path} answers none of the {len(files)} radiographs",
            got=f"{strangers} answers to files of other names, {unanswered} without probabilities",
            expected="the file names of the split",
            remedy="record them with `edge-runtime predict BUNDLE DATA/images --json > FILE`",
        )
    answers = []
    notes = [f"Answers recorded on a device were judged ({path.name}); the heat maps are not in them."]
    for artifact, by_number in found.items():
        chosen = tuple(sorted(by_number))
        # a file that the device's reader refused was refused before any artifact was asked
        refused = {**refusals.get(None, {}), **refusals.get(artifact, {})}
        refused = {number: reason for number, reason in refused.items() if number not in by_number}
        missing = len(files) - len(chosen) - len(refused)
        coverage = Coverage(len(files), len(chosen), dict(Counter(refused.values())), missing)
        if len(chosen) < len(files):
            notes.append(f"{artifact} answered {coverage}; its decisions are judged on those.")
        answers.append(
            Answers(artifact, "recorded", {}, precisions[artifact], 0, chosen,
                    np.asarray([by_number[number] for number in chosen]), None, None, coverage)
        )  # fmt: skip
    if strangers:
        notes.append(f"{strangers} recorded answers are about files that are not in this split.")
    return answers, tuple(notes)


def _lines(path: Path) -> list[tuple[_Line, str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportError(f"the answers {path} cannot be read", got=error.strerror or str(error)) from error
    lines = []
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            lines.append((msgspec.json.decode(text, type=_Line), f"line {number} of {path}"))
        except msgspec.DecodeError as error:
            raise ExportError(
                f"line {number} of {path} is no answer", got=str(error)[:200],
                expected="a JSON object as `edge-runtime predict --json` prints it",
            ) from error  # fmt: skip
    return lines

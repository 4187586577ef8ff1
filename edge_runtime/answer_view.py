"""Answers as a table for people."""

from __future__ import annotations

import sys
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from edge_runtime.answer import DISCLAIMER, Answer, Status
from edge_runtime.predictor import Predictor
from edge_runtime.terminal import console, printable

__all__ = ["show_answers"]

_STYLES: dict[Status, str] = {"ok": "", "refused": "yellow", "error": "red"}
_NAMED = 3
"""So many files are named where the same is said of more."""


def show_answers(answers: list[Answer], predictor: Predictor) -> None:
    """Print a table, one row a file, then what is to be said of each file that was not answered."""
    labels = predictor.manifest.labels
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("answer")
    for label in labels:
        table.add_column(label, justify="right")
    table.add_column("ms", justify="right")
    for answer in answers:
        probabilities = answer.probabilities or {}
        word = _word(answer)
        table.add_row(
            printable(answer.file),
            Text(word, style="bold" if answer.label else _STYLES[answer.status]),
            *(f"{probabilities[name]:.3f}" if name in probabilities else "" for name in labels),
            f"{answer.timings_ms['total']:.0f}" if "total" in answer.timings_ms else "",
        )
    out = console(sys.stdout)
    out.print(table)
    for (status, message, remedy, notes), files in _grouped(answers, predictor).items():
        named = ", ".join(map(printable, files[:_NAMED]))
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        out.print(Text(f"{named}{more}", style=_STYLES[status]))
        for line in (message, remedy and f"Remedy: {remedy}", *notes):
            if line:
                out.print(Text(f"  {printable(line)}"))
    counts = {status: sum(a.status == status for a in answers) for status in _STYLES}
    words = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    artifact = f"{predictor.artifact.name} on {predictor.backend_name}"
    out.print(Text(f"{len(answers)} file{'s' * (len(answers) != 1)}: {words}. Answered by {artifact}."))
    for note in predictor.notes:
        out.print(Text(note, style="yellow"))
    out.print(Text(DISCLAIMER, style="dim"))


def _word(answer: Answer) -> str:
    """The answer in a word or two; where a reader should decide, what cannot be ruled out instead of one label."""
    if answer.label is None:
        return f"{answer.status}: {answer.reason}"
    if not answer.refer:
        return answer.label
    return f"refer: {' or '.join(answer.prediction_set or ()) or 'none of the classes'}"


def _grouped(
    answers: list[Answer], predictor: Predictor
) -> dict[tuple[Status, str | None, str | None, tuple[str, ...]], list[str]]:
    """Collect the files of which the same is to be said; a folder of CT slices should not fill the screen."""
    groups: dict[tuple[Status, str | None, str | None, tuple[str, ...]], list[str]] = {}
    for answer in answers:
        notes = tuple(note for note in answer.notes if note not in predictor.notes)
        if answer.message or notes:
            message = answer.message and answer.message.replace(Path(answer.file).name, "This file")
            groups.setdefault((answer.status, message, answer.remedy, notes), []).append(answer.file)
    return groups

"""Answers for people: a table of a few, plain lines or a summary of many."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from edge_runtime.answer import DISCLAIMER, Answer, Status
from edge_runtime.predictor import Predictor
from edge_runtime.terminal import console, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["AnswerView"]

_STYLES: Final[dict[Status, str]] = {"ok": "", "refused": "yellow", "error": "red"}
_TABLE: Final = 40
"""Up to so many files are shown as a table; of more, nothing is kept but counts."""
_NAMED: Final = 3
"""So many files are named where the same is said of more."""
_KINDS: Final = 20
"""So many different remarks are told."""

_Remark = tuple[Status, str | None, str | None, tuple[str, ...]]


class AnswerView:
    """Shows answers on stdout as they come and when it is left. A context manager; memory does not grow with them.

    Up to 40 files are a table at the end. Of more, a terminal shows how many had which answer; where stdout is a file
    or a pipe, each is a line of its own, written as it comes: answer, file.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._table: list[Answer] = []
        self._statuses: Counter[Status] = Counter()
        self._words: Counter[tuple[Status, str]] = Counter()
        self._remarks: dict[_Remark, list[str]] = {}
        self._counts: Counter[_Remark] = Counter()
        self._unheard = 0

    def add(self, answer: Answer) -> None:
        """Take an answer."""
        self._statuses[answer.status] += 1
        self._words[answer.status, _word(answer)] += 1
        self._remember(answer)
        lines = not sys.stdout.isatty()
        if self._statuses.total() <= _TABLE:
            self._table.append(answer)
        elif lines:
            for waiting in (*self._table, answer):
                sys.stdout.write(f"{printable(_word(waiting))}\t{printable(waiting.file)}\n")
            sys.stdout.flush()
            self._table.clear()

    def __enter__(self) -> AnswerView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish(console(sys.stdout))

    def _finish(self, out: Console) -> None:
        from rich.text import Text

        total = self._statuses.total()
        self._show_table(out) if total <= _TABLE else self._show_counts(out)
        for remark, files in self._remarks.items():
            status, message, remedy, notes = remark
            more = self._counts[remark] - len(files)
            named = ", ".join(map(printable, files)) + (f" and {more} more" if more else "")
            out.print(Text(named, style=_STYLES[status]))
            for line in (message, remedy and f"Remedy: {remedy}", *notes):
                if line:
                    out.print(Text(f"  {printable(line)}"))
        if self._unheard:
            out.print(Text(f"Other remarks on {self._unheard} files: --csv or --jsonl holds them."))
        words = ", ".join(f"{self._statuses[status]} {status}" for status in _STYLES if self._statuses[status])
        artifact = f"{self._predictor.artifact.name} on {self._predictor.backend_name}"
        out.print(Text(f"{total} file{'s' * (total != 1)}: {words or 'nothing'}. Answered by {artifact}."))
        for note in self._predictor.notes:
            out.print(Text(note, style="yellow"))
        if self._predictor.hint is not None:
            out.print(Text(self._predictor.hint, style="dim"))
        out.print(Text(DISCLAIMER, style="dim"))

    def _show_table(self, out: Console) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        labels = self._predictor.manifest.labels
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("file", overflow="fold")
        table.add_column("answer")
        for label in labels:
            table.add_column(label, justify="right")
        table.add_column("ms", justify="right")
        for answer in self._table:
            probabilities = answer.probabilities or {}
            table.add_row(
                printable(answer.file),
                Text(_word(answer), style="bold" if answer.label else _STYLES[answer.status]),
                *(f"{probabilities[name]:.3f}" if name in probabilities else "" for name in labels),
                f"{answer.timings_ms['total']:.0f}" if "total" in answer.timings_ms else "",
            )
        out.print(table)

    def _show_counts(self, out: Console) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("answer")
        table.add_column("files", justify="right")
        order = list(_STYLES)
        for (status, word), count in sorted(self._words.items(), key=lambda i: (order.index(i[0][0]), -i[1], i[0][1])):
            table.add_row(Text(word, style=_STYLES[status]), str(count))
        out.print(table)

    def _remember(self, answer: Answer) -> None:
        """Collect the files of which the same is to be said; a folder of CT slices should not fill the screen."""
        notes = tuple(note for note in answer.notes if note not in self._predictor.notes)
        if not answer.message and not notes:
            return
        message = answer.message and answer.message.replace(Path(answer.file).name, "This file")
        remark = (answer.status, message, answer.remedy, notes)
        if remark not in self._remarks and len(self._remarks) >= _KINDS:
            self._unheard += 1
            return
        self._counts[remark] += 1
        files = self._remarks.setdefault(remark, [])
        if len(files) < _NAMED:
            files.append(answer.file)


def _word(answer: Answer) -> str:
    """The answer in a word or two; where a reader should decide, what cannot be ruled out instead of one label."""
    if answer.label is None:
        return f"{answer.status}: {answer.reason}"
    if not answer.refer:
        return answer.label
    return f"refer: {' or '.join(answer.prediction_set or ()) or 'none of the classes'}"

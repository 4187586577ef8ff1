"""Radiographs that come in by themselves: answered once each, written down, filed with their result.

A file is taken into ``working/`` first, and leaves it only when its answer is in the records and its result is written.
Whatever kills the process in between, the next start finds the file there and goes on: the records know whether it was
answered already.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.answer import DISCLAIMER, Outcome, answer_file
from edge_runtime.answer_lines import json_line
from edge_runtime.decoding import DecodingPool
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, Study
from edge_runtime.records.database import make_private_folder
from edge_runtime.records.store import file_sha256

__all__ = ["FOLDERS", "Filed", "Intake"]

FOLDERS: Final = {"ok": "done", "refused": "refused", "error": "failed"}
"""Where a file goes, by the status of its answer."""
_WORKING: Final = "working"
_LONGEST_STEM: Final = 100


@dataclass(frozen=True)
class Filed:
    """A file that was dealt with.

    Attributes
    ----------
    study
        What the records say of it.
    path, result
        Where the file is now, and the JSON object beside it.
    again
        It had come before and was answered then.
    outcome
        Radiograph and prediction; None where ``again``.
    """

    study: Study
    path: Path
    result: Path
    again: bool
    outcome: Outcome | None


class Intake:
    """Deals with files, in any number of threads.

    Parameters
    ----------
    out
        Gets the folders ``working``, ``done``, ``refused`` and ``failed`` (mode 0700).
    source
        ``watch`` or ``receive``; stands in the records, as the actor too.
    on_answer
        Called with each file's outcome and study when it is in the records and before it is filed, for results of
        another kind; called again for the same study where the process was killed in between.
    """

    def __init__(
        self,
        predictor: Predictor,
        pool: DecodingPool,
        records: Records,
        out: Path,
        source: str,
        on_answer: Callable[[Study, Path, Outcome | None], None] | None = None,
    ) -> None:
        self.out = out
        self._predictor = predictor
        self._pool = pool
        self._records = records
        self._source = source
        self._on_answer = on_answer
        for folder in (out, *(out / name for name in (_WORKING, *FOLDERS.values()))):
            make_private_folder(folder)

    @property
    def working(self) -> Path:
        """The folder of files that are being dealt with."""
        return self.out / _WORKING

    def take(self, path: Path) -> Path:
        """Move a file into ``working``, from another file system too; it is there whole or not at all."""
        target = self.working / self.working_name(path.name)
        try:
            path.rename(target)
        except OSError:
            temporary = target.with_name(f".{target.name}")
            try:
                shutil.copyfile(path, temporary)
                _sync(temporary)
                temporary.rename(target)
            finally:
                temporary.unlink(missing_ok=True)
            _sync(self.working)
            path.unlink()
        return target

    def waiting(self) -> list[Path]:
        """Return the files in ``working``: at a start, what an earlier run did not finish."""
        with os.scandir(self.working) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_file(follow_symlinks=False))
        return [self.working / name for name in names]

    @staticmethod
    def working_name(name: str) -> str:
        """Return a name for a file in ``working`` that no other has and that keeps its own."""
        return f"{uuid.uuid4().hex[:12]}-{_plain(name)}"

    def deal_with(self, path: Path) -> Filed:
        """Answer a file of ``working``, write it down, file it.

        A radiograph that was answered before is not answered again; one whose answer was an error is.

        Raises
        ------
        RecordsError, OSError
            It could not be written down or filed, of a full disk for instance: it stays in ``working``.
        """
        name = path.name.partition("-")[2]
        digest = file_sha256(path)
        known = self._records.find_content(digest)
        outcome = None
        if known is None or known.answer["status"] == "error":
            outcome = answer_file(self._predictor, path, name, read=self._pool.read)
            manifest, actor = self._predictor.manifest, self._source
            if known is None:
                study = self._records.add(
                    outcome, manifest, source=self._source, actor=actor, file=path, content_sha256=digest,
                    file_name=name, once=True,
                )  # fmt: skip
                again = study.content_sha256 != digest
            else:
                study, again = self._records.add_answer(known.key, outcome, manifest, actor=actor), False
        else:
            study, again = known, True
        if self._on_answer is not None:
            self._on_answer(study, path, outcome)
        target, result = self._places(study, name, digest)
        _write(result, json_line(_result(study, again)))
        path.replace(target)
        _sync(target.parent)
        return Filed(study, target, result, again, outcome)

    def _places(self, study: Study, name: str, digest: str) -> tuple[Path, Path]:
        # named after the content: a second attempt after a kill writes to the same place
        folder = self.out / FOLDERS[study.answer["status"]]
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - no path, a name
        base = f"{stem}.{digest[:8]}"
        return folder / f"{base}{suffix}", folder / f"{base}.json"


def _result(study: Study, again: bool) -> dict[str, Any]:
    return {
        **study.answer,
        "study": study.key,
        "received": study.received,
        "content_sha256": study.content_sha256,
        "answered_before": again,
        "disclaimer": DISCLAIMER,
    }


def _plain(name: str) -> str:
    name = re.sub(r"[^\w.() +=-]", "_", name).lstrip(".") or "file"
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return stem[:_LONGEST_STEM] + suffix[:16]


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        with suppress(OSError):  # some network file systems do not know fsync
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Radiographs that come in by themselves: answered once each, written down, filed with their result.

A file is taken into ``working/`` first, and leaves it only when its answer is in the records and its result is written.
Whatever kills the process in between, the next start finds the file there and goes on: the records know whether it was
answered already. An error that may pass (a decoder that hung, a backend that broke down) is tried again a few times
before it is the answer.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.answer import DISCLAIMER, Outcome, answer_file, error_answer
from edge_runtime.answer_lines import json_line
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import EdgeRuntimeError, Fault
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, RecordsError, Study
from edge_runtime.records.database import make_private_folder
from edge_runtime.records.files import file_sha256
from edge_runtime.records.on_disk import copy_file, make_private, sync_folder, write_file

__all__ = ["FOLDERS", "Filed", "Intake", "NotYet"]

FOLDERS: Final = {"ok": "done", "refused": "refused", "error": "failed"}
"""Where a file goes, by the status of its answer."""
_WORKING: Final = "working"
_LONGEST_STEM: Final = 100
_LEFT_BEHIND_SECONDS: Final = 3600
_NO_RESULT: Final = "result not written"


class NotYet(EdgeRuntimeError):  # noqa: N818 - no failure yet
    """The answer was an error that may pass: the file stays in ``working``, to be tried again."""


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
    problem
        Why ``on_answer`` could not write its results, which another attempt would not change; else None.
    """

    study: Study
    path: Path
    result: Path
    again: bool
    outcome: Outcome | None
    problem: str | None = None


class Intake:
    """Deals with files, in any number of threads.

    Parameters
    ----------
    out
        Gets the folders ``working``, ``done``, ``refused`` and ``failed`` (mode 0700, also where they are there).
    source
        ``watch`` or ``receive``; stands in the records, as the actor too.
    on_answer
        Called with each file's outcome and study when it is in the records and before it is filed, for results of
        another kind; called again for the same study where the process was killed in between. RecordsError and
        OSError (a full disk) are tried again; any other exception of it is noted with the study, and the file is filed.
    again
        Answer anew what another bundle has answered; the older answers are kept.
    attempts
        So often a file is tried, in one run, whose answer is an error.
    """

    def __init__(
        self,
        predictor: Predictor,
        pool: DecodingPool,
        records: Records,
        out: Path,
        source: str,
        on_answer: Callable[[Study, Path, Outcome | None], None] | None = None,
        *,
        again: bool = False,
        attempts: int = 3,
    ) -> None:
        self.out = out
        self._predictor = predictor
        self._pool = pool
        self._records = records
        self._source = source
        self._on_answer = on_answer
        self._again = again
        self._attempts = attempts
        self._failures: dict[Path, int] = {}
        make_private_folder(out, keep_mode=True)
        for name in (_WORKING, *FOLDERS.values()):
            make_private_folder(out / name)
            _remove_left_behind(out / name)

    @property
    def working(self) -> Path:
        """The folder of files that are being dealt with."""
        return self.out / _WORKING

    def take(self, path: Path) -> Path:
        """Move a file into ``working``, from another file system too; it is there whole or not at all, and private.

        Raises
        ------
        OSError
            It cannot be read or moved (any more); it is where it was.
        """
        with path.open("rb"):  # what cannot be read stays where people see it
            pass
        target = self.working / self.working_name(path.name)
        try:
            path.rename(target)
        except OSError:
            copy_file(path, target)
            path.unlink()
        if not make_private(target):  # another user's file: ours from now on
            copy_file(target, target)
        sync_folder(self.working)
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
        NotYet
            The answer was an error, and there are attempts left.
        RecordsError, OSError
            It could not be written down or filed, of a full disk for instance: it stays in ``working``.
        """
        name = path.name.partition("-")[2]
        digest = file_sha256(path)
        try:
            filed = self._answer(path, name, digest)
        except (OSError, RecordsError, NotYet):
            raise
        except Exception as error:  # our own fault: tried again, and not for ever
            if self._attempts_left(path):
                raise
            message = f"An unexpected error: {type(error).__name__}: {str(error)[:300]}"
            remedy = "please report it, with the file if it may be shared"
            outcome = Outcome(error_answer(name, Fault.INTERNAL_ERROR, message, remedy))
            study, again = self._write_down(self._records.find_content(digest), outcome, path, name, digest)
            filed = self._file(study, path, name, digest, again, outcome, message)
        self._failures.pop(path, None)
        return filed

    def _answer(self, path: Path, name: str, digest: str) -> Filed:
        known = self._records.find_content(digest)
        if known is not None and not self._to_be_answered(known):
            problem = self._tell(known, path, None)
            return self._file(known, path, name, digest, True, None, problem)
        outcome = answer_file(self._predictor, path, name, read=self._pool.read)
        if outcome.answer.status == "error" and self._attempts_left(path):
            raise NotYet(
                f"{name} is tried again (attempt {self._failures[path]} of {self._attempts} failed)",
                got=outcome.answer.message,
            )
        study, again = self._write_down(known, outcome, path, name, digest)
        problem = self._tell(study, path, outcome)
        return self._file(study, path, name, digest, again, outcome, problem)

    def _to_be_answered(self, study: Study) -> bool:
        if study.answer["status"] == "error":
            return True
        return self._again and not self._records.answered_by(study.key, self._predictor.manifest)

    def _attempts_left(self, path: Path) -> bool:
        self._failures[path] = self._failures.get(path, 0) + 1
        return self._failures[path] < self._attempts

    def _write_down(
        self, known: Study | None, outcome: Outcome, path: Path, name: str, digest: str
    ) -> tuple[Study, bool]:
        """Return the study, and whether it had been answered before."""
        manifest, actor = self._predictor.manifest, self._source
        if known is None:
            study = self._records.add(
                outcome, manifest, source=self._source, actor=actor, file=path, content_sha256=digest,
                file_name=name, once=True,
            )  # fmt: skip
            if study.content_sha256 == digest:
                return study, False
            if not self._to_be_answered(study):  # the same radiograph came in another file
                return study, True
            known = study
        study = self._records.add_answer(known.key, outcome, manifest, actor=actor, once=True)
        return study, study.answered == known.answered

    def _tell(self, study: Study, path: Path, outcome: Outcome | None) -> str | None:
        if self._on_answer is None:
            return None
        try:
            self._on_answer(study, path, outcome)
        except (OSError, RecordsError, MemoryError):
            raise
        except Exception as error:  # nothing that another attempt would change: the answer counts, and is filed
            said = [entry.action for entry in self._records.audit_entries(study.key, limit=None)]
            if _NO_RESULT not in said[: said.index("study answered")]:
                self._records.add_note(study.key, f"No result was written: {error}", author=self._source)
                kind = type(error).__name__  # the text may name the patient: it stands in the note alone
                self._records.log(_NO_RESULT, actor=self._source, subject=study.key, details={"error": kind})
            return str(error)
        return None

    def _file(
        self,
        study: Study,
        path: Path,
        name: str,
        digest: str,
        again: bool,
        outcome: Outcome | None,
        problem: str | None,
    ) -> Filed:
        target, result = self._places(study, name, digest)
        self._records.note_files(study.key, (target, result))
        write_file(result, json_line(_result(study, again, problem)))
        path.replace(target)
        sync_folder(target.parent)
        if not self._records.holds(study.key):  # deleted just now
            target.unlink(missing_ok=True)
            result.unlink(missing_ok=True)
        return Filed(study, target, result, again, outcome, problem)

    def _places(self, study: Study, name: str, digest: str) -> tuple[Path, Path]:
        # named after the content: a second attempt after a kill writes to the same place
        folder = self.out / FOLDERS[study.answer["status"]]
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - no path, a name
        base = f"{stem}.{digest[:8]}"
        return folder / f"{base}{suffix}", folder / f"{base}.json"


def _result(study: Study, again: bool, problem: str | None) -> dict[str, Any]:
    return {
        **study.answer,
        "study": study.key,
        "received": study.received,
        "content_sha256": study.content_sha256,
        "answered_before": again,
        "result_problem": problem,
        "disclaimer": DISCLAIMER,
    }


def _plain(name: str) -> str:
    name = re.sub(r"[^\w.() +=-]", "_", name).lstrip(".") or "file"
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return stem[:_LONGEST_STEM] + suffix[:16]


def _remove_left_behind(folder: Path) -> None:
    # what a killed process had half written; the file that it was made from is still where it was
    for path in folder.glob(".*"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_mtime < time.time() - _LEFT_BEHIND_SECONDS:
                path.unlink()

"""The records of a site, as one object: what everything else calls."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.answer import Outcome
from edge_runtime.errors import UsageError
from edge_runtime.manifest import Manifest
from edge_runtime.records import answers, arrival, audit, deletion, reading_room, worklist
from edge_runtime.records.database import DATABASE_NAME, Database, RecordsError, make_private_folder
from edge_runtime.records.deletion import Deletion
from edge_runtime.records.files import StudyFiles, file_sha256
from edge_runtime.records.schema import SCHEMA_VERSION
from edge_runtime.records.similar import nearest
from edge_runtime.records.study import Note, Setting, SimilarStudy, Study, StudyPage, Verdict, VerdictWord

__all__ = ["Records"]


class Records:
    """A site's records, in one folder (mode 0700): ``records.sqlite`` and ``studies/``.

    Safe for threads, and for several processes at once. Every change is on disk when its method returns, together
    with its entry in the audit log. A context manager.

    Parameters
    ----------
    site
        The folder; made where it is absent.

    Raises
    ------
    RecordsError
        From any method: the disk is full, the database is damaged or of another version, or there is no such study.
    """

    def __init__(self, site: str | Path) -> None:
        self.site = Path(site)
        # a folder that holds other things as well keeps its mode; what is ours in it is private all the same
        shared = self.site.is_dir() and not (self.site / DATABASE_NAME).exists() and any(self.site.iterdir())
        make_private_folder(self.site, keep_mode=shared)
        self.database = Database(self.site)
        self.files = StudyFiles(self.site)
        if self.database.upgraded_from is not None:
            details = {"from": self.database.upgraded_from, "to": SCHEMA_VERSION}
            self.log("records upgraded", actor="edge-runtime", details=details)
        deletion.finish_removals(self.database)

    # studies in -------------------------------------------------------------------------------------------------

    def add(
        self,
        outcome: Outcome,
        manifest: Manifest,
        *,
        source: str,
        actor: str,
        file: Path | None = None,
        content_sha256: str | None = None,
        file_name: str | None = None,
        patient_name: str | None = None,
        keep_original: bool = True,
        once: bool = False,
    ) -> Study:
        """Write down a radiograph that came in and what was answered: also a refusal, also an error.

        Parameters
        ----------
        outcome
            From :func:`edge_runtime.answer.answer_file`.
        manifest
            Of the bundle that answered.
        source
            ``upload``, ``watch``, ``receive`` or ``batch``.
        actor
            Who brought it: a user's name, or the command's.
        file
            The file as it came: hashed, and copied unless ``keep_original`` is False.
        content_sha256
            Of the file, where the caller knows it; needed where ``file`` is None.
        file_name
            What the sender called it; None takes the name in the answer.
        once
            Where the same radiograph is there already (see :meth:`identity_of`), return that study and add
            nothing: what the hot folder and the DICOM node want.
        """
        if content_sha256 is None:
            if file is None:
                raise UsageError("a study needs its file, or the SHA-256 of it")
            content_sha256 = file_sha256(file)
        identity = self.identity_of(outcome, content_sha256)
        if once and (known := self._known(identity)) is not None:
            return known
        key = uuid.uuid4().hex
        original = file if keep_original else None
        pixels = None if outcome.radiograph is None else outcome.radiograph.pixels
        digests = self.files.write(key, original, pixels)
        known = None
        try:
            with self.database.writing() as connection:
                if once:  # another process may have been quicker
                    known = worklist.one_study(connection, "identity", identity)
                if known is None:
                    arrival.insert_study(
                        connection, key, _next_revision(connection), outcome, source=source, actor=actor,
                        file_name=file_name or Path(outcome.answer.file).name, patient_name=patient_name,
                        content_sha256=content_sha256, has_original=original is not None, digests=digests,
                    )  # fmt: skip
                    answers.insert_answer(connection, key, outcome, manifest, actor)
        except BaseException:
            self.files.remove(key)
            raise
        if known is not None:
            self.files.remove(key)
            return known
        return self.study(key)

    def add_answer(self, key: str, outcome: Outcome, manifest: Manifest, *, actor: str, once: bool = False) -> Study:
        """Write down a newer answer to a study, of a newer bundle for instance. The older ones are kept.

        Parameters
        ----------
        once
            Where this bundle has given the newest answer already, and it was no error, add nothing.
        """
        digests: dict[str, str] | None = None
        radiograph = outcome.radiograph
        if radiograph is not None and self.study(key).source_format is None:  # an earlier attempt could not read it
            digests = self.files.write_pixels(key, radiograph.pixels)
        with self.database.writing() as connection:
            study = self._present(connection, key)
            if once and study.answer["status"] != "error" and answers.answered_by(connection, key, manifest):
                return study
            if digests is not None:
                arrival.complete_study(connection, key, outcome, study.content_sha256, actor, digests)
            answers.insert_answer(connection, key, outcome, manifest, actor)
            _touch(connection, key)
        return self.study(key)

    @staticmethod
    def identity_of(outcome: Outcome, content_sha256: str) -> str:
        """Return what makes a radiograph the same as one that came before (:func:`arrival.identity_of`)."""
        return arrival.identity_of(outcome, content_sha256)

    def find_content(self, content_sha256: str) -> Study | None:
        """Return the study that came as exactly this file, or None."""
        with self.database.reading() as connection:
            return worklist.one_study(connection, "content_sha256", content_sha256)

    def answered_by(self, key: str, manifest: Manifest) -> bool:
        """Tell whether a study's newest answer is of exactly this bundle."""
        with self.database.reading() as connection:
            self._present(connection, key)
            return answers.answered_by(connection, key, manifest)

    def note_files(self, key: str, paths: Iterable[Path]) -> None:
        """Note where files of a study lie, or will lie, outside the site's folder: they are deleted with the study.

        Raises
        ------
        RecordsError
            There is no such study (any more).
        """
        with self.database.writing() as connection:
            self._present(connection, key)
            deletion.note(connection, key, paths)

    def noted_files(self, key: str) -> list[Path]:
        """Return where files of a study were put outside the site's folder; some may be gone by now."""
        with self.database.reading() as connection:
            return deletion.noted(connection, key)

    def holds(self, key: str) -> bool:
        """Tell whether there is a study of this key."""
        with self.database.reading() as connection:
            return connection.execute("SELECT 1 FROM studies WHERE key = ?", (key,)).fetchone() is not None

    # questions --------------------------------------------------------------------------------------------------

    def study(self, key: str) -> Study:
        """Return one study; :class:`RecordsError` where there is none of this key."""
        with self.database.reading() as connection:
            return self._present(connection, key)

    def studies(self, query: worklist.StudyQuery | None = None) -> StudyPage:
        """Return a part of the worklist, and how many studies the question has in all."""
        with self.database.reading() as connection:
            return worklist.find_studies(connection, query or worklist.StudyQuery())

    def all_studies(self, query: worklist.StudyQuery | None = None) -> Iterator[Study]:
        """Walk over every study of a question, some hundred in memory at a time; its limit and offset do not count."""
        offset, query = 0, query or worklist.StudyQuery()
        while True:
            page = self.studies(replace(query, limit=500, offset=offset))
            yield from page.studies
            offset += len(page.studies)
            if not page.studies or offset >= page.total:
                return

    @property
    def revision(self) -> int:
        """The revision of the newest change, of any process: cheap enough to ask every second."""
        with self.database.reading() as connection:
            return worklist.current_revision(connection)

    def deleted_after(self, revision: int) -> list[str]:
        """Return the keys of the studies that were deleted after a revision."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT key FROM deletions WHERE revision > ? ORDER BY revision", (revision,))
            return [row["key"] for row in rows]

    def heatmap(self, key: str) -> NDArray[np.float32] | None:
        """Return the newest answer's heat maps, float32 [C, h, w] in [0, 1] to within 0.001; None without one."""
        with self.database.reading() as connection:
            self._present(connection, key)
            row = connection.execute(
                "SELECT a.heatmap, a.heatmap_shape FROM studies s JOIN answers a ON a.id = s.answer_id WHERE s.key = ?",
                (key,),
            ).fetchone()
        if row["heatmap"] is None:
            return None
        shape = tuple(json.loads(row["heatmap_shape"]))
        values: NDArray[np.float32] = np.frombuffer(row["heatmap"], "<f2").reshape(shape).astype(np.float32)
        return values

    def similar(self, key: str, count: int = 5, *, same_patient: bool = False) -> list[SimilarStudy]:
        """Return the nearest of this site's own confirmed studies, by the cosine of the embeddings.

        Confirmed: a reader agreed, or disagreed and named a class. Only answers of the same checkpoint are
        comparable. Studies of the same patient are left out unless ``same_patient``.
        """
        with self.database.reading() as connection:
            return nearest(connection, self._present(connection, key), count, same_patient)

    # what readers say -------------------------------------------------------------------------------------------

    def set_verdict(
        self, key: str, verdict: VerdictWord, *, reader: str, label: str | None = None, comment: str | None = None
    ) -> Study:
        """Write down what a reader says of the newest answer; earlier verdicts are kept, the newest counts.

        Raises
        ------
        UsageError
            No such verdict; ``agree`` with a study that has no answer; ``disagree`` with the model's own class.
        """
        with self.database.writing() as connection:
            study = self._present(connection, key)
            reading_room.add_verdict(connection, study, verdict, reader, label, comment)
            _touch(connection, key)
        return self.study(key)

    def verdicts(self, key: str) -> list[Verdict]:
        """Return every verdict that a study was given, newest first."""
        with self.database.reading() as connection:
            return reading_room.verdicts(connection, key)

    def add_note(self, key: str, text: str, *, author: str) -> Study:
        """Add a note."""
        with self.database.writing() as connection:
            self._present(connection, key)
            reading_room.add_note(connection, key, text, author)
            _touch(connection, key)
        return self.study(key)

    def notes(self, key: str) -> list[Note]:
        """Return a study's notes, oldest first."""
        with self.database.reading() as connection:
            return reading_room.notes(connection, key)

    def confusion(self, query: worklist.StudyQuery | None = None) -> dict[tuple[str, str], int]:
        """Count the confirmed studies by (model's label, reader's label): how the model does here.

        ``other`` verdicts count under the reader's label ``other``. Of ``query`` limit, offset and sort do not count.
        """
        counts: dict[tuple[str, str], int] = {}
        for study in self.all_studies(query):
            pair = reading_room.confirmed_pair(study)
            if pair is not None:
                counts[pair] = counts.get(pair, 0) + 1
        return counts

    # settings, deletion, audit ----------------------------------------------------------------------------------

    def set_setting(self, name: str, value: Any, *, actor: str) -> None:
        """Set a site's setting to whatever JSON can hold; earlier values are kept. No patient data, no secrets: the
        value stands in the audit log.
        """
        with self.database.writing() as connection:
            reading_room.set_setting(connection, name, value, actor)
            _next_revision(connection)

    def setting(self, name: str) -> Setting | None:
        """Return a setting with who set it when, or None."""
        return next(iter(self.setting_history(name)), None)

    def setting_history(self, name: str) -> list[Setting]:
        """Return every value that a setting had, newest first."""
        with self.database.reading() as connection:
            return reading_room.setting_history(connection, name)

    def delete(self, key: str, *, actor: str, reason: str) -> Deletion:
        """Delete a study with its answers, verdicts, notes, and its files in the site and outside it.

        The log keeps that it was, and why. ``reason`` stands in the audit log: no patient data. Copies that others
        made (a backup, an export, a PACS that results were sent to) are not reached.
        """
        return self._delete([key], actor, reason)

    def delete_received_before(self, moment: str, *, actor: str, reason: str) -> Deletion:
        """Delete every study that came in before a moment (ISO 8601, UTC): retention."""
        query = worklist.StudyQuery(received_until=moment)
        done = self._delete([study.key for study in self.all_studies(query)], actor, reason)
        self.tidy()
        return done

    def _delete(self, keys: list[str], actor: str, reason: str) -> Deletion:
        for key in keys:
            with self.database.writing() as connection:
                self._present(connection, key)
                deletion.delete_rows(connection, key, _next_revision(connection), actor, reason)
        done = deletion.remove_files(self.database, self.files, keys)
        if done.left or not done.cleared:  # names of files may name patients: the log has their number alone
            self.log("deletion unfinished", actor=actor, details={"files": len(done.left), "cleared": done.cleared})
        return done

    def log(
        self, action: str, *, actor: str, subject: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        """Add an entry of the caller's own to the audit log (a login, an export); no patient data, no secrets."""
        with self.database.writing() as connection:
            audit.append(connection, actor, action, subject, details or {})

    def audit_entries(
        self, subject: str | None = None, limit: int | None = 100, before: int | None = None
    ) -> list[audit.AuditEntry]:
        """Return entries of the audit log, newest first; ``before`` a number goes on from a page before."""
        with self.database.reading() as connection:
            return audit.entries(connection, subject, limit, before)

    def verify_audit(self, expected_head: str | None = None, *, with_files: bool = False) -> audit.AuditReport:
        """Check the audit log's chain, and the rows of the records against it.

        Parameters
        ----------
        with_files
            Read every study's files too, and compare them with the hashes that the log noted.
        """
        with self.database.reading() as connection:
            return audit.verify(connection, expected_head, self.files.digests if with_files else None)

    def tidy(self) -> int:
        """Remove files that a killed process left behind; return how many studies' worth."""
        deletion.finish_removals(self.database)
        with self.database.reading() as connection:
            known = {row["key"] for row in connection.execute("SELECT key FROM studies")}
        return self.files.tidy(known)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _known(self, identity: str) -> Study | None:
        with self.database.reading() as connection:
            return worklist.one_study(connection, "identity", identity)

    def _present(self, connection: sqlite3.Connection, key: str) -> Study:
        study = worklist.one_study(connection, "key", key)
        if study is None:
            raise RecordsError(f"there is no study {key} in {self.site}", remedy="it may have been deleted")
        return study


def _next_revision(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE counter SET revision = revision + 1")
    return worklist.current_revision(connection)


def _touch(connection: sqlite3.Connection, key: str) -> None:
    connection.execute("UPDATE studies SET revision = ? WHERE key = ?", (_next_revision(connection), key))

"""The audit log: entries chained by hashes, so that a change, a gap or a swapped order in the middle shows.

``hash`` is the SHA-256 over the JSON list [seq, at, actor, action, subject, details, previous]. A chain alone cannot
show that its newest entries were cut off, or that all of it was written anew: note the head (``AuditReport.head``)
elsewhere, on paper for instance, and give it to the next check.

An entry of a row (a study, an answer, a verdict, a note, a setting's value) notes the row's hash over every column, so
that a change past the log shows. It is salted with the study's random ``salt``, which goes with the study: what is left
in the log of a deleted study cannot be guessed back to a name or a note.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from edge_runtime.records.database import utc_now

__all__ = ["AuditEntry", "AuditReport", "append", "append_row", "entries", "verify"]

_START: Final = "0" * 64
_NAMED: Final = 20
"""So many problems are told; a chain that was written anew would have one an entry."""


@dataclass(frozen=True)
class _Kind:
    """Rows whose entries note their hash: ``columns`` now, ``earlier`` before salts (schema 1; none: no hash)."""

    name: str
    query: str
    columns: tuple[str, ...]
    earlier: tuple[str, ...] = ()


_OF_STUDY: Final = "SELECT t.id, t.study AS subject, s.salt, t.* FROM {} t LEFT JOIN studies s ON s.key = t.study"
_KINDS: Final = {
    "study added": _Kind(
        "Study",
        "SELECT key AS id, key AS subject, t.* FROM studies t",
        (
            *("received", "source", "file_name", "identity", "content_sha256", "source_format", "width", "height"),
            *("has_original", "modality", "view", "body_part", "sex", "age", "study_date"),
            *("patient_id", "patient_name", "sop_instance_uid"),
        ),
    ),
    "study answered": _Kind(
        "An answer of study",
        _OF_STUDY.format("answers"),
        (
            *("study", "at", "status", "reason", "label", "probability", "body", "model", "checkpoint_sha256"),
            *("gate_score", "embedding", "heatmap", "heatmap_shape", "bundle_sha256"),
        ),
        ("body",),
    ),
    "verdict given": _Kind(
        "A verdict on study",
        _OF_STUDY.format("verdicts"),
        ("study", "answer_id", "at", "reader", "verdict", "label", "comment"),
        ("reader", "verdict", "label", "comment"),
    ),
    "note added": _Kind("A note on study", _OF_STUDY.format("notes"), ("study", "at", "author", "text")),
    "setting changed": _Kind(
        "A value of setting",
        "SELECT id, name AS subject, '' AS salt, t.* FROM settings t",
        ("name", "value", "at", "actor"),
        ("value", "actor"),
    ),
}
_SALTED: Final = 2
"""The ``form`` of an entry whose hash is salted and covers every column."""


@dataclass(frozen=True)
class AuditEntry:
    """One entry: who (``actor``) did what (``action``), when (UTC), to what (``subject``: a study's key or a
    setting's name). ``details`` holds no patient data.
    """

    seq: int
    at: str
    actor: str
    action: str
    subject: str | None
    details: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class AuditReport:
    """A check of the log.

    Attributes
    ----------
    entries
        How many there are.
    head
        ``<number>:<hash>`` of the newest.
    problems
        Plain sentences; empty where all is well.
    """

    entries: int
    head: str
    problems: tuple[str, ...]


def append(
    connection: sqlite3.Connection, actor: str, action: str, subject: str | None, details: dict[str, Any]
) -> None:
    """Add an entry, inside the transaction of the change that it tells of."""
    last = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (1, _START) if last is None else (last["seq"] + 1, last["hash"])
    text = json.dumps(details, sort_keys=True)
    row = (seq, utc_now(), actor, action, subject, text, previous)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, _hash(row)))


def entries(
    connection: sqlite3.Connection, subject: str | None = None, limit: int | None = None, before: int | None = None
) -> list[AuditEntry]:
    """Return entries, newest first."""
    rows = connection.execute(
        "SELECT * FROM audit WHERE (?1 IS NULL OR subject = ?1) AND (?2 IS NULL OR seq < ?2) "
        "ORDER BY seq DESC LIMIT ?3",
        (subject, before, -1 if limit is None else limit),
    )
    return [
        AuditEntry(r["seq"], r["at"], r["actor"], r["action"], r["subject"], json.loads(r["details"]), r["hash"])
        for r in rows
    ]


def append_row(
    connection: sqlite3.Connection, actor: str, action: str, subject: str, row: int | str, details: dict[str, Any]
) -> None:
    """Add the entry of a row that was just written, with the row's hash.

    Parameters
    ----------
    action
        One of those that write rows, such as ``note added``.
    row
        The row's number; of a study its key.
    """
    kind = _KINDS["study added" if action == "study read" else action]
    values = connection.execute(f"SELECT * FROM ({kind.query}) WHERE id = ?", (row,)).fetchone()
    noted = {"row": row, "sha256": _row_hash(values, kind.columns, salted=True), "form": _SALTED}
    append(connection, actor, action, subject, {**details, **noted})


def verify(
    connection: sqlite3.Connection,
    expected_head: str | None = None,
    digests: Callable[[str], dict[str, str]] | None = None,
) -> AuditReport:
    """Check every entry, and that the rows of the records are those that the log tells of.

    Parameters
    ----------
    expected_head
        A head noted earlier, ``<number>:<hash>``: the chain must still contain it.
    digests
        Given a study's key, returns the SHA-256 of each of its files by name: then these are compared too.
    """
    problems: list[str] = []
    previous, seq = _START, 0
    told = _Told()
    wanted = None if expected_head is None else tuple(expected_head.split(":", 1))
    met = wanted is None
    for row in connection.execute("SELECT * FROM audit ORDER BY seq"):
        seq += 1
        if row["seq"] != seq:
            problems.append(f"Entries {seq} to {row['seq'] - 1} are missing.")
            seq = row["seq"]
        if row["previous"] != previous:
            problems.append(f"Entry {seq} does not follow the entry before it.")
        if _hash(tuple(row)[:7]) != row["hash"]:
            problems.append(f"Entry {seq} was changed after it was written.")
        previous = row["hash"]
        met = met or wanted == (str(seq), row["hash"])
        _follow(row, told)
    if not met:
        problems.append(f"The log does not contain the entry {expected_head}: it was cut off or written anew.")
    problems += _compare(connection, told)
    if digests is not None:
        problems += _compare_files(connection, told, digests)
    left_out = len(problems) - _NAMED
    more = (f"And {left_out} more.",) if left_out > 0 else ()
    return AuditReport(seq, f"{seq}:{previous}", (*problems[:_NAMED], *more))


@dataclass
class _Told:
    """What the log tells of the records."""

    living: set[str] = field(default_factory=set)
    # (action, row): hash, form, subject
    rows: dict[tuple[str, int | str], tuple[str, int, str]] = field(default_factory=dict)
    newest_answer: dict[str, int] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    # of schema 1, whose entries of studies and notes have no hash
    bare_studies: set[str] = field(default_factory=set)
    bare_notes: int = 0


def _follow(row: sqlite3.Row, told: _Told) -> None:
    action, subject = row["action"], row["subject"]
    try:
        details = json.loads(row["details"])
        if action == "study read":  # the row of a study that could not be read before, written anew
            action = "study added"
        if action == "study added":
            told.living.add(subject)
            told.files[subject] = details["files"] if "files" in details else {"original": details["content_sha256"]}
        elif action == "study deleted":
            told.living.discard(subject)
        if action not in _KINDS:
            return
        if "sha256" in details:
            told.rows[action, details["row"]] = (details["sha256"], details.get("form", 1), subject)
            if action == "study answered":
                told.newest_answer[subject] = details["row"]
        elif action == "study added":
            told.bare_studies.add(subject)
        elif action == "note added":
            told.bare_notes += 1
    except (ValueError, KeyError, TypeError, AttributeError):  # it was changed, which is told where its hash is checked
        return


def _compare(connection: sqlite3.Connection, told: _Told) -> Iterator[str]:
    present = {row["key"]: row["answer_id"] for row in connection.execute("SELECT key, answer_id FROM studies")}
    for key in sorted(told.living - present.keys()):
        yield f"Study {key} is gone, and the log tells of no deletion."
    for key in sorted(present.keys() - told.living):
        yield f"Study {key} is there, and the log does not tell of it."
    for key, answer in present.items():
        if answer != told.newest_answer.get(key):
            yield f"Study {key} shows another answer than the newest that the log tells of."
    for action, kind in _KINDS.items():
        seen: set[int | str] = set()
        for row in connection.execute(kind.query):
            seen.add(row["id"])
            digest, form, subject = told.rows.get((action, row["id"]), ("", _SALTED, None))
            if subject is None and _is_bare(action, row["id"], told):
                continue
            columns = kind.columns if form == _SALTED else kind.earlier
            if subject != row["subject"] or digest != _row_hash(row, columns, salted=form == _SALTED):
                yield f"{kind.name} {row['subject']} was changed past the log."
        for (other, number), (_, _, subject) in told.rows.items():
            gone = other == action and action != "study added" and number not in seen
            if gone and (subject in present or action == "setting changed"):
                yield f"{kind.name} {subject} is gone, and the log tells of no deletion."


def _is_bare(action: str, row: int | str, told: _Told) -> bool:
    if action == "study added":
        return row in told.bare_studies
    return action == "note added" and isinstance(row, int) and row <= told.bare_notes


def _compare_files(
    connection: sqlite3.Connection, told: _Told, digests: Callable[[str], dict[str, str]]
) -> Iterator[str]:
    for row in connection.execute("SELECT key, has_original FROM studies ORDER BY key"):
        found = digests(row["key"])
        for name, digest in told.files.get(row["key"], {}).items():
            if name == "original" and not row["has_original"]:
                continue
            if name not in found:
                yield f"The file {name} of study {row['key']} is gone or cannot be read."
            elif found[name] != digest:
                yield f"The file {name} of study {row['key']} was changed."


def _row_hash(row: sqlite3.Row, columns: tuple[str, ...], *, salted: bool) -> str:
    values = [hashlib.sha256(v).hexdigest() if isinstance(v := row[name], bytes) else v for name in columns]
    return hashlib.sha256(json.dumps([row["salt"], *values] if salted else values).encode()).hexdigest()


def _hash(row: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(list(row)).encode()).hexdigest()

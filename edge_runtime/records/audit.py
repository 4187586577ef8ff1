"""The audit log: entries chained by hashes, so that a change, a gap or a swapped order in the middle shows.

``hash`` is the SHA-256 over the JSON list [seq, at, actor, action, subject, details, previous]. A chain alone cannot
show that its newest entries were cut off, or that all of it was written anew: note the head (``AuditReport.head``)
elsewhere, on paper for instance, and give it to the next check.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.records.database import utc_now

__all__ = ["AuditEntry", "AuditReport", "append", "entries", "row_sha256", "verify"]

_START: Final = "0" * 64
_NAMED: Final = 20
"""So many problems are told; a chain that was written anew would have one an entry."""

_KINDS: Final = {
    "study answered": ("SELECT id, study, body FROM answers", "An answer of study"),
    "verdict given": ("SELECT id, study, reader, verdict, label, comment FROM verdicts", "A verdict on study"),
    "setting changed": ("SELECT id, name, value, actor FROM settings", "A value of setting"),
}
"""Actions whose entry notes the hash of the row that they wrote."""


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


def verify(connection: sqlite3.Connection, expected_head: str | None = None) -> AuditReport:
    """Check every entry, and that studies and answers are those that the log tells of.

    Parameters
    ----------
    expected_head
        A head noted earlier, ``<number>:<hash>``: the chain must still contain it.
    """
    problems: list[str] = []
    previous, seq = _START, 0
    living: set[str] = set()
    rows: dict[tuple[str, int], tuple[str, str]] = {}
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
        _follow(row, living, rows)
    if not met:
        problems.append(f"The log does not contain the entry {expected_head}: it was cut off or written anew.")
    problems += _compare(connection, living, rows)
    left_out = len(problems) - _NAMED
    more = (f"And {left_out} more.",) if left_out > 0 else ()
    return AuditReport(seq, f"{seq}:{previous}", (*problems[:_NAMED], *more))


def row_sha256(*values: Any) -> str:
    """Return the SHA-256 of a row's values, as the log notes it: a later change of the row shows."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _follow(row: sqlite3.Row, living: set[str], noted: dict[tuple[str, int], tuple[str, str]]) -> None:
    if row["action"] == "study added":
        living.add(row["subject"])
    elif row["action"] == "study deleted":
        living.discard(row["subject"])
    try:
        details = json.loads(row["details"])
        if row["action"] in _KINDS:
            noted[row["action"], details["row"]] = (details["sha256"], row["subject"])
    except (ValueError, KeyError, TypeError):  # the entry was changed, and that is told where its hash is checked
        return


def _compare(
    connection: sqlite3.Connection, living: set[str], noted: dict[tuple[str, int], tuple[str, str]]
) -> Iterator[str]:
    present = {row["key"] for row in connection.execute("SELECT key FROM studies")}
    for key in sorted(living - present):
        yield f"Study {key} is gone, and the log tells of no deletion."
    for key in sorted(present - living):
        yield f"Study {key} is there, and the log does not tell of it."
    for action, (query, name) in _KINDS.items():
        rows = {row[0]: (row[1], tuple(row)[2:]) for row in connection.execute(query)}
        for number, (subject, values) in rows.items():
            if noted.get((action, number), ("", ""))[0] != row_sha256(*values):
                yield f"{name} {subject} was changed past the log."
        for (kind, number), (_, subject) in noted.items():
            gone = kind == action and number not in rows
            if gone and (subject in present or action == "setting changed"):
                yield f"{name} {subject} is gone, and the log tells of no deletion."


def _hash(row: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(list(row)).encode()).hexdigest()

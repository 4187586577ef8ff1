"""Questions to the records: which studies, in which order."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge_runtime.errors import UsageError
from edge_runtime.records.study import Study, StudyPage, study_of

__all__ = ["SORT_KEYS", "StudyQuery", "current_revision", "find_studies", "one_study"]

SORT_KEYS: Final = {
    "received": "s.received",
    "status": "a.status",
    "label": "a.label",
    "probability": "a.probability",
    "file_name": "s.file_name COLLATE NOCASE",
    "patient": "s.patient_id COLLATE NOCASE",
    "study_date": "s.study_date",
    "source": "s.source",
    "verdict": "v.verdict",
}
"""What a worklist can be sorted by."""

_FROM: Final = """
    FROM studies s
    JOIN answers a ON a.id = s.answer_id
    LEFT JOIN verdicts v ON v.id = (SELECT max(id) FROM verdicts WHERE study = s.key)
"""
_SELECT: Final = f"""
    SELECT s.*, a.at AS answered, a.body, a.model, a.checkpoint_sha256, a.gate_score,
           v.verdict, v.label AS verdict_label, v.reader, v.at AS verdict_at, v.comment,
           (SELECT count(*) FROM notes WHERE study = s.key) AS notes
    {_FROM}
"""
_SEARCHED: Final = (
    "s.file_name",
    "s.patient_id",
    "s.patient_name",
    "s.view",
    "a.label",
    "a.reason",
    "v.label",
    "v.reader",
)


@dataclass(frozen=True)
class StudyQuery:
    """A worklist's question; what is None does not matter.

    Attributes
    ----------
    search
        Words that must all occur, anywhere in file name, patient identifier or name, view, label, reason, reader or
        notes; case does not matter (of A to Z).
    status
        ``ok``, ``refused`` or ``error``.
    label
        The model's.
    verdict
        ``agree``, ``disagree``, ``other``, or ``none``: no reader has said anything yet.
    patient_id
        Exactly this; for the studies of one patient.
    received_from, received_until
        ISO 8601 in UTC; the first is included, the second is not.
    changed_after
        Only what has a larger revision.
    sort, descending
        One of :data:`SORT_KEYS`. Ties: the newest first.
    limit, offset
        At most 1,000 at a time.
    """

    search: str | None = None
    status: str | None = None
    label: str | None = None
    reason: str | None = None
    source: str | None = None
    verdict: Literal["agree", "disagree", "other", "none"] | None = None
    patient_id: str | None = None
    received_from: str | None = None
    received_until: str | None = None
    changed_after: int | None = None
    sort: str = "received"
    descending: bool = True
    limit: int = 50
    offset: int = 0


def find_studies(connection: sqlite3.Connection, query: StudyQuery) -> StudyPage:
    """Answer a worklist's question.

    Raises
    ------
    UsageError
        No such sort key, or a limit out of range.
    """
    if query.sort not in SORT_KEYS:
        raise UsageError(f"a worklist cannot be sorted by {query.sort}", expected=", ".join(SORT_KEYS))
    if not 1 <= query.limit <= 1000 or query.offset < 0:
        raise UsageError(
            "the part of the worklist is out of range",
            got=f"limit {query.limit}, offset {query.offset}",
            expected="a limit from 1 to 1000, an offset from 0",
        )
    where, values = _conditions(query)
    total = connection.execute(f"SELECT count(*) {_FROM} {where}", values).fetchone()[0]
    order = f"{SORT_KEYS[query.sort]} {'DESC' if query.descending else 'ASC'}, s.received DESC, s.key"
    rows = connection.execute(
        f"{_SELECT} {where} ORDER BY {order} LIMIT ? OFFSET ?", (*values, query.limit, query.offset)
    )
    return StudyPage(tuple(study_of(row) for row in rows), total, current_revision(connection))


def one_study(
    connection: sqlite3.Connection, column: Literal["key", "identity", "content_sha256"], value: str
) -> Study | None:
    """Return the study whose column has this value, the newest of several, or None."""
    row = connection.execute(f"{_SELECT} WHERE s.{column} = ? ORDER BY s.received DESC LIMIT 1", (value,)).fetchone()
    return None if row is None else study_of(row)


def current_revision(connection: sqlite3.Connection) -> int:
    """Return the revision of the newest change."""
    return int(connection.execute("SELECT revision FROM counter").fetchone()[0])


def _conditions(query: StudyQuery) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []

    def add(part: str, *given: Any) -> None:
        parts.append(part)
        values.extend(given)

    for column, wanted in (
        ("a.status", query.status),
        ("a.label", query.label),
        ("a.reason", query.reason),
        ("s.source", query.source),
        ("s.patient_id", query.patient_id),
    ):
        if wanted is not None:
            add(f"{column} = ?", wanted)
    if query.verdict == "none":
        add("(v.verdict IS NULL OR v.verdict = 'withdrawn')")
    elif query.verdict is not None:
        add("v.verdict = ?", query.verdict)
    if query.received_from is not None:
        add("s.received >= ?", query.received_from)
    if query.received_until is not None:
        add("s.received < ?", query.received_until)
    if query.changed_after is not None:
        add("s.revision > ?", query.changed_after)
    for word in (query.search or "").split():
        pattern = "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in _SEARCHED)
        noted = "EXISTS (SELECT 1 FROM notes n WHERE n.study = s.key AND n.text LIKE ? ESCAPE '\\')"
        add(f"({columns} OR {noted})", *[pattern] * (len(_SEARCHED) + 1))
    return ("WHERE " + " AND ".join(parts) if parts else ""), values

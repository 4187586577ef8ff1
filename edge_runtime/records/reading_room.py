"""What people add to the records: verdicts, notes, settings. Nothing is overwritten, the newest counts."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, get_args

from edge_runtime.errors import UsageError
from edge_runtime.records import audit
from edge_runtime.records.database import utc_now
from edge_runtime.records.study import Note, Setting, Study, Verdict, VerdictWord

__all__ = [
    "add_note",
    "add_verdict",
    "confirmed_pair",
    "notes",
    "set_setting",
    "setting_history",
    "verdicts",
]

OTHER = "other"


def add_verdict(
    connection: sqlite3.Connection,
    study: Study,
    verdict: VerdictWord,
    reader: str,
    label: str | None,
    comment: str | None,
) -> None:
    """Check and add a verdict on a study's newest answer."""
    if verdict not in get_args(VerdictWord):
        raise UsageError(f"there is no verdict {verdict}", expected=", ".join(get_args(VerdictWord)))
    if not reader.strip():
        raise UsageError("a verdict needs the reader's name")
    answered = study.answer["label"]
    if verdict == "agree":
        if answered is None:
            raise UsageError("there is no answer to agree with", got=study.answer["status"])
        label = answered
    elif verdict == "disagree":
        known = tuple(study.answer["probabilities"] or ())
        if label is not None and (label == answered or (known and label not in known)):
            raise UsageError(
                "the reader's class does not fit a disagreement", got=label,
                expected=", ".join(name for name in known if name != answered) or "none",
            )  # fmt: skip
    else:
        label = None
    answer_id = connection.execute("SELECT answer_id FROM studies WHERE key = ?", (study.key,)).fetchone()[0]
    cursor = connection.execute(
        "INSERT INTO verdicts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
        (study.key, answer_id, utc_now(), reader, verdict, label, comment),
    )
    assert cursor.lastrowid is not None
    details = {"verdict": verdict, "label": label}
    audit.append_row(connection, reader, "verdict given", study.key, cursor.lastrowid, details)


def verdicts(connection: sqlite3.Connection, key: str) -> list[Verdict]:
    """Return a study's verdicts, newest first."""
    rows = connection.execute("SELECT * FROM verdicts WHERE study = ? ORDER BY id DESC", (key,))
    return [Verdict(r["verdict"], r["label"], r["reader"], r["at"], r["comment"]) for r in rows]


def confirmed_pair(study: Study) -> tuple[str, str] | None:
    """Return (model's label, reader's label) where both are known, else None."""
    answered, verdict = study.answer["label"], study.verdict
    if answered is None or verdict is None:
        return None
    label = OTHER if verdict.verdict == "other" else verdict.label
    return None if label is None else (answered, label)


def add_note(connection: sqlite3.Connection, key: str, text: str, author: str) -> None:
    """Add a note; the log tells that there is one, not what it says."""
    if not text.strip() or not author.strip():
        raise UsageError("a note needs a text and its author's name")
    cursor = connection.execute("INSERT INTO notes VALUES (NULL, ?, ?, ?, ?)", (key, utc_now(), author, text))
    assert cursor.lastrowid is not None
    audit.append_row(connection, author, "note added", key, cursor.lastrowid, {})


def notes(connection: sqlite3.Connection, key: str) -> list[Note]:
    """Return a study's notes, oldest first."""
    rows = connection.execute("SELECT author, at, text FROM notes WHERE study = ? ORDER BY id", (key,))
    return [Note(row["author"], row["at"], row["text"]) for row in rows]


def set_setting(connection: sqlite3.Connection, name: str, value: Any, actor: str) -> None:
    """Set a setting; the log tells the old and the new value."""
    if not actor.strip():
        raise UsageError("a change of a setting needs a name")
    before = setting_history(connection, name)
    text = json.dumps(value, sort_keys=True)
    cursor = connection.execute("INSERT INTO settings VALUES (NULL, ?, ?, ?, ?)", (name, text, utc_now(), actor))
    assert cursor.lastrowid is not None
    details = {"from": before[0].value if before else None, "to": value}
    audit.append_row(connection, actor, "setting changed", name, cursor.lastrowid, details)


def setting_history(connection: sqlite3.Connection, name: str) -> list[Setting]:
    """Return a setting's values, newest first."""
    rows = connection.execute("SELECT * FROM settings WHERE name = ? ORDER BY id DESC", (name,))
    return [Setting(row["name"], json.loads(row["value"]), row["at"], row["actor"]) for row in rows]

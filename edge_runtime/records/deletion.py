"""Deleting a study with all that is known of it, also where its files lie outside the site's folder.

Where files of a study are put (done/, results/, outgoing/) is noted in the records beforehand. The deletion moves
these notes to a list of what is to be removed, in its own transaction: a kill, or a drive that is away, loses none.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.records import audit
from edge_runtime.records.database import Database
from edge_runtime.records.files import StudyFiles

__all__ = ["Deletion", "delete_rows", "finish_removals", "note", "noted", "remove_files"]


@dataclass(frozen=True)
class Deletion:
    """What a deletion did.

    Attributes
    ----------
    studies
        So many are gone from the records.
    left
        Files of theirs that could not be removed: a drive that is away, or another user's folder. Those outside the
        site's folder are tried again with every deletion and whenever the records are opened.
    cleared
        The write-ahead log holds nothing of them any more; False where another program kept it busy.
    """

    studies: int
    left: tuple[Path, ...]
    cleared: bool


def note(connection: sqlite3.Connection, key: str, paths: Iterable[Path]) -> None:
    """Note where files of a study lie; what is noted already is fine."""
    rows = [(os.fsencode(path.absolute()), key) for path in paths]
    connection.executemany("INSERT OR IGNORE INTO filed VALUES (?, ?)", rows)
    # a file that was to be removed, and whose place is taken anew
    connection.executemany("DELETE FROM removals WHERE path = ?", [row[:1] for row in rows])


def noted(connection: sqlite3.Connection, key: str) -> list[Path]:
    """Return where files of a study lie."""
    rows = connection.execute("SELECT path FROM filed WHERE study = ? ORDER BY path", (key,))
    return [Path(os.fsdecode(row["path"])) for row in rows]


def delete_rows(connection: sqlite3.Connection, key: str, revision: int, actor: str, reason: str) -> None:
    """Delete a study's rows, and keep what is to be removed for :func:`finish_removals`."""
    connection.execute("INSERT OR IGNORE INTO removals SELECT path FROM filed WHERE study = ?", (key,))
    connection.execute("DELETE FROM studies WHERE key = ?", (key,))
    connection.execute("INSERT INTO deletions VALUES (?, ?)", (key, revision))
    audit.append(connection, actor, "study deleted", key, {"reason": reason})


def remove_files(database: Database, files: StudyFiles, keys: list[str]) -> Deletion:
    """Remove the files of studies whose rows are deleted, and what the write-ahead log holds of them."""
    left = [files.folder(key) for key in keys if not files.remove(key)]
    left += finish_removals(database)
    return Deletion(len(keys), tuple(left), database.clear_log())


def finish_removals(database: Database) -> list[Path]:
    """Remove the noted files of deleted studies; return those that could not be."""
    with database.reading() as connection:
        paths = [Path(os.fsdecode(row["path"])) for row in connection.execute("SELECT path FROM removals")]
    left: list[Path] = []
    for path in paths:
        try:
            # on a drive that is away the folder is missing as well: the file may still be there
            path.unlink(missing_ok=path.parent.is_dir())
        except OSError:
            left.append(path)
    gone = [(os.fsencode(path),) for path in paths if path not in left]
    if gone:
        with database.writing() as connection:
            connection.executemany("DELETE FROM removals WHERE path = ?", gone)
    return left

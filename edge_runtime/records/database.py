"""The site's SQLite file: private, write-ahead log, every commit on disk before it counts."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.records.on_disk import make_private
from edge_runtime.records.schema import SCHEMA_VERSION, TABLES, UPGRADES

__all__ = ["DATABASE_NAME", "Database", "RecordsError", "make_private_folder", "utc_now"]

DATABASE_NAME = "records.sqlite"
_BUSY_SECONDS = 30.0
_CLEARING_SECONDS = 10.0


class RecordsError(EdgeRuntimeError):
    """The site's records cannot be opened, read or written, or what was asked for is not in them."""


class Database:
    """One connection, for any thread, one at a time. Other processes may have the same file open.

    Parameters
    ----------
    site
        The site's folder. The database is made in it where there is none (mode 0600), one that is open to others
        is made private, and one of an older schema is brought up to this one.

    Raises
    ------
    RecordsError
        The folder cannot be written, the file is no database of ours, or one of a newer runtime.
    """

    def __init__(self, site: Path) -> None:
        self.path = site / DATABASE_NAME
        self.upgraded_from: int | None = None
        self._lock = threading.RLock()
        try:
            # SQLite gives its -wal and -shm files the mode of the database
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    make_private(self.path.with_name(DATABASE_NAME + suffix))
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self.path, error) from error
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            # what is deleted is overwritten with zeros: patient data
            self._connection.execute("PRAGMA secure_delete = ON")
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise _unusable(self.path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self.writing() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == SCHEMA_VERSION:
                return
            if version in UPGRADES:
                for number in range(version, SCHEMA_VERSION):
                    for statement in UPGRADES[number]:
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                self.upgraded_from = version
                return
            if version != 0 or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise RecordsError(
                    f"{self.path} is of another schema version", got=str(version), expected=str(SCHEMA_VERSION),
                    remedy="use the runtime that belongs to it, or another --site",
                )  # fmt: skip
            for statement in TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for queries that belong together: they see one state of the database."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for a change: all of the block or nothing, on disk when the block is left."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute(begin)
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise _unusable(self.path, error) from error

    def clear_log(self) -> bool:
        """Move the write-ahead log into the database and cut it to nothing, so that what was deleted is in neither.

        Returns
        -------
        bool
            False where another program went on reading for 10 s: then the log still holds what was deleted, until a
            later call or the last program closes the database.
        """
        end = monotonic() + _CLEARING_SECONDS
        with self._lock:
            try:
                self._connection.execute("PRAGMA busy_timeout = 1000")
                while self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    if monotonic() > end:
                        return False
            except sqlite3.Error as error:
                raise _unusable(self.path, error) from error
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
        return True

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy of the database, while others go on writing."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with self._lock:
            try:
                target = sqlite3.connect(path)
                try:
                    self._connection.backup(target)
                finally:
                    target.close()
            except sqlite3.Error as error:
                raise _unusable(path, error) from error

    def check_integrity(self) -> list[str]:
        """Return SQLite's own complaints about the file; empty where it is whole."""
        with self.reading() as connection:
            words = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            words += [
                f"{row[0]}: row {row[1]} names no {row[2]}" for row in connection.execute("PRAGMA foreign_key_check")
            ]
        return [word for word in words if word != "ok"]

    def close(self) -> None:
        """Close the connection. A second call does nothing."""
        with self._lock:
            self._connection.close()


def make_private_folder(folder: Path, *, keep_mode: bool = False) -> None:
    """Make a folder that only its owner may enter (mode 0700).

    Parameters
    ----------
    keep_mode
        One that exists keeps its mode; else it is made private, unless it belongs to another user.

    Raises
    ------
    RecordsError
        It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not keep_mode:
            make_private(folder)
    except OSError as error:
        raise RecordsError(
            f"{folder} cannot be made", got=error.strerror or str(error),
            remedy="choose a folder that you can write to",
        ) from error  # fmt: skip


def wider_than_owner(path: Path) -> bool:
    """Tell whether others than the owner may read or enter a path. Always False on Windows, which has no modes."""
    return sys.platform != "win32" and bool(path.stat().st_mode & 0o077)


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC with milliseconds, such as ``2025-03-01T09:30:00.123+00:00``."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _unusable(path: Path, error: Exception) -> RecordsError:
    remedy = "check the disk's free space and the permissions; `edge-runtime doctor` looks at both"
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        remedy = "the file was overwritten: restore the site from a backup (`edge-runtime records restore`)"
    elif "malformed" in str(error):
        remedy = "the file is damaged: restore the site from a backup (`edge-runtime records restore`)"
    elif "locked" in str(error):
        remedy = "another program holds the site for long: wait for it, or end it"
    return RecordsError(f"the records {path} cannot be used", got=str(error), remedy=remedy)

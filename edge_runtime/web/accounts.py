"""Who may use the page: people with a role and a passphrase, and tokens for programs. One private SQLite file.

Passphrases are kept as argon2id hashes (RFC 9106, the library's defaults), tokens as SHA-256 of 32 random bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from edge_runtime.errors import EdgeRuntimeError

__all__ = ["SHORTEST_PASSPHRASE", "Accounts", "AccountsError", "Person", "Role", "Token"]

Role = Literal["reader", "administrator"]

DATABASE_NAME = "accounts.sqlite"
SHORTEST_PASSPHRASE = 12
LONGEST_PASSPHRASE = 256
LONGEST_NAME = 60

_TABLES = """
CREATE TABLE IF NOT EXISTS people (
    name TEXT PRIMARY KEY COLLATE NOCASE, role TEXT NOT NULL, hash TEXT NOT NULL, created TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, purpose TEXT NOT NULL, sha256 TEXT NOT NULL UNIQUE, role TEXT NOT NULL, owner TEXT NOT NULL,
    created TEXT NOT NULL
);
"""


class AccountsError(EdgeRuntimeError):
    """A person or token cannot be added, changed or removed as asked."""


@dataclass(frozen=True)
class Person:
    """Somebody who may log in. ``created`` is ISO 8601, UTC."""

    name: str
    role: Role
    created: str


@dataclass(frozen=True)
class Token:
    """A program's key; the key itself is known to its owner alone."""

    id: str
    purpose: str
    role: Role
    owner: str
    created: str


class Accounts:
    """The people and tokens of a site, in ``<site>/accounts.sqlite`` (mode 0600). Safe for threads.

    Parameters
    ----------
    site
        The site's folder; made where it is absent.
    hasher
        How passphrases are hashed; None: argon2id as RFC 9106 advises. Older hashes are renewed at the next login.

    Raises
    ------
    AccountsError
        The file cannot be opened; from methods: a name that is taken or unknown, a passphrase that is too short.
    """

    def __init__(self, site: Path, hasher: PasswordHasher | None = None) -> None:
        self.path = site / DATABASE_NAME
        self._lock = threading.Lock()
        # One hash at a time: each takes 64 MiB, and small machines have few of those.
        self._hashing = threading.Lock()
        self._hasher = hasher or PasswordHasher()
        self._dummy = self._hasher.hash(secrets.token_hex(16))
        try:
            site.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise AccountsError(
                f"{self.path} cannot be used", got=str(error), remedy="check the folder's permissions and free space"
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection as connection:
            yield connection

    @property
    def people(self) -> list[Person]:
        """Everybody, by name."""
        with self._open() as connection:
            rows = connection.execute("SELECT name, role, created FROM people ORDER BY name").fetchall()
        return [Person(**row) for row in rows]

    def person(self, name: str) -> Person | None:
        """Return the person of this name (case does not matter), or None."""
        with self._open() as connection:
            row = connection.execute("SELECT name, role, created FROM people WHERE name = ?", (name,)).fetchone()
        return None if row is None else Person(**row)

    def add(self, name: str, role: Role, passphrase: str, *, only_first: bool = False) -> Person:
        """Add a person; with ``only_first`` only where there is nobody yet."""
        name = " ".join(name.split())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise AccountsError("The name is empty or too long.", expected=f"1 to {LONGEST_NAME} characters")
        if role not in ("reader", "administrator"):
            raise AccountsError("There is no such role.", got=role, expected="reader or administrator")
        row = (name, role, self._hash(passphrase), _now())
        with self._open() as connection:
            if only_first and connection.execute("SELECT count(*) FROM people").fetchone()[0]:
                raise AccountsError("The first administrator is there already.")
            try:
                connection.execute("INSERT INTO people VALUES (?, ?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise AccountsError("This name is taken.", got=name) from error
        return Person(name, role, row[3])

    def check(self, name: str, passphrase: str) -> Person | None:
        """Return the person if the passphrase is theirs, else None; takes as long for a name that is unknown."""
        with self._open() as connection:
            row = connection.execute("SELECT * FROM people WHERE name = ?", (name,)).fetchone()
        try:
            with self._hashing:
                self._hasher.verify(self._dummy if row is None else row["hash"], passphrase[:LONGEST_PASSPHRASE])
        except (Argon2Error, InvalidHashError):
            return None
        if row is None:
            return None
        if self._hasher.check_needs_rehash(row["hash"]):
            self.set_passphrase(row["name"], passphrase)
        return Person(row["name"], row["role"], row["created"])

    def set_passphrase(self, name: str, passphrase: str) -> None:
        """Give a person another passphrase."""
        hashed = self._hash(passphrase)
        with self._open() as connection:
            if not connection.execute("UPDATE people SET hash = ? WHERE name = ?", (hashed, name)).rowcount:
                raise AccountsError("There is nobody of this name.", got=name)

    def remove(self, name: str) -> None:
        """Remove a person with their tokens; the last administrator stays."""
        with self._open() as connection:
            row = connection.execute("SELECT role FROM people WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise AccountsError("There is nobody of this name.", got=name)
            others = connection.execute(
                "SELECT count(*) FROM people WHERE role = 'administrator' AND name != ?", (name,)
            ).fetchone()[0]
            if row["role"] == "administrator" and not others:
                raise AccountsError("The last administrator cannot be removed.")
            connection.execute("DELETE FROM people WHERE name = ?", (name,))
            connection.execute("DELETE FROM tokens WHERE owner = ? COLLATE NOCASE", (name,))

    @property
    def tokens(self) -> list[Token]:
        """Every token, newest first, without its key."""
        with self._open() as connection:
            rows = connection.execute("SELECT id, purpose, role, owner, created FROM tokens ORDER BY created DESC")
            return [Token(**row) for row in rows]

    def add_token(self, purpose: str, role: Role, owner: str) -> tuple[Token, str]:
        """Make a token; returns it with its key, which is not kept."""
        purpose = " ".join(purpose.split())[:LONGEST_NAME]
        if not purpose or role not in ("reader", "administrator"):
            raise AccountsError("A token needs a purpose and a role.")
        key = secrets.token_urlsafe(32)
        token = Token(secrets.token_hex(6), purpose, role, owner, _now())
        with self._open() as connection:
            row = (token.id, purpose, _sha256(key), role, owner, token.created)
            connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", row)
        return token, key

    def remove_token(self, token_id: str) -> None:
        """Withdraw a token; one that is not there is fine."""
        with self._open() as connection:
            connection.execute("DELETE FROM tokens WHERE id = ?", (token_id,))

    def token(self, key: str) -> Token | None:
        """Return the token of this key, or None."""
        wanted = _sha256(key)
        with self._open() as connection:
            row = connection.execute("SELECT * FROM tokens WHERE sha256 = ?", (wanted,)).fetchone()
        if row is None or not hmac.compare_digest(row["sha256"], wanted):
            return None
        return Token(row["id"], row["purpose"], row["role"], row["owner"], row["created"])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _hash(self, passphrase: str) -> str:
        if not SHORTEST_PASSPHRASE <= len(passphrase) <= LONGEST_PASSPHRASE:
            raise AccountsError(
                f"The passphrase needs {SHORTEST_PASSPHRASE} to {LONGEST_PASSPHRASE} characters.",
                remedy="A few words that do not belong together are easy to remember and hard to guess.",
            )
        with self._hashing:
            return self._hasher.hash(passphrase)


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

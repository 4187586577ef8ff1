"""Who is logged in. Kept in memory: when the server stops, everybody is logged out."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["LoginLimit", "Sessions"]


@dataclass
class _Session:
    name: str
    started: float
    used: float


class Sessions:
    """Sessions by a random token that only the browser's cookie holds; here stands its hash.

    Parameters
    ----------
    idle_seconds
        A session without use for so long is locked: it ends.
    longest_seconds
        A session ends after this, used or not.
    clock
        Seconds that only grow.
    """

    def __init__(
        self, idle_seconds: float, longest_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, _Session] = {}

    def start(self, name: str) -> str:
        """Begin a session; always a new token, so that one known before the login is worth nothing."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._sessions = {k: s for k, s in self._sessions.items() if self._alive(s, now)}
            self._sessions[_key(token)] = _Session(name, now, now)
        return token

    def find(self, token: str, *, use: bool = True) -> str | None:
        """Return whose session it is, or None; ``use`` False does not count as use (a page that asks by itself)."""
        now = self._clock()
        with self._lock:
            session = self._sessions.get(_key(token))
            if session is None or not self._alive(session, now):
                self._sessions.pop(_key(token), None)
                return None
            if use:
                session.used = now
            return session.name

    def end(self, token: str) -> None:
        """End one session."""
        with self._lock:
            self._sessions.pop(_key(token), None)

    def end_all(self, name: str, *, but: str | None = None) -> None:
        """End every session of a person: after a new passphrase, or when they are removed."""
        kept = None if but is None else _key(but)
        with self._lock:
            self._sessions = {
                k: s for k, s in self._sessions.items() if k == kept or s.name.casefold() != name.casefold()
            }

    def _alive(self, session: _Session, now: float) -> bool:
        return now - session.used <= self.idle_seconds and now - session.started <= self._longest_seconds


class LoginLimit:
    """Slows guessing down: so many wrong passphrases in a quarter of an hour, by name and sender, sender, and name.

    The third, larger limit holds against many senders; it lets an attacker keep one name out for minutes, which is
    the lesser harm.
    """

    WINDOW_SECONDS = 15 * 60
    LIMITS = (5, 20, 40)
    REMEMBERED = 2000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, ...], list[float]] = OrderedDict()

    def wait_seconds(self, name: str, sender: str) -> int:
        """Return how long this sender has to wait before the next try; 0: it may try."""
        now = self._clock()
        wait = 0.0
        with self._lock:
            for key, limit in zip(_keys(name, sender), self.LIMITS, strict=True):
                times = [t for t in self._failures.get(key, ()) if now - t < self.WINDOW_SECONDS]
                if len(times) >= limit:
                    wait = max(wait, times[-limit] + self.WINDOW_SECONDS - now)
        return int(wait) + 1 if wait > 0 else 0

    def failed(self, name: str, sender: str) -> None:
        """Count a wrong passphrase."""
        now = self._clock()
        with self._lock:
            for key, limit in zip(_keys(name, sender), self.LIMITS, strict=True):
                self._failures[key] = [*self._failures.pop(key, []), now][-limit:]
            while len(self._failures) > self.REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, sender: str) -> None:
        """Forget the wrong passphrases of this name from this sender."""
        with self._lock:
            self._failures.pop(_keys(name, sender)[0], None)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _keys(name: str, sender: str) -> tuple[tuple[str, ...], ...]:
    name = name.casefold()[:100]
    return ("pair", name, sender), ("sender", sender), ("name", name)

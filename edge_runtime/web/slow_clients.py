"""A client that sends or takes its bytes too slowly is cut off, and cannot take the places of others.

Each worker thread serves one connection at a time. A deadline stands over every wait for that connection: its head,
each piece of its body, each piece of its answer. Large bodies need one of as many slots as there are places before
the model, so that however many clients dawdle over uploads, threads are left for the page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from typing import Any

from cheroot.server import HTTPConnection, HTTPRequest

__all__ = ["NO_SLOT", "Deadlines", "FairWorkers", "watched_connection"]

HEAD_SECONDS = 8.0
PIECE_BYTES = 32 * 1024
PIECE_SECONDS = 10.0
UNWANTED_SECONDS = 3.0
"""Time to get rid of a body that nobody will read, so that the sender can read why."""
LARGE_BYTES = 64 * 1024
NO_SLOT = "edge_runtime.no_slot"
"""Key of the WSGI environment: the application should answer that all places are taken."""

_serving = threading.local()


class Deadlines:
    """Cuts connections whose time is up. One thread watches all of them; a context manager."""

    TICK_SECONDS = 0.5

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, tuple[float, socket]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Cut the connection that this thread serves if the block takes longer."""
        connection: socket | None = getattr(_serving, "socket", None)
        if connection is None:  # not under our server: a test's client
            yield
            return
        me = threading.get_ident()
        with self._lock:
            outer = self._ends.get(me)
            self._ends[me] = (time.monotonic() + seconds, connection)
        try:
            yield
        finally:
            with self._lock:
                if outer is None:
                    self._ends.pop(me, None)
                else:
                    self._ends[me] = outer

    def _watch(self) -> None:
        while not self._stop.wait(self.TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = [connection for end, connection in self._ends.values() if end < now]
            for connection in late:
                with suppress(OSError):
                    # of the plain socket, also under TLS: its own would take the session from under the worker
                    socket.shutdown(connection, SHUT_RDWR)

    def __enter__(self) -> Deadlines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)


def watched_connection(deadlines: Deadlines) -> type[HTTPConnection]:
    """Return cheroot's connection with a deadline over the head of every request."""

    class WatchedRequest(HTTPRequest):
        def parse_request(self) -> None:
            with deadlines.at_most(HEAD_SECONDS):
                super().parse_request()

    class WatchedConnection(HTTPConnection):
        RequestHandlerClass = WatchedRequest

        def communicate(self) -> bool:
            """Serve the next request, its socket known to the deadlines."""
            _serving.socket = self.socket
            try:
                return bool(super().communicate())  # type: ignore[no-untyped-call]
            except OSError:  # gone, or no TLS client at all
                return False
            finally:
                _serving.socket = None

    return WatchedConnection


class FairWorkers:
    """WSGI around the application: slots for large bodies, deadlines over what comes in and goes out.

    Bodies that the application leaves unread are taken in small pieces and dropped: cheroot would read the rest in
    one piece, into memory, before it sends the response.
    """

    def __init__(self, app: Any, deadlines: Deadlines, slots: int) -> None:
        self._app = app
        self._deadlines = deadlines
        self._slots = threading.BoundedSemaphore(slots)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (WSGI, PEP 3333)."""
        length = environ.get("CONTENT_LENGTH") or ""
        large = "HTTP_TRANSFER_ENCODING" in environ or (length.isdigit() and int(length) > LARGE_BYTES)
        slot = large and self._slots.acquire(blocking=False)
        body = environ["wsgi.input"]
        try:
            environ[NO_SLOT] = large and not slot
            environ["wsgi.input"] = _Paced(body, self._deadlines)
            # the model's work ends here: the slot is free while the answer travels
            response = self._app(environ, start_response)
            with self._deadlines.at_most(UNWANTED_SECONDS if environ[NO_SLOT] else PIECE_SECONDS):
                while getattr(body, "remaining", 0) > 0 and body.read(min(body.remaining, PIECE_BYTES)):
                    pass
        finally:
            if slot:
                self._slots.release()
        return self._paced_out(response)

    def _paced_out(self, response: Any) -> Iterator[bytes]:
        try:
            for block in response:
                for start in range(0, len(block), PIECE_BYTES):
                    # the server writes the piece before it comes for the next one
                    with self._deadlines.at_most(PIECE_SECONDS):
                        yield block[start : start + PIECE_BYTES]
        finally:
            if hasattr(response, "close"):
                response.close()


class _Paced:
    """A request body that arrives at a steady pace or not at all."""

    def __init__(self, body: Any, deadlines: Deadlines) -> None:
        self._body = body
        self._deadlines = deadlines

    def read(self, size: int = -1) -> bytes:
        pieces: list[bytes] = []
        wanted = size if size is not None and size >= 0 else None
        while wanted is None or wanted > 0:
            with self._deadlines.at_most(PIECE_SECONDS):
                piece = self._body.read(PIECE_BYTES if wanted is None else min(PIECE_BYTES, wanted))
            if not piece:
                break
            pieces.append(piece)
            wanted = None if wanted is None else wanted - len(piece)
        return b"".join(pieces)

    def readline(self, size: int = -1) -> bytes:
        with self._deadlines.at_most(PIECE_SECONDS):
            return bytes(self._body.readline(size) if size is not None and size >= 0 else self._body.readline())

    def readlines(self, _hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

"""Serves the page with a threaded WSGI server until it is told to stop."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from cheroot import wsgi
from flask import Flask

from edge_runtime.bundle import Bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records
from edge_runtime.web import FORM_OVERHEAD_BYTES, WebConfig, create_app
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.slow_clients import Deadlines, FairWorkers, watched_connection
from edge_runtime.web.station import Station
from edge_runtime.web.tls import PatientTlsAdapter, TlsFiles

__all__ = ["is_loopback", "listening", "serve"]

SPARE_THREADS = 12
"""Threads beyond the queue's places, so that the page and its health answer while the queue is full."""

CLIENT_TIMEOUT_SECONDS = 15
"""A client that sends or takes nothing for so long is cut off."""

LOG = logging.getLogger(__name__)


def serve(
    bundle: Bundle,
    predictor: Predictor,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    records: Records | None = None,
    accounts: Accounts | None = None,
    tls: TlsFiles | None = None,
    without_tls: bool = False,
    config: WebConfig | None = None,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> None:
    """Serve the page; returns after Ctrl-C or SIGTERM, when running requests are finished.

    Parameters
    ----------
    bundle, predictor
        What answers.
    host, port
        Where to listen; port 0 takes a free one. The address is told through ``say``.
    records, accounts
        As for :func:`edge_runtime.web.create_app`.
    tls
        Certificate and key; None serves plain HTTP.
    without_tls
        Plain HTTP on an address that other machines can reach is refused unless this is set.
    config
        Limits of the page.
    say
        Takes each line for the user.

    Raises
    ------
    UsageError
        ``host`` is not loopback, and there is no login, or neither TLS nor ``without_tls``.
    EdgeRuntimeError
        The address cannot be listened on, or the certificate cannot be used.
    """
    config = replace(config or WebConfig(), encrypted=tls is not None)
    if not is_loopback(host):
        if accounts is None:
            raise UsageError(
                f"{host} can be reached from other machines, and the page has no login", got=host,
                expected="127.0.0.1, ::1 or localhost", remedy="serve it with a login, or leave --host out",
            )  # fmt: skip
        if tls is None and not without_tls:
            raise UsageError(
                f"{host} can be reached from other machines, and the page has no encryption", got=host,
                expected="a certificate",
                remedy="make one with `edge-runtime tls init`; or, on a network you trust wholly, --without-tls",
            )  # fmt: skip
        if tls is None:
            say("Warning: no encryption. Everybody on this network can read along, passphrases included.")
        config = replace(config, trusted_hosts=None)
    if accounts is not None and not accounts.people:
        config = replace(config, setup_code=secrets.token_hex(4))
    stop = threading.Event()
    # a file that hangs or crashes its decoder costs a worker process, not the page
    with DecodingPool(workers=1) as pool, ExitStack() as stack:
        app = create_app(bundle, predictor, config, records, accounts, pool.read)
        url = stack.enter_context(listening(app, host, port, tls))
        stack.enter_context(_stopped_by_signals(stop))
        threading.Thread(target=_warm_up, args=(predictor, pool), name="warm-up", daemon=True).start()
        say(f"The page is open at {url}  (Ctrl-C stops it)")
        if config.setup_code is not None:
            say(f"First start: make the administrator at {url}setup?code={config.setup_code}")
        while not stop.wait(timeout=1.0):  # a bare wait() cannot be interrupted on Windows
            pass
        say("Stopping: finishing what is running.")


@contextmanager
def listening(app: Flask, host: str = "127.0.0.1", port: int = 0, tls: TlsFiles | None = None) -> Iterator[str]:
    """Answer requests in background threads while the context is open; yields the page's URL.

    Raises
    ------
    EdgeRuntimeError
        The address is in use, not this machine's, or not permitted; the certificate cannot be used.
    """
    station: Station = app.extensions[Station.KEY]
    slots = station.config.waiting_places + 1
    with Deadlines() as deadlines:
        server = _Server(
            (host, port),
            FairWorkers(app, deadlines, slots),
            numthreads=slots + SPARE_THREADS,
            timeout=CLIENT_TIMEOUT_SECONDS,
            request_queue_size=128,
            shutdown_timeout=30,
        )
        server.ConnectionClass = watched_connection(deadlines)
        if tls is not None:
            server.ssl_adapter = PatientTlsAdapter(tls)
        # A little above the application's own limit, whose answer says more than the server's.
        server.max_request_body_size = station.config.max_upload_bytes + 2 * FORM_OVERHEAD_BYTES
        try:
            server.prepare()
        except OSError as error:
            raise EdgeRuntimeError(
                f"cannot listen on {host} port {port}",
                got=str(error),
                remedy="choose another --port (0 takes a free one), or stop what is using it",
            ) from error
        thread = threading.Thread(target=server.serve, name="edge-runtime-page", daemon=True)
        thread.start()
        try:
            yield _url(host, server.bind_addr[1], "http" if tls is None else "https")
        finally:
            server.stop()
            thread.join(timeout=5)


def is_loopback(host: str) -> bool:
    """True if ``host`` (a name or an address) can only be reached from this machine."""
    try:
        addresses = {ipaddress.ip_address(host.strip("[]"))}
    except ValueError:
        try:
            found = socket.getaddrinfo(host, None)
        except OSError:
            return False
        addresses = {ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found}
    return bool(addresses) and all(address.is_loopback for address in addresses)


def _warm_up(predictor: Predictor, pool: DecodingPool) -> None:
    """Start the reader and run the model once, so that the first file does not wait for it."""
    try:
        with suppress(EdgeRuntimeError):
            pool.read(Path(__file__).with_name("static") / "icon-512.png")  # whatever it says: it has started
        predictor.predict(np.zeros((256, 256), np.uint8))
    except Exception:  # the first file will meet the same error and say it
        LOG.warning("warming up failed", exc_info=True)


class _Server(wsgi.Server):
    """Cheroot's server, with its messages in the log instead of on the terminal."""

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        LOG.log(level, msg, exc_info=sys.exc_info() if traceback else None)


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into ``stop`` while open; a second one acts as it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        for number in before:
            signal.signal(number, on_signal)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(host: str, port: int, scheme: str) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{name}:{port}/"

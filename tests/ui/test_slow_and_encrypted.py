"""Clients that dawdle, and the page under TLS."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from flask import Flask

from edge_runtime.commands.tls import command as tls_command
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.web import slow_clients
from edge_runtime.web.server import listening
from edge_runtime.web.station import Station
from edge_runtime.web.tls import TlsFiles, days_left, init_tls
from tests.ui.scripted import png_bytes
from tests.ui.test_server import get, post


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(slow_clients, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(slow_clients, "PIECE_SECONDS", 1.0)
    monkeypatch.setattr(slow_clients.Deadlines, "TICK_SECONDS", 0.1)


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=30)


def ended_within(connection: socket.socket, seconds: float, send: bytes) -> bool:
    """Trickle ``send`` byte by byte; True once the server has hung up."""
    connection.settimeout(0.2)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            connection.send(send)
            if connection.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


HEAD = (
    b"POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 3000000\r\n\r\n"
)


def test_a_head_that_never_ends_is_cut_off(impatient: None, url: str) -> None:
    with connected(url) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert ended_within(slow, 15, b"a")


def test_slow_uploads_hold_no_more_than_their_slots(impatient: None, url: str, app: Flask) -> None:
    """Twelve clients trickle their uploads; the page answers all the time, and a quick upload is served after them."""
    slow = [connected(url) for _ in range(12)]
    try:
        for each in slow:
            each.sendall(HEAD + b"--b\r\n")
        assert get(url, "/") == 200
        assert get(url, "/api/v1/health") == 200
        assert all(ended_within(each, 20, b"a") for each in slow)
    finally:
        for each in slow:
            each.close()
    end = time.monotonic() + 30
    while (status := post(url, png_bytes())[0]) != 200:
        assert status == 503 and time.monotonic() < end
    station: Station = app.extensions[Station.KEY]
    while list(station.uploads.iterdir()):
        assert time.monotonic() < end


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return init_tls(tmp_path_factory.mktemp("site"), ("localhost", "127.0.0.1"))


@pytest.fixture
def tls_url(app: Flask, tls: TlsFiles) -> Iterator[str]:
    with listening(app, tls=tls) as address:
        yield address


def trusting(tls: TlsFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tls.authority))


def test_the_page_under_its_own_certificate(tls_url: str, tls: TlsFiles) -> None:
    assert tls_url.startswith("https://")
    with connected(tls_url) as plain, trusting(tls).wrap_socket(plain, server_hostname="127.0.0.1") as secure:
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
        secure.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: secure.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")


def test_who_never_shakes_hands_holds_nobody_up(tls_url: str, tls: TlsFiles) -> None:
    silent = [connected(tls_url) for _ in range(5)]
    try:
        start = time.monotonic()
        test_the_page_under_its_own_certificate(tls_url, tls)
        assert time.monotonic() - start < slow_clients.HEAD_SECONDS
    finally:
        for each in silent:
            each.close()


def test_plain_http_and_old_tls_get_nothing(tls_url: str, tls: TlsFiles) -> None:
    with connected(tls_url) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" not in plain.recv(4096)
    old = trusting(tls)
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with connected(tls_url) as plain, pytest.raises((ssl.SSLError, OSError)):
        old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_tls_init_renews_and_keeps_the_authority(tmp_path: Path) -> None:
    def run() -> str:
        result = CliRunner().invoke(tls_command, ["init", "--site", str(tmp_path), "--name", "clinic.local"])
        assert result.exit_code == 0, result.output
        return result.output

    assert "authority.crt" in run()
    files = TlsFiles.of_site(tmp_path)
    assert files.authority is not None
    authority, certificate = files.authority.read_bytes(), files.certificate.read_bytes()
    run()
    assert files.authority.read_bytes() == authority
    assert files.certificate.read_bytes() != certificate
    assert 800 < days_left(files) <= 825
    for secret in (files.key, files.authority.with_suffix(".key")):
        assert secret.stat().st_mode & 0o077 == 0


def test_a_certificate_that_is_none_is_said_plainly(app: Flask, tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("no certificate")
    with (
        pytest.raises(EdgeRuntimeError, match="cannot be used"),
        listening(app, tls=TlsFiles(tmp_path / "c.pem", tmp_path / "k.pem")),
    ):
        pass

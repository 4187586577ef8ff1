"""The server under load, at its edges, and when it is told to stop."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask

from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.web import WebConfig
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.server import is_loopback, listening, serve
from edge_runtime.web.station import Station
from tests.ui.scripted import ScriptedPredictor, png_bytes, scripted_bundle

ROOT = Path(__file__).parents[2]


def post(url: str, content: bytes, path: str = "/api/v1/predict") -> tuple[int, dict[str, str], bytes]:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        body = head + content + b"\r\n--b--\r\n"
        connection.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=b"})
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def get(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_a_full_queue_sends_the_next_away_politely(url: str, app: Flask, predictor: ScriptedPredictor) -> None:
    predictor.gate.clear()
    station: Station = app.extensions[Station.KEY]
    with ThreadPoolExecutor(2) as senders:
        first = [senders.submit(post, url, png_bytes()) for _ in range(2)]
        while station.queue.present < 2:
            time.sleep(0.01)
        status, headers, _ = post(url, png_bytes())
        assert status == 503
        assert 1 <= int(headers["Retry-After"]) <= 30
        assert get(url, "/api/v1/health") == 200
        predictor.gate.set()
        assert [answer.result()[0] for answer in first] == [200, 200]


def test_fifty_at_once_are_answered_or_sent_away_and_never_share_the_model(
    url: str, app: Flask, predictor: ScriptedPredictor
) -> None:
    with ThreadPoolExecutor(50) as senders:
        statuses = [status for status, _, _ in senders.map(lambda _: post(url, png_bytes()), range(50))]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) == predictor.answered > 0
    assert predictor.most_at_once == 1
    station: Station = app.extensions[Station.KEY]
    assert station.queue.present == 0
    assert list(station.uploads.iterdir()) == []


def test_a_body_that_nobody_wants_is_read_in_pieces_and_dropped(url: str) -> None:
    status, _, _ = post(url, b"\0" * 1_500_000, path="/")
    assert status == 405


def test_a_body_beyond_the_limit_is_cut_off(url: str) -> None:
    try:
        status, _, _ = post(url, b"\0" * 20_000_000)
    except (ConnectionError, BrokenPipeError):
        return  # cut off while sending
    assert status == 413


def test_a_file_sent_in_chunks_without_a_length_is_bounded_too(url: str, app: Flask) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    pieces = iter([head, *[b"\0" * 100_000] * 60, b"\r\n--b--\r\n"])
    try:
        connection.request(
            "POST",
            "/api/v1/predict",
            pieces,
            {"Content-Type": "multipart/form-data; boundary=b"},
            encode_chunked=True,
        )
        response = connection.getresponse()
        assert (response.status, response.headers.get_content_type()) == (413, "application/json")
    except (ConnectionError, BrokenPipeError):
        pass
    finally:
        connection.close()
    station: Station = app.extensions[Station.KEY]
    for _ in range(100):
        if not list(station.uploads.iterdir()):
            break
        time.sleep(0.05)
    assert list(station.uploads.iterdir()) == []


def test_another_address_needs_a_login_and_encryption(predictor: ScriptedPredictor, accounts: Accounts) -> None:
    with pytest.raises(UsageError, match="the page has no login"):
        serve(scripted_bundle(), predictor.as_predictor(), host="0.0.0.0", port=0, without_tls=True)
    with pytest.raises(UsageError, match="the page has no encryption"):
        serve(scripted_bundle(), predictor.as_predictor(), host="0.0.0.0", port=0, accounts=accounts)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_port_in_use_is_said_plainly(app: Flask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(EdgeRuntimeError, match="cannot listen"),
            listening(app, port=taken.getsockname()[1]),
        ):
            pass


def test_threads_end_with_the_server(app: Flask) -> None:
    before = threading.active_count()
    with listening(app) as url:
        assert get(url, "/") == 200
    assert threading.active_count() <= before


PROGRAM = """
from tests.ui.scripted import ScriptedPredictor, scripted_bundle
from edge_runtime.web.server import serve
serve(scripted_bundle(), ScriptedPredictor().as_predictor(), port=0)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # A test run that was started in the background ignores Ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "http://127.0.0.1:" in line
    url = next(word for word in line.split() if word.startswith("http"))
    assert post(url, png_bytes())[0] == 200
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_waiting_too_long_is_answered_too(predictor: ScriptedPredictor) -> None:
    from edge_runtime.web import create_app

    predictor.gate.clear()
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(waiting_places=3, wait_seconds=0.2))
    with listening(app) as url, ThreadPoolExecutor(1) as sender:
        first = sender.submit(post, url, png_bytes())
        while not predictor.at_once:
            time.sleep(0.01)
        assert post(url, png_bytes())[0] == 503
        predictor.gate.set()
        assert first.result()[0] == 200

"""A page with records and people, and somebody who logs in: what the tests of the whole page stand on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from tests.ui.scripted import dicom_bytes

ADMINISTRATOR, READER = "Ada", "Rosalind"
PASSPHRASE = "correct horse battery staple"
SETUP_CODE = "code-on-the-terminal"


def token_of(client: FlaskClient, path: str = "/login") -> str:
    """The token against forged requests that a page hands out."""
    found = re.search(r'name="csrf[_-]token" (?:value|content)="([^"]+)"', client.get(path).text)
    assert found is not None
    return found.group(1)


def log_in(app: Flask, name: str, passphrase: str = PASSPHRASE) -> tuple[FlaskClient, dict[str, str]]:
    """A client with a session, and the header that its changes need."""
    client = app.test_client()
    form = {"csrf_token": token_of(client), "name": name, "passphrase": passphrase}
    assert client.post("/login", data=form).status_code == 303
    return client, {"X-CSRFToken": token_of(client, "/")}


def send(client: FlaskClient, content: bytes | None = None, name: str = "chest.dcm", **options: Any) -> Any:
    content = dicom_bytes() if content is None else content
    return client.post("/api/v1/predict", data={"file": (BytesIO(content), name)}, **options)


def until(happened: Callable[[], Any], seconds: float = 15) -> None:
    """Look again and again; Playwright's own waiting for an expression needs eval, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)

"""A running page, and a real browser in front of it that tolerates no fault."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from argon2 import PasswordHasher
from flask import Flask

from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.server import listening
from tests.ui.scripted import ScriptedPredictor, scripted_bundle
from tests.ui.site import ADMINISTRATOR, PASSPHRASE, READER, SETUP_CODE

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 320, "height": 640}


def find_chromium() -> str | None:
    """The program that the environment variable CHROMIUM names, else the first that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture
def predictor() -> ScriptedPredictor:
    return ScriptedPredictor()


@pytest.fixture
def config() -> WebConfig:
    return WebConfig(max_upload_bytes=4 * 1024 * 1024, waiting_places=1, wait_seconds=10)


@pytest.fixture
def app(predictor: ScriptedPredictor, config: WebConfig) -> Flask:
    return create_app(scripted_bundle(), predictor.as_predictor(), config)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with listening(app) as address:
        yield address


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records(tmp_path / "site") as opened:
        yield opened


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    """Nobody yet."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # the real cost would be most of the tests' time
    with closing(Accounts(tmp_path / "site", quick)) as opened:
        yield opened


@pytest.fixture
def site_app(predictor: ScriptedPredictor, records: Records, accounts: Accounts) -> Flask:
    """A page with records and login, with an administrator and a reader."""
    accounts.add(ADMINISTRATOR, "administrator", PASSPHRASE)
    accounts.add(READER, "reader", PASSPHRASE)
    config = WebConfig(setup_code=SETUP_CODE, waiting_places=3)
    return create_app(scripted_bundle(), predictor.as_predictor(), config, records, accounts)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium under Playwright; skips, saying so, where either is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium, or set CHROMIUM): no browser tests")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def site_url(site_app: Flask) -> Iterator[str]:
    with listening(site_app) as address:
        yield address


@pytest.fixture
def open_page(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Open the page in a window of its own; the test fails on any fault the browser saw.

    Faults: an error or a warning on the console, an exception, a CSP report, a request to another host.
    ``tolerate`` names a part of console messages that the test provokes. A test that takes the fixture ``site_url``
    gets that page, else the one without records and people.
    """
    url: str = request.getfixturevalue("site_url" if "site_url" in request.fixturenames else "url")
    opened = []
    hosts: set[str] = set()
    faults: list[str] = []

    def watch(context: Any, page: Any, tolerate: str | None) -> None:
        def on_console(message: Any) -> None:
            if message.type in ("error", "warning") and not (tolerate and tolerate in message.text):
                faults.append(f"console {message.type}: {message.text}")

        def on_request(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc not in hosts:
                faults.append(f"request to another host: {request.url}")

        context.on("request", on_request)
        page.on("console", on_console)
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        context.expose_function("reportViolation", lambda text: faults.append(f"CSP: {text}"))
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) => "
            "reportViolation(`${event.violatedDirective} ${event.blockedURI}`));"
        )

    def open_one(
        size: dict[str, int] = DESKTOP, scheme: str = "light", tolerate: str | None = None, at: str | None = None
    ) -> Any:
        phone = size["width"] < 500
        context = chromium.new_context(
            viewport=size, color_scheme=scheme, is_mobile=phone, has_touch=phone, reduced_motion="reduce"
        )
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        watch(context, page, tolerate)
        hosts.add(urlsplit(at or url).netloc)
        page.goto(at or url)
        return page

    yield open_one
    for context in opened:
        context.close()
    assert not faults

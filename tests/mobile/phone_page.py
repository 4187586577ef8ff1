"""The phone's page in a real browser: a plain file server that can be switched off, and a phone's viewport."""

from __future__ import annotations

import base64
import functools
import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.ui.conftest import CHROMIUM_OPTIONS, find_chromium

PHONE = {"width": 390, "height": 844}
READY = "body[data-ready]"
SETTLED = f"{READY}, body[data-failed]"
LONG = 240_000  # ms; loading and self-test on a busy machine


class _Handler(SimpleHTTPRequestHandler):
    """Any static host: it knows two more types, and nothing of the page's policy."""

    extensions_map = {  # noqa: RUF012 - the base class's
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: Any) -> None:
        pass


class StaticServer:
    """Serves a folder until :meth:`stop`."""

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Phone:
    """One browser context with a phone's viewport; ``faults`` is what a user's browser would have complained of."""

    def __init__(self, browser: Any, url: str, size: dict[str, int] = PHONE, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport=size, color_scheme=scheme, is_mobile=True, has_touch=True, reduced_motion="reduce"
        )
        self.url = url
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page = self.context.new_page()
        self.page.set_default_timeout(LONG)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.context.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Any) -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.faults.append(f"request to another host: {request.url}")

    def open(self) -> None:
        """Open the page and wait until it is ready, or says why not."""
        self.page.goto(self.url)
        self.page.wait_for_selector(SETTLED)

    @property
    def ready(self) -> str | None:
        """Artifact that answers, None where the page is not ready."""
        return self.page.get_attribute("body", "data-ready")

    def answer(self, file: Path | dict[str, Any]) -> Any:
        """Give the page one file; return its card when it is done."""
        self.page.set_input_files("#files", file)
        card = self.page.locator(".card").first
        card.locator("[data-part=progress]").wait_for(state="hidden")
        return card

    def pixels(self, content: bytes) -> dict[str, Any]:
        """Read a file with the page's own modules: its grey pixels, or the reason why not."""
        return self.page.evaluate(
            """async (base64) => {
                const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
                const { readRadiograph } = await import(new URL('reading.js', document.baseURI).href);
                try {
                    const { pixels, width, height, notes, facts } = await readRadiograph(new File([bytes], 'file'));
                    let letters = '';
                    for (let i = 0; i < pixels.length; i += 8192) {
                        letters += String.fromCharCode(...pixels.subarray(i, i + 8192));
                    }
                    return { width, height, notes, facts, pixels: btoa(letters) };
                } catch (error) {
                    return { reason: error.reason ?? `${error}`, message: error.message, remedy: error.remedy };
                }
            }""",
            base64.b64encode(content).decode(),
        )

    def close(self) -> None:
        self.context.close()


def as_array(read: dict[str, Any]) -> NDArray[np.uint8]:
    """uint8 [H, W] of what :meth:`Phone.pixels` returned."""
    assert "pixels" in read, read
    flat = np.frombuffer(base64.b64decode(read["pixels"]), np.uint8)
    return flat.reshape(read["height"], read["width"])


@contextmanager
def open_chromium() -> Iterator[Any]:
    """Chromium under Playwright; skips, saying so, where either is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium, or set CHROMIUM): no browser tests")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS), timeout=LONG)
        yield browser
        browser.close()


def need_packages() -> None:
    """Skip by name where ``npm ci`` has not been run."""
    from mobile_demo.web.site import HERE, PACKAGES

    if not (PACKAGES / "onnxruntime-web").is_dir():
        pytest.skip(f"the page's npm packages are not installed (npm ci --ignore-scripts --prefix {HERE})")


def changed_copy(site: Path, target: Path, name: str, *, cut: int = 0) -> Path:
    """Copy a site with one byte of a file changed, or its last ``cut`` bytes gone, and no list the wiser."""
    shutil.copytree(site, target)
    content = bytearray((target / name).read_bytes())
    if cut:
        del content[-cut:]
    else:
        content[len(content) // 2] ^= 1
    (target / name).write_bytes(content)
    return target


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""Takes the pictures in docs/screenshots: ``python -m tests.ui.take_screenshots BUNDLE``.

They show synthetic phantoms only. Not a test; run it after a change of the page, and look at what it wrote.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Predictor
from edge_runtime.web import create_app
from edge_runtime.web.server import listening
from tests.ui.conftest import CHROMIUM_OPTIONS, find_chromium
from tests.ui.scripted import dicom_bytes, png_bytes, written
from train.data.phantom import phantom_pixels

OUT = Path(__file__).parents[2] / "docs" / "screenshots"
DESKTOP = {"width": 1200, "height": 1080}
PHONE = {"width": 320, "height": 640}


def main(bundle_path: str) -> None:
    """Open the bundle, serve it, and take every picture."""
    from playwright.sync_api import sync_playwright

    OUT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_bundle(bundle_path) as bundle,
        Predictor.open(bundle) as predictor,
        listening(create_app(bundle, predictor)) as url,
        sync_playwright() as playwright,
    ):
        room = Path(folder)
        covid = written(room, "phantom-covid.dcm", dicom_bytes(phantom_pixels("COVID-19", 7, 900)))
        normal = written(room, "phantom-normal.png", png_bytes(phantom_pixels("normal", 11, 900)))
        letter = written(room, "letter.dcm", b"Dear colleague, ...")
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_OPTIONS))
        for name, size, scheme, files in (
            ("start", {"width": 1200, "height": 760}, "light", []),
            ("result", DESKTOP, "light", [covid]),
            ("result-dark", DESKTOP, "dark", [covid]),
            ("refused", {"width": 1200, "height": 620}, "light", [letter]),
            ("phone", PHONE, "light", [normal]),
            ("phone-dark-start", PHONE, "dark", []),
        ):
            context = browser.new_context(
                viewport=size, color_scheme=scheme, is_mobile=size is PHONE, has_touch=size is PHONE
            )
            page = context.new_page()
            page.goto(url)
            page.set_input_files("#files", files)
            for card in page.locator(".card [data-part=progress]").all():
                card.wait_for(state="hidden")
            if size is PHONE and files:
                page.locator(".card").scroll_into_view_if_needed()
                page.evaluate("document.querySelector('.card').scrollIntoView()")
            page.wait_for_timeout(300)
            keep(page, OUT / f"{name}.png")
            context.close()
        browser.close()


def keep(page: Any, path: Path) -> None:
    """Save what is in view with 256 colours: a third of the bytes."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    palette = picture.quantize(256)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(sys.argv[1])

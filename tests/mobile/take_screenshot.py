"""The picture in docs/mobile.md, taken anew: ``python -m tests.mobile.take_screenshot [BUNDLE]``.

A synthetic radiograph on the phone's page, in headless Chromium with a phone's viewport and the server switched off.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from edge_runtime.bundle import open_bundle
from mobile_demo.web.site import write_site
from tests.mobile.phone_page import Phone, StaticServer, open_chromium
from tests.ui.scripted import png_bytes
from train.data.phantom import phantom_pixels

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs/screenshots/phone-offline.png"


def main(bundle_path: str | Path = ROOT / "models/covidx-b1/bundle") -> None:
    with tempfile.TemporaryDirectory() as folder, open_bundle(bundle_path) as bundle, open_chromium() as browser:
        server = StaticServer(write_site(bundle, Path(folder) / "site").folder)
        phone = Phone(browser, server.url, {"width": 390, "height": 1180})
        phone.open()
        server.stop()
        phone.open()
        content = png_bytes(phantom_pixels("COVID-19", 1, 900))
        card = phone.answer({"name": "synthetic.png", "mimeType": "image/png", "buffer": content})
        assert card.get_attribute("data-probabilities"), card.inner_text()
        phone.page.screenshot(path=OUT)
        phone.close()
    print(OUT)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Takes the pictures in docs/screenshots: ``python -m tests.ui.take_screenshots [BUNDLE]``.

They show synthetic phantoms only, judged by the bundle, or without one by made-up answers. Not a test; run it after a
change of the page, and look at what it wrote.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from contextlib import ExitStack, closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Prediction, Predictor
from edge_runtime.records import Records
from edge_runtime.web import create_app
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.server import listening
from tests.ui.conftest import CHROMIUM_OPTIONS, find_chromium
from tests.ui.scripted import LABELS, ScriptedPredictor, dicom_bytes, scripted_bundle
from train.data.phantom import phantom_pixels

OUT = Path(__file__).parents[2] / "docs" / "screenshots"
DESKTOP = {"width": 1280, "height": 860}
TALL = {"width": 1280, "height": 1500}
PHONE = {"width": 360, "height": 740}
PASSPHRASE = "a passphrase for pictures"
KINDS = ("COVID-19", "normal", "pneumonia", "normal", "COVID-19", "pneumonia")


class Variety(ScriptedPredictor):
    """Made-up answers that differ from each other."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(1)

    def predict(self, pixels: Any) -> Prediction:
        self.probabilities = dict(zip(LABELS, map(float, self.rng.dirichlet([1, 1, 2])), strict=True))
        embedding = 1 + self.rng.normal(size=8).astype(np.float32)
        return dataclasses.replace(super().predict(pixels), embedding=embedding)


def main(bundle_path: str | None = None) -> None:
    """Serve a site with a few studies, and take every picture."""
    from playwright.sync_api import sync_playwright

    OUT.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        site = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle, predictor = scripted_bundle(), Variety().as_predictor()
        if bundle_path is not None:
            bundle = stack.enter_context(open_bundle(bundle_path))
            predictor = stack.enter_context(Predictor.open(bundle))
        records = stack.enter_context(Records(site))
        accounts = stack.enter_context(closing(Accounts(site)))
        accounts.add("Ada Lovelace", "administrator", PASSPHRASE)
        url = stack.enter_context(listening(create_app(bundle, predictor, None, records, accounts)))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_OPTIONS))
        context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
        take_all(context.new_page(), url, records)
        browser.close()


def take_all(page: Any, url: str, records: Records) -> None:
    """Walk through the page."""
    page.goto(url)
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("Passphrase").fill(PASSPHRASE)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Read a chest radiograph").wait_for()
    keep(page, "read")
    page.set_input_files("#files", [phantom_file(number, kind) for number, kind in enumerate(KINDS)])
    page.locator("#summary").get_by_text(f"{len(KINDS)} of {len(KINDS)} read").wait_for()
    letter = {"name": "letter.dcm", "mimeType": "", "buffer": b"Dear colleague, ..."}
    page.set_input_files("#files", letter)
    page.get_by_text("Not judged: the file cannot be read").first.wait_for()
    page.set_viewport_size({"width": 1280, "height": 1080})
    keep(page, "results")
    page.set_viewport_size(DESKTOP)

    answered = [study for study in records.all_studies() if study.answer["label"]]
    for study in answered[:4]:
        records.set_verdict(study.key, "agree", reader="Ada Lovelace")
    other = next(label for label in LABELS if label != answered[4].answer["label"])
    records.set_verdict(answered[4].key, "disagree", reader="Ada Lovelace", label=other)
    key = answered[5].key
    records.add_note(key, "Portable film, poor inspiration.", author="Ada Lovelace")

    def visit(path: str, wait_for: str, name: str, size: dict[str, int] = DESKTOP) -> None:
        page.set_viewport_size(size)
        page.goto(url + path)
        page.locator(wait_for).first.wait_for()
        keep(page, name)

    visit("operating-point", "h1", "operating")
    if page.locator("#curve").count():
        page.locator("#curve polyline").wait_for()
        page.get_by_label("Why this point?").fill("Triage in ward 3")
        keep(page, "operating")
        page.locator("#choose button[type=submit]").click()
        page.locator(".now").wait_for()
    study_page = (f"studies/{key}", "#similar img")
    visit("worklist", "#rows tr", "worklist")
    visit(*study_page, "study", TALL)
    visit("here", ".confusion", "here")
    visit(f"studies/{key}/report", ".report", "report", {"width": 1000, "height": 1250})
    visit(f"compare?first={key}&second={answered[4].key}", "[data-part=label]:not(:empty)", "compare", TALL)
    visit("worklist", "#rows tr", "phone-worklist", PHONE)
    visit(*study_page, "phone-study", PHONE)
    cookie = {"name": "scheme", "url": url}
    page.context.add_cookies([{**cookie, "value": "dark"}])
    visit(*study_page, "study-dark")
    page.context.add_cookies([{**cookie, "value": "contrast"}])
    visit("worklist", "#rows tr", "worklist-contrast")


def phantom_file(number: int, kind: str) -> dict[str, Any]:
    content = dicom_bytes(phantom_pixels(kind, number, 700), PatientID=f"SYN-{number // 2}")  # type: ignore[arg-type]
    return {"name": f"phantom-{number}.dcm", "mimeType": "", "buffer": content}


def keep(page: Any, name: str) -> None:
    """Save what is in view with 256 colours: a third of the bytes."""
    page.wait_for_timeout(400)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    palette = picture.quantize(256)
    path = OUT / f"{name}.png"
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(*sys.argv[1:2])

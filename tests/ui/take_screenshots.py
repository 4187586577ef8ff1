"""Takes the pictures in docs/screenshots: ``python -m tests.ui.take_screenshots [BUNDLE]``.

They show synthetic phantoms only, judged by the bundle, the repository's own where none is named. Not a test; run it
after a change of the page, and look at what it wrote.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack, closing
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records
from edge_runtime.web import create_app
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.operating import curve_of
from edge_runtime.web.server import listening
from tests.ui.conftest import CHROMIUM_OPTIONS, find_chromium
from tests.ui.scripted import LABELS, ScriptedPredictor, dicom_bytes, scripted_bundle
from train.data.phantom import phantom_pixels

ROOT = Path(__file__).parents[2]
OUT = ROOT / "docs" / "screenshots"
RELEASE = ROOT / "models" / "covidx-b1" / "bundle"
DESKTOP = {"width": 1280, "height": 860}
TALL = {"width": 1280, "height": 1500}
WHOLE = {"width": 1280, "height": 1960}
PHONE = {"width": 390, "height": 844}
PASSPHRASE = "a passphrase for pictures"
PHANTOMS = (("COVID-19", 0), ("normal", 13), ("pneumonia", 1), ("COVID-19", 7), ("normal", 11), ("COVID-19", 1))
"""Kind and seed; the first two are one patient's, and so on."""


def main(bundle_path: str | Path = RELEASE) -> None:
    """Serve a site with a few studies, and take every picture."""
    from playwright.sync_api import sync_playwright

    OUT.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        site = Path(stack.enter_context(tempfile.TemporaryDirectory()))
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
        if curve_of(bundle.manifest) is None:
            print("operating.png: the bundle has no operating curve, a made-up one is shown")
            other = stack.enter_context(Records(site / "made-up"))
            app = create_app(scripted_bundle(synthetic=False), ScriptedPredictor().as_predictor(), None, other)
            address = stack.enter_context(listening(app))
            take_operating(browser.new_context(viewport=DESKTOP, reduced_motion="reduce").new_page(), address)
        browser.close()


def take_operating(page: Any, url: str) -> None:
    """Choose an operating point; where the page has no login, by name."""
    page.set_viewport_size({"width": 1280, "height": 1200})
    page.goto(url + "operating-point")
    page.locator("#curve polyline").wait_for()
    page.get_by_label("Why this point?").fill("Triage in ward 3")
    if page.get_by_label("Your name").count():
        page.get_by_label("Your name").fill("Ada Lovelace")
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    keep(page, "operating")
    page.locator("#choose button[type=submit]").click()
    page.locator(".now").wait_for()


def take_all(page: Any, url: str, records: Records) -> None:
    """Walk through the page."""
    page.goto(url)
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("Passphrase").fill(PASSPHRASE)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Read a chest radiograph").wait_for()
    keep(page, "read")
    page.set_input_files("#files", [phantom_file(number) for number in range(len(PHANTOMS))])
    page.locator("#summary").get_by_text(f"{len(PHANTOMS)} of {len(PHANTOMS)} read").wait_for()
    letter = {"name": "letter.dcm", "mimeType": "", "buffer": b"Dear colleague, ..."}
    page.set_input_files("#files", letter)
    page.get_by_text("Not judged: the file cannot be read").first.wait_for()
    page.set_viewport_size({"width": 1280, "height": 1220})
    page.evaluate("scrollTo(0, 0)")
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

    page.goto(url + "operating-point")
    if page.locator("#curve").count():
        take_operating(page, url)
    study_page = (f"studies/{key}", "#similar img")
    visit("worklist", "#rows tr", "worklist")
    visit(*study_page, "study", WHOLE)
    visit("here", ".confusion", "here")
    visit(f"studies/{key}/report", ".report", "report", {"width": 1000, "height": 1340})
    visit(f"compare?first={key}&second={answered[4].key}", "[data-part=label]:not(:empty)", "compare", TALL)
    visit("worklist", "#rows tr", "phone-worklist", PHONE)
    visit(*study_page, "phone-study", PHONE)
    cookie = {"name": "scheme", "url": url}
    page.context.add_cookies([{**cookie, "value": "dark"}])
    visit(*study_page, "study-dark")
    page.context.add_cookies([{**cookie, "value": "contrast"}])
    visit("worklist", "#rows tr", "worklist-contrast")


def phantom_file(number: int) -> dict[str, Any]:
    pixels = phantom_pixels(*PHANTOMS[number], 900)  # type: ignore[arg-type]
    facts = {"PatientAge": f"0{31 + 8 * number}Y", "PatientSex": "FM"[number // 2 % 2]}
    content = dicom_bytes(pixels, PatientID=f"SYN-{number // 2}", **facts)
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

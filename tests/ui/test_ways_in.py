"""How files get onto the page (folders, the clipboard), what it shows meanwhile, and what it says of odd ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from edge_runtime.manifest import Conformal
from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.server import listening
from tests.ui.scripted import (
    CLOSE,
    LABELS,
    ScriptedPredictor,
    dicom_bytes,
    drawn_radiograph,
    png_bytes,
    scripted_bundle,
    written,
)
from tests.ui.site import READER, log_in, send, until
from tests.ui.test_page import answered

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two radiographs, one of them in a folder of its own, and a hidden file."""
    inner = tmp_path / "film" / "second day"
    inner.mkdir(parents=True)
    written(tmp_path / "film", "a.png", png_bytes())
    written(tmp_path / "film", ".DS_Store", b"x")
    written(inner, "b.dcm", dicom_bytes())
    return tmp_path / "film"


def test_a_folder_is_dropped(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    session = page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": dragged})
        if kind == "dragOver":
            until(lambda: page.evaluate("document.body.classList.contains('dragging')"))
    for name in ("a.png", "b.dcm"):
        assert "COVID-19" in answered(page, name).inner_text()
    assert page.locator(".card").count() == 2
    assert not page.evaluate("document.body.classList.contains('dragging')")


def test_a_folder_is_chosen(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    page.set_input_files("#folder", folder)
    for name in ("a.png", "b.dcm"):
        assert "COVID-19" in answered(page, name).inner_text()
    assert page.locator(".card").count() == 2


def test_an_image_is_pasted_from_the_clipboard(open_page: OpenPage) -> None:
    """The system's clipboard, not an event of the test's own making."""
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async (bytes) => {
            const image = new Blob([new Uint8Array(bytes)], { type: 'image/png' });
            await navigator.clipboard.write([new ClipboardItem({ 'image/png': image })]);
        }""",
        list(png_bytes()),
    )
    page.keyboard.press("Control+V")
    assert "COVID-19" in answered(page, "image.png").inner_text()


def test_progress_is_shown_while_a_file_is_on_its_way(open_page: OpenPage) -> None:
    page = open_page()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 1_000_000}
    session.send("Network.emulateNetworkConditions", slow)
    page.evaluate(
        """() => {
            window.seen = [];
            const look = () => {
                const stage = document.querySelector('[data-part=stage-text]');
                const bar = document.querySelector('[data-part=bar]');
                if (stage) window.seen.push([stage.textContent, bar.value, bar.getAttribute('aria-labelledby')]);
            };
            const everything = { subtree: true, childList: true, attributes: true };
            new MutationObserver(look).observe(document.getElementById('cards'), everything);
        }"""
    )
    pixels = np.random.default_rng(0).integers(0, 256, (1800, 1800)).astype(np.uint8)
    page.set_input_files("#files", {"name": "chest.dcm", "mimeType": "", "buffer": dicom_bytes(pixels)})
    answered(page, "chest.dcm")
    seen = page.evaluate("seen")
    shares = [value for text, value, _ in seen if text.startswith("Uploading") and 0 < value < 100]
    assert len(set(shares)) >= 3 and shares == sorted(shares)
    assert any(text == "Reading" for text, _, _ in seen)
    named = seen[-1][2]
    assert page.locator(f"#{named}").inner_text() == "chest.dcm"


@pytest.mark.parametrize(
    ("probabilities", "expected", "refer"),
    [
        ({"normal": 0.06, "pneumonia": 0.22, "COVID-19": 0.72}, "Cannot be ruled out: COVID-19.", False),
        (CLOSE, "Cannot be ruled out: normal, pneumonia. Refer to a reader.", True),
        ({"normal": 0.2, "pneumonia": 0.2, "COVID-19": 0.6}, "No class is likely enough. Refer to a reader.", True),
    ],
    ids=["one", "two", "none"],
)
def test_what_cannot_be_ruled_out_and_who_should_decide(
    open_page: OpenPage, records: Records, probabilities: dict[str, float], expected: str, refer: bool
) -> None:
    thresholds = {"normal": 0.3, "pneumonia": 0.3, "COVID-19": 0.65}
    conformal = Conformal(
        coverage=0.9, thresholds=thresholds, split="valid", radiographs=dict.fromkeys(LABELS, 40), data_sha256="0" * 64
    )
    bundle = scripted_bundle(conformal=conformal)
    predictor = ScriptedPredictor(probabilities)
    predictor.manifest = bundle.manifest
    with listening(create_app(bundle, predictor.as_predictor(), WebConfig(), records)) as url:
        page = open_page(at=url)
        page.set_input_files("#files", {"name": "chest.png", "mimeType": "", "buffer": png_bytes()})
        line = answered(page, "chest.png").locator("[data-part=set]")
        assert line.inner_text() == expected
        assert line.evaluate("line => line.classList.contains('caution')") is refer
        key = records.studies().studies[0].key
        page.goto(f"{url}studies/{key}")
        until(lambda: page.locator("[data-part=set]").text_content() == expected)
        page.goto(f"{url}studies/{key}/report")
        assert page.get_by_text(expected).is_visible()
        page.goto(url + "worklist")
        page.locator("#rows tr").wait_for()
        assert page.locator("#rows .tag").count() == int(refer)


def test_a_colour_photograph_is_refused_with_the_reason(open_page: OpenPage, tmp_path: Path) -> None:
    """A film on a light box, as a phone's camera sees it."""
    grey = drawn_radiograph(500, 450).astype(np.float32)
    colour = np.stack([grey * 0.9 + 20, grey * 0.8, grey * 0.55], -1)
    page = open_page()
    page.set_input_files("#files", written(tmp_path, "photo.png", png_bytes(colour.clip(0, 255).astype(np.uint8))))
    card = answered(page, "photo.png")
    assert card.locator("[data-part=refusal-title]").inner_text() == "Not judged: a colour photograph"
    assert card.locator("[data-part=remedy]").inner_text()
    assert card.locator("[data-part=reading]").is_hidden()


def test_a_refusal_is_said_in_french(open_page: OpenPage, url: str, tmp_path: Path) -> None:
    page = open_page()
    page.context.add_cookies([{"name": "language", "value": "fr", "url": url}])
    page.goto(url)
    page.set_input_files("#files", written(tmp_path, "lettre.dcm", b"Cher confrere, ..."))
    card = answered(page, "lettre.dcm")
    message, detail = (card.locator(f"[data-part={part}]") for part in ("message", "detail"))
    assert message.inner_text() == "Le fichier n'est pas une image que ce programme sait lire, ou il est endommagé."
    assert message.get_attribute("lang") == "fr"
    assert "no image that this runtime reads" in detail.inner_text() and detail.get_attribute("lang") == "en"


EVIL = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>"


def test_markup_in_dicom_tags_stays_text_with_names_shown(
    open_page: OpenPage, site_url: str, site_app: Flask, records: Records
) -> None:
    from tests.ui.test_whole_page import log_in as log_in_there

    client, header = log_in(site_app, READER)
    evil = dicom_bytes(PatientID=EVIL[:64], PatientName=EVIL, BodyPartExamined="<b>CHEST</b>", ViewPosition="<i>PA")
    key = send(client, evil, f"{EVIL}.dcm", headers=header).get_json()["study"]
    client.post(f"/api/v1/studies/{key}/notes", json={"text": EVIL}, headers=header)
    client.post(f"/api/v1/studies/{key}/verdict", json={"verdict": "other", "comment": EVIL}, headers=header)
    page = open_page()
    log_in_there(page, READER)
    page.goto(site_url + "worklist")
    page.get_by_label("Show names").check()
    until(lambda: "<img src=x" in page.locator("#rows").inner_text())
    page.get_by_role("searchbox").fill("onerror")
    page.locator("#rows tr").wait_for()

    def clean() -> bool:
        return page.locator("img[src=x], main script:not([type]), main b, main i").count() == 0

    assert clean() and page.title().startswith("Worklist")
    page.goto(f"{site_url}studies/{key}")
    page.get_by_role("button", name="Show Patient and file").click()
    until(lambda: "onerror" in page.locator("[data-part=facts]").inner_text())
    assert EVIL in page.locator("#note-texts").inner_text() and EVIL in page.locator("#verdicts").inner_text()
    assert clean() and page.title().startswith("Study")
    page.goto(f"{site_url}studies/{key}/report?identity=1")
    assert EVIL in page.locator(".report").inner_text()
    assert clean() and page.title().startswith("Report")
    assert dataclasses.asdict(records.study(key).facts)["patient_id"] == EVIL[:64]


def test_names_on_a_fresh_result_are_asked_for_and_logged(
    open_page: OpenPage, site_url: str, records: Records, tmp_path: Path
) -> None:
    from tests.ui.test_whole_page import log_in as log_in_there

    page = open_page()
    log_in_there(page, READER)
    with page.expect_response("**/api/v1/predict") as sent:
        page.set_input_files("#files", written(tmp_path, "chest.dcm", dicom_bytes()))
    facts = answered(page, "chest.dcm").locator("[data-part=facts]")
    assert "SYN-0042" not in sent.value.text() + page.content()
    assert not [entry for entry in records.audit_entries() if entry.action == "identity shown"]
    page.get_by_role("button", name="Show Patient and file").click()
    until(lambda: "SYN-0042" in facts.inner_text())
    (entry,) = [entry for entry in records.audit_entries() if entry.action == "identity shown"]
    assert (entry.actor, entry.subject) == (READER, records.studies().studies[0].key)
    page.get_by_role("button", name="Hide Patient and file").click()
    assert "SYN-0042" not in page.content()

"""What a reader's eyes, ears and paper get: axe on every view, no page wider than the screen, one sheet a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.server import listening
from tests.ui.conftest import DESKTOP, PHONE
from tests.ui.scripted import ScriptedPredictor, dicom_bytes, drawn_radiograph, png_bytes, scripted_bundle, written
from tests.ui.site import ADMINISTRATOR, PASSPHRASE, READER, until
from tests.ui.test_page import answered
from tests.ui.test_whole_page import fits, log_in

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]

VIEWS = [
    *("", "worklist", "study", "refused study", "report", "compare", "here", "operating-point", "people", "log"),
    *("account", "model", "summary", "away", "no such page"),
]


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE), ("contrast", DESKTOP)], ids=str)
def test_axe_finds_nothing(
    open_page: OpenPage, site_url: str, site_app: Flask, records: Records, scheme: str, size: dict[str, int]
) -> None:
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    client, header = client_log_in(site_app, ADMINISTRATOR)
    point = {"label": "COVID-19", "threshold": 0.5, "reason": "test"}
    client.put("/api/v1/operating-point", json=point, headers=header)
    keys = [send(client, content, headers=header).get_json()["study"] for content in (dicom_bytes(), png_bytes(), b"-")]
    for key in keys[:2]:
        client.post(f"/api/v1/studies/{key}/verdict", json={"verdict": "agree"}, headers=header)
    page = open_page(size, tolerate="404")  # of the page that there is not
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found: list[str] = []

    def look(view: str) -> None:
        for violation in axe_core.Axe().run(page, options=options).response["violations"]:
            places = [node["html"][:120] for node in violation["nodes"][:3]]
            found.append(f"{view}: {violation['id']}: {violation['help']} {places}")
        if not fits(page):
            found.append(f"{view}: wider than the screen")

    page.context.add_cookies([{"name": "scheme", "value": scheme, "url": site_url}])
    page.goto(site_url + "login")
    look("login")
    log_in(page)
    page.get_by_role("heading", name="Read a chest radiograph").wait_for()
    page.set_input_files(
        "#files",
        [
            {"name": "chest.dcm", "mimeType": "", "buffer": dicom_bytes()},
            {"name": "letter.dcm", "mimeType": "", "buffer": b"-"},
        ],
    )
    for name in ("chest.dcm", "letter.dcm"):
        answered(page, name)
    look("results")
    for view in VIEWS:
        paths = {
            "study": f"studies/{keys[0]}",
            "refused study": f"studies/{keys[2]}",
            "report": f"studies/{keys[0]}/report",
            "compare": f"compare?first={keys[0]}&second={keys[1]}",
            "no such page": "nowhere",
        }
        page.goto(site_url + paths.get(view, view))
        if view == "compare":
            page.locator("[data-part=label]:not(:empty)").nth(1).wait_for()
        if view == "refused study":
            page.locator("[data-part=refusal-title]:not(:empty)").wait_for()
        if view == "worklist":
            page.locator("#rows tr").first.wait_for()
        if view == "study":
            page.locator("#similar li").wait_for()
        if view == "operating-point":
            page.locator("#curve polyline").wait_for()
        look(view or "start")
    page.get_by_label("Menu").click()
    look("menu")
    assert found == []


def test_axe_finds_nothing_at_the_first_start(
    open_page: OpenPage, predictor: ScriptedPredictor, records: Records, accounts: Accounts
) -> None:
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(setup_code="abcd"), records, accounts)
    with listening(app) as url:
        page = open_page(PHONE, at=url + "setup", tolerate="400")
        page.get_by_label("Code from the terminal").fill("wrong")
        for label in ("Passphrase", "Passphrase again"):
            page.get_by_label(label, exact=True).fill(PASSPHRASE)
        page.get_by_label("Name").fill("Ada")
        page.get_by_role("button", name="Begin").click()
        page.get_by_role("alert").wait_for()
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        assert axe_core.Axe().run(page, options=options).response["violations"] == []
        assert fits(page)


def test_the_report_prints_on_one_sheet(open_page: OpenPage, site_url: str, site_app: Flask, records: Records) -> None:
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    client, header = client_log_in(site_app, ADMINISTRATOR)
    point = {"label": "COVID-19", "threshold": 0.5, "reason": "test"}
    client.put("/api/v1/operating-point", json=point, headers=header)
    key = send(client, dicom_bytes(drawn_radiograph(1200, 1000)), headers=header).get_json()["study"]
    verdict = {"verdict": "disagree", "label": "pneumonia", "comment": "consolidation"}
    client.post(f"/api/v1/studies/{key}/verdict", json=verdict, headers=header)
    for number in range(3):
        client.post(f"/api/v1/studies/{key}/notes", json={"text": f"Note {number}: portable film."}, headers=header)
    page = open_page()
    log_in(page, READER)
    page.goto(f"{site_url}studies/{key}/report?identity=1")
    until(lambda: page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth)"))
    for paper in ("A4", "Letter"):
        pdf = page.pdf(format=paper, prefer_css_page_size=False)
        assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) == 1, paper


def test_right_to_left_fits_too(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(PHONE)
    page.evaluate("document.documentElement.dir = 'rtl'")
    page.set_input_files("#files", written(tmp_path, "chest.dcm", dicom_bytes()))
    answered(page, "chest.dcm")
    assert fits(page)


@pytest.mark.parametrize("language", ["fr", "es"])
def test_no_language_is_wider_than_a_small_phone(
    open_page: OpenPage, site_url: str, site_app: Flask, language: str
) -> None:
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    client, header = client_log_in(site_app, ADMINISTRATOR)
    keys = [send(client, content, headers=header).get_json()["study"] for content in (dicom_bytes(), b"-")]
    client.post(f"/api/v1/studies/{keys[0]}/verdict", json={"verdict": "agree"}, headers=header)
    page = open_page(PHONE, tolerate="404")
    log_in(page)
    page.get_by_role("heading", name="Read a chest radiograph").wait_for()
    page.context.add_cookies([{"name": "language", "value": language, "url": site_url}])
    wide = []
    for path in (
        *("", "worklist", f"studies/{keys[0]}", f"studies/{keys[1]}", f"studies/{keys[0]}/report", "here"),
        *(f"compare?first={keys[0]}&second={keys[1]}", "operating-point", "people", "log", "account", "summary", "x"),
    ):
        page.goto(site_url + path, wait_until="networkidle")
        if not fits(page):
            wide.append(path)
        assert page.locator("html").get_attribute("lang") == language
    assert wide == []

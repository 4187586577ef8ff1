"""The whole page in a real browser: from the first start to the lock, on a desktop and a phone; axe on every view."""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Callable
from io import StringIO
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

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]


def log_in(page: Any, name: str = ADMINISTRATOR, passphrase: str = PASSPHRASE) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Passphrase").fill(passphrase)
    page.get_by_role("button", name="Log in").click()


def fits(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_day_at_the_clinic(open_page: OpenPage, site_url: str, tmp_path: Path, size: dict[str, int]) -> None:
    page = open_page(size, tolerate="401")
    log_in(page, passphrase="not the right one")
    assert "do not belong together" in page.get_by_role("alert").inner_text()
    log_in(page)

    # three files, one of them no radiograph
    page.set_input_files(
        "#files",
        [
            written(tmp_path, "chest.dcm", dicom_bytes()),
            written(tmp_path, "film.png", png_bytes()),
            written(tmp_path, "letter.dcm", b"Dear colleague, ..."),
        ],
    )
    for name in ("chest.dcm", "film.png", "letter.dcm"):
        answered(page, name)
    assert "3 of 3 read, 1 without an answer" in page.locator("#summary").inner_text()
    assert fits(page)

    # the study: heat map, verdict, note
    page.get_by_role("link", name="Open study chest.dcm").click()
    page.locator("[data-part=label]").get_by_text("COVID-19").wait_for()
    assert page.locator("[data-part=heat]").is_visible()
    assert "SYN-0042" not in page.content()
    page.get_by_role("button", name="Show Patient and file").click()
    page.get_by_text("SYN-0042").wait_for()
    page.get_by_text("Disagree", exact=True).click()
    page.get_by_label("What is it?").select_option("pneumonia")
    page.get_by_label("Comment").fill("consolidation")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Disagrees: pneumonia").wait_for()
    page.get_by_label("Note", exact=True).fill("Portable film.")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator("#note-texts").get_by_text("Portable film.").wait_for()
    assert fits(page)

    # the worklist: live, searched, exported
    page.get_by_role("link", name="Worklist").first.click()
    page.locator("#rows tr").nth(2).wait_for()
    assert page.locator("#rows").get_by_text("Disagrees: pneumonia").is_visible()
    assert "chest.dcm" not in page.locator("#rows").inner_text()
    page.get_by_label("Show names").check()
    page.locator("#rows").get_by_text("chest.dcm").wait_for()
    page.get_by_role("searchbox").fill("letter")
    until(lambda: page.locator("#rows tr").count() == 1)
    page.get_by_role("searchbox").fill("no such thing")
    page.get_by_text("No study fits this search.").wait_for()
    assert page.locator("#worklist").is_hidden()
    page.get_by_role("button", name="Show all").click()
    until(lambda: page.locator("#rows tr").count() == 3)
    assert page.get_by_role("searchbox").input_value() == ""
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV without identity").click()
    rows = list(csv.DictReader(StringIO(Path(download.value.path()).read_text())))
    assert len(rows) == 3 and "chest.dcm" not in str(rows)
    assert fits(page)

    # how the model does here
    page.get_by_role("link", name="Results here").click()
    page.get_by_role("heading", name="1 study with a verdict").wait_for()
    assert fits(page)

    # the operating point
    page.get_by_role("link", name="Operating point").click()
    page.locator("#curve polyline").wait_for()
    page.get_by_label("Of 100 patients").fill("20")
    page.get_by_label("Threshold").fill("24")  # of the curve's 41 points
    assert "Of 100 patients about" in page.locator("#expected").inner_text()
    page.get_by_label("Why this point?").fill("Triage in ward 3")
    page.get_by_role("button", name=f"Put in force as {ADMINISTRATOR}").click()
    page.locator(".now").get_by_text("COVID-19 from 60.0 % on").wait_for()
    assert fits(page)

    # another language, then the lock
    page.get_by_label("Menu").click()
    page.get_by_label("Language").select_option("fr")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("heading", name="Point de fonctionnement").wait_for()
    page.get_by_label("Menu").click()
    page.get_by_role("button", name="Verrouiller").click()
    page.get_by_role("heading", name="Verrouillé").wait_for()
    page.goto(site_url + "worklist")
    assert "/login" in page.url


def test_the_first_start(
    open_page: OpenPage, predictor: ScriptedPredictor, records: Records, accounts: Accounts
) -> None:
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(setup_code="abcd"), records, accounts)
    with listening(app) as url:
        page = open_page(at=url)
        page.goto(url + "setup?code=abcd")
        page.get_by_label("Name").fill("Ada")
        page.get_by_label("Passphrase", exact=True).fill(PASSPHRASE)
        page.get_by_label("Passphrase again").fill(PASSPHRASE)
        page.get_by_role("button", name="Begin").click()
        page.get_by_role("heading", name="Read a chest radiograph").wait_for()


def test_the_worklist_is_live(open_page: OpenPage, site_url: str, site_app: Flask) -> None:
    """What comes in elsewhere appears by itself, and no request stays open for it."""
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    page = open_page()
    log_in(page, READER)
    page.goto(site_url + "worklist")
    page.get_by_text("Nothing here yet.").wait_for()
    client, header = client_log_in(site_app, ADMINISTRATOR)
    key = send(client, headers=header).get_json()["study"]
    page.locator("#rows tr").wait_for()
    client.post(f"/api/v1/studies/{key}/verdict", json={"verdict": "agree"}, headers=header)
    page.locator("#rows").get_by_text("Agrees").wait_for()
    client.delete(f"/api/v1/studies/{key}", json={"reason": "test"}, headers=header)
    page.get_by_text("Nothing here yet.").wait_for()


def transform(page: Any) -> str:
    return str(page.locator("[data-part=plane]").evaluate("plane => plane.style.transform"))


def mean_grey(page: Any) -> float:
    """Of the radiograph as the browser shows it."""
    from io import BytesIO

    import numpy as np
    from PIL import Image

    picture = Image.open(BytesIO(page.locator("[data-part=frame]").screenshot())).convert("L")
    return float(np.asarray(picture).mean())


def test_the_viewer(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.set_input_files("#files", written(tmp_path, "chest.png", png_bytes(drawn_radiograph(600, 600))))
    card = answered(page, "chest.png")
    frame = card.locator("[data-part=frame]")
    card.get_by_role("slider", name="Opacity").fill("0")
    assert transform(page) == ""
    card.get_by_role("button", name="Zoom in").click()
    assert "scale(1.35)" in transform(page)
    frame.focus()
    page.keyboard.press("+")
    before = transform(page)
    page.keyboard.press("ArrowLeft")
    assert transform(page) != before
    page.keyboard.press("0")
    assert transform(page) == ""
    plain = mean_grey(page)
    page.keyboard.press("i")
    assert card.get_by_role("button", name="Invert").get_attribute("aria-pressed") == "true"
    assert abs(mean_grey(page) - plain) > 5
    page.keyboard.press("i")
    card.get_by_role("button", name="Brightness and contrast").click()
    card.get_by_role("slider", name="Level").fill("200")
    assert mean_grey(page) < plain - 20  # a higher level is darker
    card.get_by_role("button", name="Reset the view").click()
    assert mean_grey(page) == pytest.approx(plain, abs=1)
    # mouse: Ctrl and wheel zoom at the pointer, dragging moves; without Ctrl the wheel scrolls
    frame.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    until(lambda: "scale" in transform(page))
    before = transform(page)
    page.mouse.down()
    page.mouse.move(400, 300)
    page.mouse.up()
    assert transform(page) != before


def test_two_studies_of_a_patient_side_by_side(
    open_page: OpenPage, site_url: str, records: Records, site_app: Flask
) -> None:
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    client, header = client_log_in(site_app, READER)
    for seed in (1, 2):
        pixels = drawn_radiograph(400 + seed, 380)
        send(client, dicom_bytes(pixels), headers=header)
    page = open_page()
    log_in(page, READER)
    newest = records.studies().studies[0].key
    page.goto(f"{site_url}studies/{newest}")
    page.get_by_role("link", name="Compare with").click()
    until(lambda: page.locator("[data-part=image][src]").count() == 2)
    page.locator("[data-part=label]").get_by_text("COVID-19").nth(1).wait_for()
    assert page.locator("[data-part=label]").all_inner_texts() == ["COVID-19", "COVID-19"]


def test_what_could_not_be_kept_is_said_and_not_lost(
    open_page: OpenPage, site_url: str, records: Records, site_app: Flask
) -> None:
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    client, header = client_log_in(site_app, READER)
    key = send(client, headers=header).get_json()["study"]
    page = open_page(tolerate="Failed to load")
    log_in(page, READER)
    page.context.add_cookies([{"name": "language", "value": "es", "url": site_url}])
    page.goto(f"{site_url}studies/{key}")
    page.locator("[data-part=label]:not(:empty)").wait_for()
    page.route("**/notes", lambda route: route.abort())
    note = page.locator("#note textarea")
    note.fill("Portable film.")
    page.locator("#note button").click()
    page.get_by_role("alert").get_by_text("No se puede").wait_for()
    assert note.input_value() == "Portable film."
    page.unroute("**/notes")
    records.delete(key, actor="test", reason="test")
    page.locator("#note button").click()
    page.get_by_role("alert").get_by_text("No existe ese estudio").wait_for()


def test_deleting_asks_and_takes_the_study_away(
    open_page: OpenPage, site_url: str, records: Records, site_app: Flask
) -> None:
    from tests.ui.site import log_in as client_log_in
    from tests.ui.site import send

    client, header = client_log_in(site_app, READER)
    key = send(client, headers=header).get_json()["study"]
    page = open_page()
    log_in(page)
    page.goto(f"{site_url}studies/{key}")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Keep it").click()
    assert records.study(key)
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_label("Reason").fill("sent twice")
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("Nothing here yet.").wait_for()
    assert records.studies().total == 0


def test_an_unused_page_asks_and_locks(
    open_page: OpenPage, predictor: ScriptedPredictor, records: Records, accounts: Accounts
) -> None:
    accounts.add(READER, "reader", PASSPHRASE)
    config = WebConfig(idle_minutes=0.1)
    app = create_app(scripted_bundle(), predictor.as_predictor(), config, records, accounts)
    with listening(app) as url:
        page = open_page(at=url)
        log_in(page, READER)
        page.get_by_role("dialog", name="Still there?").wait_for()
        page.get_by_role("button", name="Stay").click()
        page.get_by_role("dialog", name="Still there?").wait_for(state="hidden")
        page.get_by_role("heading", name="Locked").wait_for()
        log_in(page, READER)
        page.get_by_role("heading", name="Read a chest radiograph").wait_for()


def free_port() -> int:
    """A port of our own choice, so that it can be listened on again."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_when_the_server_is_away_the_page_says_so(
    open_page: OpenPage, predictor: ScriptedPredictor, records: Records
) -> None:
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(), records)
    port = free_port()
    with listening(app, port=port) as url:
        page = open_page(at=url, tolerate="ERR_")
        page.evaluate("navigator.serviceWorker.ready")
        until(lambda: page.evaluate("navigator.serviceWorker.controller !== null"))
    page.goto(url + "worklist")
    page.get_by_role("heading", name="The server is away").wait_for()
    with listening(app, port=port):  # and goes on by itself when it is back
        page.get_by_role("heading", name="Worklist").wait_for()


def test_nothing_of_a_patient_is_kept_by_the_browser(open_page: OpenPage, site_url: str, tmp_path: Path) -> None:
    page = open_page()
    log_in(page, READER)
    page.set_input_files("#files", written(tmp_path, "chest.dcm", dicom_bytes()))
    answered(page, "chest.dcm")
    page.evaluate("navigator.serviceWorker.ready")
    kept = page.evaluate(
        """async () => {
            const names = await caches.keys();
            const requests = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
            const paths = requests.flat().map((request) => new URL(request.url).pathname);
            return [...paths, localStorage.length, sessionStorage.length];
        }"""
    )
    assert kept[-2:] == [0, 0]
    assert all(path == "/away" or path.startswith("/static/") for path in kept[:-2])


def test_a_host_that_never_answers_is_called_away_soon(
    open_page: OpenPage, predictor: ScriptedPredictor, records: Records
) -> None:
    """It takes the connection and says nothing, as a switched-off machine behind a router may: no error comes."""
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(), records)
    port = free_port()
    with listening(app, port=port) as url:
        page = open_page(at=url, tolerate="ERR_")
        page.evaluate("navigator.serviceWorker.ready")
        until(lambda: page.evaluate("navigator.serviceWorker.controller !== null"))
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", port))
        silent.listen()
        start = time.monotonic()
        page.goto(url + "worklist")
        page.get_by_role("heading", name="The server is away").wait_for()
        assert 2.5 < time.monotonic() - start < 12  # 3 s, and a slow machine's leisure

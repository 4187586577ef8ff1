"""Fingers on a phone's screen: two zoom the viewer and not the page, one scrolls the page or moves the zoomed image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import DESKTOP, PHONE
from tests.ui.scripted import dicom_bytes, drawn_radiograph, png_bytes, written
from tests.ui.site import until
from tests.ui.test_page import answered

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]
Point = tuple[float, float]


class Fingers:
    """Touches as the browser gets them from a screen."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.session = page.context.new_cdp_session(page)

    def _send(self, kind: str, *points: Point) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    def drag(self, *ways: tuple[Point, Point], steps: int = 10) -> None:
        """Move one finger along each way, all at once."""
        self._send("touchStart", *(start for start, _ in ways))
        for step in range(1, steps + 1):
            share = step / steps
            self._send("touchMove", *((a + (c - a) * share, b + (d - b) * share) for (a, b), (c, d) in ways))
            self.page.wait_for_timeout(16)
        self._send("touchEnd")


def view(page: Any) -> tuple[float, float, float]:
    """Offset in pixels and zoom of the radiograph in its frame."""
    found = page.locator("[data-part=plane]").evaluate(
        "plane => { const m = new DOMMatrix(getComputedStyle(plane).transform); return [m.e, m.f, m.a]; }"
    )
    return tuple(found)


def test_pinch_zooms_the_viewer_and_one_finger_moves_it(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(PHONE)
    page.set_input_files("#files", written(tmp_path, "chest.png", png_bytes()))
    frame = answered(page, "chest.png").locator("[data-part=frame]")
    frame.evaluate("frame => frame.scrollIntoView({ block: 'center' })")
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = Fingers(page)

    # one finger on an image that is not zoomed in scrolls the page
    before = page.evaluate("scrollY")
    fingers.drag(((x, y), (x, y - 90)))
    until(lambda: page.evaluate("scrollY") > before)
    page.wait_for_timeout(300)
    assert view(page) == (0, 0, 1)
    frame.evaluate("frame => frame.scrollIntoView({ block: 'center' })")
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    # two fingers go apart: three times as far is three times as large, and the page keeps its size
    fingers.drag(((x - 20, y - 20), (x - 60, y - 60)), ((x + 20, y + 20), (x + 60, y + 60)))
    until(lambda: view(page)[2] > 2.5)
    assert view(page)[2] == pytest.approx(3, abs=0.4)
    assert view(page)[:2] == pytest.approx((0, 0), abs=12)  # about the middle between the fingers
    assert page.evaluate("visualViewport.scale") == 1

    # one finger moves what is zoomed in, and the page stays
    at = page.evaluate("scrollY")
    left, top, zoom = view(page)
    fingers.drag(((x, y), (x + 40, y - 30)))
    until(lambda: view(page)[0] != left)
    assert view(page) == pytest.approx((left + 40, top - 30, zoom), abs=6)
    assert page.evaluate("scrollY") == at

    # together again: back to the whole image
    fingers.drag(((x - 60, y - 60), (x - 8, y - 8)), ((x + 60, y + 60), (x + 8, y + 8)))
    until(lambda: view(page)[2] == 1)
    assert view(page) == (0, 0, 1)


def test_shift_and_drag_set_window_and_level(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(DESKTOP)
    page.set_input_files("#files", written(tmp_path, "chest.png", png_bytes()))
    card = answered(page, "chest.png")
    card.get_by_role("button", name="Brightness and contrast").click()
    level, width = (card.get_by_role("slider", name=name) for name in ("Level", "Window"))
    before = float(level.input_value()), float(width.input_value())
    card.locator("[data-part=frame]").hover()
    page.keyboard.down("Shift")
    page.mouse.down()
    box = card.locator("[data-part=frame]").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y - 20, steps=3)  # left: narrower by two a pixel; up: a higher level
    page.mouse.up()
    page.keyboard.up("Shift")
    assert float(width.input_value()) == pytest.approx(before[1] - 60, abs=2)
    assert float(level.input_value()) == pytest.approx(before[0] + 20, abs=2)
    assert view(page) == (0, 0, 1)
    card.get_by_role("button", name="Reset the view").click()
    assert float(width.input_value()) == before[1]


def test_the_full_image_comes_when_a_fresh_result_is_zoomed_in(open_page: OpenPage, site_url: str) -> None:
    from tests.ui.site import READER
    from tests.ui.test_whole_page import log_in

    page = open_page()
    log_in(page, READER)
    pixels = drawn_radiograph(1500, 1400)
    page.set_input_files("#files", {"name": "chest.dcm", "mimeType": "", "buffer": dicom_bytes(pixels)})
    card = answered(page, "chest.dcm")
    image = card.locator("[data-part=image]")
    until(lambda: image.evaluate("image => image.naturalHeight") == 1024)
    for _ in range(2):
        card.get_by_role("button", name="Zoom in").click()
    until(lambda: image.evaluate("image => image.naturalHeight") == 1500)

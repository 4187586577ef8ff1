"""The phone's page under strain: a wrong model, absurd pictures, many pictures, and the clinic's page beside it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_runtime.bundle import open_bundle
from mobile_demo.web.site import write_site
from tests.mobile.hosts import phone_with
from tests.mobile.phone_page import LONG, Phone, StaticServer
from tests.mobile.test_web_page import png_header
from tests.ui.scripted import drawn_radiograph, png_bytes

pytestmark = [pytest.mark.mobile, pytest.mark.browser]

MOST_GROWTH_MB = 100
"""Of all of Chromium's processes over 30 pictures. A picture that stayed would be 5 MB of pixels and 8 of its card."""


def site_of_another_model(bundle: Path, folder: Path, change: Callable[[Any], Any]) -> Path:
    """The page of a bundle whose manifest vouches for a changed onnx-fp32."""
    import shutil

    import onnx

    copy = shutil.copytree(bundle, folder / "bundle")
    path = copy / "artifacts/onnx-fp32.onnx"
    onnx.save(change(onnx.load(path)), path)
    content = path.read_bytes()
    manifest = json.loads((copy / "manifest.json").read_text())
    (entry,) = next(a for a in manifest["artifacts"] if a["name"] == "onnx-fp32")["files"]
    entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with open_bundle(copy) as opened:
        return write_site(opened, folder / "site", ["onnx-fp32"]).folder


def another_head(model: Any) -> Any:
    """The same network with its last layer turned round: valid, and never right."""
    from onnx import numpy_helper

    (last,) = [i for i in model.graph.initializer if len(i.dims) == 2 and 3 in i.dims]
    last.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(last), last.name))
    return model


def another_graph(model: Any) -> Any:
    """Something that takes the image and returns it."""
    from onnx import helper

    node = helper.make_node("Identity", ["image"], ["echo"])
    output = helper.make_tensor_value_info("echo", 2, None)  # 2: uint8
    graph = helper.make_graph([node], "echo", [model.graph.input[0]], [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("change", "said"),
    [(another_head, "does not answer on this phone as the bundle allows"), (another_graph, "other inputs or outputs")],
)
def test_another_model_is_found_out_and_not_used(
    change: Callable[[Any], Any], said: str, browser: Any, web_site: Path, mobile_bundle: Path, tmp_path: Path
) -> None:
    server = StaticServer(site_of_another_model(mobile_bundle, tmp_path, change))
    phone = Phone(browser, server.url)
    phone.open()
    assert phone.ready is None
    assert said in phone.page.locator("#failure-message").inner_text()
    assert phone.page.locator("#failure-remedy").inner_text()
    assert phone.page.locator("#intake").is_hidden()
    server.stop()
    phone.close()


def test_absurd_pictures_get_a_card_that_says_why_and_the_next_is_answered(browser: Any, web_site: Path) -> None:
    with phone_with(browser, web_site, "onnx-fp32") as phone:
        for content, reason, said in (
            (png_header(0, 0), "unreadable", "damaged"),
            (png_header(20_000, 20_000), "too_large", "20000 × 20000"),
        ):
            card = phone.answer({"name": "picture.png", "mimeType": "image/png", "buffer": content})
            assert card.get_attribute("data-reason") == reason
            assert card.locator("[data-part=refusal-title]").inner_text() == "Not judged"
            assert said in card.locator("[data-part=message]").inner_text()
            assert card.locator("[data-part=remedy]").inner_text()
            assert card.locator("[data-part=reading]").is_hidden()
        card = phone.answer({"name": "film.png", "mimeType": "image/png", "buffer": png_bytes()})
        assert card.get_attribute("data-probabilities")


def chromium_mb() -> float:
    """Memory of all of the browser's processes, what they share counted once."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def test_thirty_pictures_leave_nothing_behind(browser: Any, web_site: Path) -> None:
    content = png_bytes(drawn_radiograph(1100, 1100))

    def classify(phone: Phone, times: int) -> float:
        for _ in range(times):
            card = phone.answer({"name": "film.png", "mimeType": "image/png", "buffer": content})
            assert card.get_attribute("data-probabilities")
            phone.page.locator("#clear").click()
        phone.context.new_cdp_session(phone.page).send("HeapProfiler.collectGarbage")
        phone.page.wait_for_timeout(1500)
        return chromium_mb()

    with phone_with(browser, web_site, "onnx-fp32") as phone:
        before = classify(phone, 8)
        after = classify(phone, 30)
    print(f"all of Chromium: {before:.0f} MB after 8 pictures, {after:.0f} MB after 38")
    assert before > 100, "Chromium's processes were not found"
    assert after < before + MOST_GROWTH_MB


WATCH = """
    globalThis.steps = [];
    addEventListener('DOMContentLoaded', () => {
        const look = () => {
            const [bar, text] = [document.getElementById('step-bar'), document.getElementById('step').textContent];
            globalThis.steps.push([text, bar.hasAttribute('value') ? bar.value : null]);
        };
        const options = { subtree: true, attributes: true, childList: true, characterData: true };
        new MutationObserver(look).observe(document.getElementById('getting-ready'), options);
    });
"""


def test_loading_shows_how_far_it_is(browser: Any, web_site: Path) -> None:
    server = StaticServer(web_site)
    phone = Phone(browser, server.url)
    phone.context.add_init_script(WATCH)
    for verb in ("Loading the model, once", "Checking what is kept on this phone"):
        phone.open()
        steps = phone.page.evaluate("globalThis.steps")
        loading = [value for text, value in steps if text.startswith(verb)]
        assert loading == sorted(loading) and loading[-1] == pytest.approx(100)
        # once it is kept, a file is one step
        assert len(set(loading)) >= (10 if verb.startswith("Loading") else 3), verb
        testing = [value for text, value in steps if text.startswith("Testing the phone")]
        assert len(set(testing)) >= 5 and testing[-1] == pytest.approx(100)
    server.stop()
    phone.close()


@contextmanager
def serving(bundle: Path, site: Path, records: Path) -> Iterator[str]:
    """``edge-runtime serve --mobile`` as a user starts it, until the context ends."""
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "serve",
        str(bundle),
        "--port",
        "0",
        "--no-login",
        "--site",
        str(records),
    ]
    process = subprocess.Popen([*command, "--mobile", str(site)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_beside_the_clinics_page_each_keeps_its_own(
    browser: Any, release_bundle: Path, web_site: Path, tmp_path: Path
) -> None:
    """Two pages of one origin, two service workers: neither serves the other's files nor throws them away."""
    with serving(release_bundle, web_site, tmp_path / "records") as url:
        phone = Phone(browser, url.rstrip("/") + "/mobile/")
        phone.page.goto(url)
        phone.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        phone.page.wait_for_function("navigator.serviceWorker.controller")  # the clinic's worker serves the origin
        phone.open()
        assert phone.ready == "onnx-fp32"
        assert phone.page.evaluate("navigator.serviceWorker.controller.scriptURL").endswith("/mobile/service_worker.js")
        assert phone.page.evaluate("crossOriginIsolated"), "threads at once, without a second visit"
        # the clinic's worker comes anew, as after an update, and tidies up
        phone.page.goto(url)
        phone.page.evaluate("caches.open('page-of-an-older-version').then(() => true)")
        phone.page.evaluate("navigator.serviceWorker.getRegistration('/').then((one) => one.unregister())")
        phone.page.goto("about:blank")  # it goes when its last page has gone
        phone.page.wait_for_timeout(1000)
        phone.page.goto(url)
        phone.page.wait_for_function("caches.has('page-of-an-older-version').then((there) => !there)")
    phone.open()
    assert phone.ready == "onnx-fp32", "the phone's page lost its files"
    card = phone.answer({"name": "film.png", "mimeType": "image/png", "buffer": png_bytes()})
    assert card.get_attribute("data-probabilities")
    phone.page.goto(url, timeout=LONG)
    assert phone.page.locator("#intake, #step-bar").count() == 0, "the phone's page answers for the clinic's"
    phone.close()

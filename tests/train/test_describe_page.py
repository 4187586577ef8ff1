"""The page: complete in itself, asks no network, draws, answers a finger, escapes what it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import train.data.description.describe as describing
from tests.train.conftest import TINY
from tests.train.varied_dataset import fake_projection, rewrite, write_varied_dataset
from tests.ui.conftest import CHROMIUM_OPTIONS, DESKTOP, PHONE, find_chromium
from train.data.description.describe import DescribeOptions, describe
from train.data.description.page import Thumbnails
from train.data.tables import Row, load_dataset
from train.embedding import embed_split
from train.fit import FitOptions, fit
from train.recipe import load_recipe
from train.run import RunError


@pytest.fixture
def page_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of the varied data set with a map; a source has a name that would like to be markup."""
    root = write_varied_dataset(tmp_path / "data")

    def change(splits: dict[str, list[Row]]) -> None:
        splits["train"][0] = replace(splits["train"][0], source="</script><script>alert(1)</script>")

    rewrite(root, change)
    monkeypatch.setattr(describing, "project_run", lambda _folder, dataset, *_: fake_projection(dataset))
    describe(root, tmp_path / "out", DescribeOptions(run=tmp_path / "run"))
    return tmp_path / "out" / "description.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium, or set CHROMIUM): no browser tests")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS))
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Open the page from disk, offline; any request, console message or policy violation fails the test."""
    contexts = []
    faults: list[str] = []

    def open_one(size: dict[str, int] = DESKTOP, scheme: str = "light") -> Any:
        phone = size["width"] < 500
        context = browser.new_context(
            viewport=size, color_scheme=scheme, is_mobile=phone, has_touch=phone, offline=True
        )
        contexts.append(context)
        address = page_file.as_uri()
        context.on(
            "request", lambda r: r.url == address or r.url.startswith("data:") or faults.append(f"request: {r.url}")
        )
        page = context.new_page()
        # The browser's advice about reading pixels back concerns these tests, not the page.
        page.on("console", lambda m: "willReadFrequently" in m.text or faults.append(f"console: {m.text}"))
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: faults.append("a script of the data ran") or dialog.dismiss())
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not faults


def marks(page: Any) -> int:
    """Pixels of the plot that something is drawn on."""
    script = """() => { const c = document.getElementById('plot');
        const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < p.length; i += 4) n += p[i] > 60; return n; }"""
    page.wait_for_timeout(100)
    return int(page.evaluate(script))


def test_the_file_names_no_address_and_forbids_requests(page_file: Path) -> None:
    text = page_file.read_text()
    assert not re.findall(r"(?:https?:|//[a-z]|@import|url\()[^\s]*", re.sub(r'"data:[^"]*"', "", text))
    assert "default-src 'none'" in text
    assert "connect-src" not in text
    assert "<script>alert" not in text


def test_it_draws_and_shows_the_radiograph_under_the_pointer(open_page: Callable[..., Any]) -> None:
    page = open_page()
    assert "SYNTHETIC" in page.inner_text("header")
    assert "Not a medical device" in page.inner_text("header")
    everything = marks(page)
    assert everything > 500
    page.click("text=✕ wrong")
    assert 0 < marks(page) < everything
    page.click("text=● right")
    assert page.locator("#legend small").all_inner_texts() == ["20", "0", "0"]
    page.click("[data-value=all]")

    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    assert "normal" in page.inner_text("#facts")
    assert "50 %" in page.inner_text("#facts")
    page.wait_for_function(
        """() => document.getElementById('picture').getContext('2d')
        .getImageData(0, 0, 192, 192).data.some((value, i) => i % 4 < 3 && value > 90)"""
    )

    page.click("[data-value=space]")
    before = page.evaluate("document.getElementById('plot').toDataURL()")
    box = page.locator("#plot").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 330, box["y"] + 220, steps=4)
    page.mouse.up()
    page.wait_for_timeout(100)
    assert page.evaluate("document.getElementById('plot').toDataURL()") != before

    page.click("[data-value=source]")
    names = page.locator("#legend button").all_inner_texts()
    assert any("</script>" in name for name in names)
    everything = marks(page)
    page.click("#legend button >> nth=-1")
    assert marks(page) < everything


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(open_page: Callable[..., Any], scheme: str) -> None:
    page = open_page(PHONE, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert marks(page) > 300
    point = page.evaluate(
        """() => { const c = document.getElementById('plot'); c.scrollIntoView({block: 'center'});
        const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, b = c.getBoundingClientRect();
        for (let i = 3; i < p.length; i += 4) if (p[i] > 120) {
          const n = (i - 3) / 4, ratio = b.width / c.width;
          return [b.left + (n % c.width) * ratio, b.top + Math.floor(n / c.width) * ratio]; } }"""
    )
    page.touchscreen.tap(*point)
    page.wait_for_timeout(100)
    assert "called" in page.inner_text("#facts")


def test_a_page_without_a_run_has_no_map(tmp_path: Path) -> None:
    describe(write_varied_dataset(tmp_path / "data"), tmp_path / "out")
    text = (tmp_path / "out" / "description.html").read_text()
    assert 'id="plot"' not in text
    assert 'id="points"' not in text
    assert "data:image" not in text


def test_thumbnails_stay_within_a_few_megabytes() -> None:
    assert Thumbnails.edge_for(0) == 0
    assert Thumbnails.edge_for(50) == 96
    for count in (1_000, 2_500, 12_000):
        assert count * Thumbnails.edge_for(count) ** 2 * 0.3 * 4 / 3 < 4.1e6


def test_a_trained_run_is_laid_out(tmp_path: Path) -> None:
    data = write_varied_dataset(tmp_path / "data")
    stage = "stages=[{size=48, epochs=1, lr=2e-3, lr_body=1e-3, wd=1e-2, pct_start=0.3, frozen=true}]"
    run = fit(data, load_recipe("quick", (*TINY, stage)), tmp_path / "run", FitOptions(seed=3))
    out = tmp_path / "out"
    description = describe(data, out, DescribeOptions(run=run.folder, points=50))

    found = description.embedding_map
    assert found is not None
    assert (found.shown, found.left_out, found.dimensions, found.same_tables) == (50, 10, 512, True)
    lines = (out / "points.csv").read_text().splitlines()
    assert len(lines) == 51
    right = sum(line.split(",")[3] == line.split(",")[4] for line in lines[1:])
    assert right == sum(result.right for result in found.results)
    spaces = {(row.space, row.axis) for row in found.moments}
    assert spaces == {
        ("t-SNE 2-D", "x"), ("t-SNE 2-D", "y"), ("t-SNE 3-D", "x"), ("t-SNE 3-D", "y"), ("t-SNE 3-D", "z"),
        ("distance to class centre", "distance"),
    }  # fmt: skip
    assert "data:image/jpeg" in (out / "description.html").read_text()

    dataset = load_dataset(data)
    embedded = embed_split(run, dataset, "valid")
    assert embedded.vectors.shape == (12, 512)
    assert embedded.vectors.dtype == "float32"
    # What the last layer makes of the embeddings is what the run answers.
    last = run.load_model()[1][-1]
    expected = embedded.vectors @ last.weight.detach().numpy().T
    if last.bias is not None:
        expected = expected + last.bias.detach().numpy()
    assert embedded.logits == pytest.approx(expected, abs=1e-4)
    with pytest.raises(RunError, match="different labels"):
        embed_split(run, replace(dataset, labels=("normal", "sick")), "valid")

"""The page under load and in a browser: ``python benchmarks/clinic_page.py BUNDLE [--json FILE]``.

Starts ``edge-runtime serve`` with records, in a process of its own, and measures

- uploads: so many DICOM files at once; how each was answered, how the page answered meanwhile, the server's memory;
- drop to answer: one DICOM file of about 10 MB in headless Chromium, from the file's choice to answer and image on
  screen, less the runtime's own ``total``;
- page weight and first contentful paint, each time in a browser without a cache.

Other programs on the machine count: the load average stands in the result.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.ui.conftest import CHROMIUM_OPTIONS, find_chromium
from tests.ui.scripted import dicom_bytes, drawn_radiograph

WATCH = """() => {
    window.times = {};
    document.getElementById('files').addEventListener('change', () => { times.chosen = performance.now(); }, true);
    new MutationObserver(async () => {
        const card = document.querySelector('.card');
        const image = card?.querySelector('[data-part=image]');
        if (times.shown || !image?.src || card.querySelector('[data-part=reading]').hidden) return;
        times.shown = -1;
        await image.decode();
        requestAnimationFrame(() => setTimeout(() => { times.shown = performance.now(); }));
    }).observe(document.getElementById('cards'), { subtree: true, childList: true, attributes: true });
}"""


def post(url: str, content: bytes) -> tuple[int, float]:
    """Send a file; returns status (0: no answer) and seconds."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'
    start = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=180)
    try:
        body = head + content + b"\r\n--b--\r\n"
        connection.request("POST", "/api/v1/predict", body, {"Content-Type": "multipart/form-data; boundary=b"})
        response = connection.getresponse()
        response.read()
        if response.status == 503 and not response.headers["Retry-After"]:
            return -503, time.perf_counter() - start
        return response.status, time.perf_counter() - start
    except OSError:
        return 0, time.perf_counter() - start
    finally:
        connection.close()


def measure_load(url: str, process: psutil.Process, content: bytes, count: int) -> dict[str, Any]:
    page_ms: list[float] = []
    memory = [rss(process)]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            start = time.perf_counter()
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
            page_ms.append((time.perf_counter() - start) * 1000)
            memory.append(rss(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(count) as senders:
        answers = list(senders.map(lambda _: post(url, content), range(count)))
    stop.set()
    watcher.join()
    statuses = [status for status, _ in answers]
    served = [seconds for status, seconds in answers if status == 200]
    return {
        "uploads": count,
        "bytes_each": len(content),
        "answered": statuses.count(200),
        "politely_refused": statuses.count(503),
        "lost": count - statuses.count(200) - statuses.count(503),
        "answered_p50_s": statistics.median(served) if served else None,
        "answered_max_s": max(served, default=None),
        "page_p50_ms": statistics.median(page_ms),
        "page_max_ms": max(page_ms),
        "memory_before_mb": memory[0] / 1e6,
        "memory_max_mb": max(memory) / 1e6,
    }


def rss(process: psutil.Process) -> int:
    """Of the server and its workers."""
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_info().rss for each in family if each.is_running())


def measure_browser(url: str, file: Path, repeats: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    beyond, whole, paints, weights = [], [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_OPTIONS))
        for repeat in range(repeats + 1):
            context = browser.new_context(service_workers="block")
            page = context.new_page()
            page.goto(url)
            page.wait_for_load_state("networkidle")
            paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            weight = page.evaluate(
                "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
                ".reduce((sum, entry) => sum + entry.transferSize, 0)"
            )
            page.evaluate(WATCH)
            with page.expect_response("**/api/v1/predict", timeout=120_000) as answer:
                page.set_input_files("#files", file)
            total = answer.value.json()["timings_ms"]["total"]
            end = time.monotonic() + 60
            while not (times := page.evaluate("times")).get("shown", -1) > 0:
                assert time.monotonic() < end
                time.sleep(0.02)
            if repeat:  # the first one warms up
                whole.append(times["shown"] - times["chosen"])
                beyond.append(whole[-1] - total)
                paints.append(paint)
                weights.append(weight)
            context.close()
        browser.close()
    return {
        "repeats": repeats,
        "dicom_bytes": file.stat().st_size,
        "drop_to_answer_ms": summary(whole),
        "beyond_the_runtime_ms": summary(beyond),
        "first_contentful_paint_ms": summary(paints),
        "page_weight_bytes": max(weights),
    }


def summary(values: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(values), 1), "min": round(min(values), 1), "max": round(max(values), 1)}


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.option("--uploads", default=50, show_default=True)
@click.option("--repeats", default=8, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(bundle: Path, uploads: int, repeats: int, json_file: Path | None) -> None:
    """Measure the page of BUNDLE."""
    rng = np.random.default_rng(0)
    pixels = drawn_radiograph(2200, 2400).astype(np.uint16) * 16 + rng.integers(0, 16, (2200, 2400), dtype=np.uint16)
    large = large_dicom(pixels)
    small = dicom_bytes(drawn_radiograph(1000, 900))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edge_runtime", "serve", str(bundle), "--port", "0", "--no-login"]
        process = subprocess.Popen([*command, "--site", folder], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
            chest = Path(folder) / "chest.dcm"
            chest.write_bytes(large)
            for _ in range(3):
                post(url, small)
            result = {
                "load_average": os.getloadavg(),
                "cores": os.cpu_count(),
                "load": measure_load(url, psutil.Process(process.pid), small, uploads),
                "browser": measure_browser(url, chest, repeats),
            }
        finally:
            process.terminate()
            process.wait(timeout=60)
    text = json.dumps(result, indent=1)
    click.echo(text)
    if json_file is not None:
        json_file.write_text(text + "\n")


def large_dicom(pixels: np.ndarray) -> bytes:
    """A 12-bit DICOM file of about 10 MB."""
    return dicom_bytes(
        np.zeros((2, 2), np.uint8), Rows=pixels.shape[0], Columns=pixels.shape[1], BitsAllocated=16, BitsStored=12,
        HighBit=11, PixelData=pixels.tobytes(),
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""The phone's page beside the field runtime, in turns: ``python -m benchmarks.phone_page BUNDLE [ARTIFACT ...]``.

A desktop's browser is no phone: what carries over is how much WebAssembly costs beside native code, and the sizes.
Each round runs one radiograph once in headless Chromium and once in ``edge_runtime``: a busy machine slows both.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Predictor
from mobile_demo.web.site import write_site
from tests.mobile.phone_page import Phone, StaticServer, open_chromium
from train.data.phantom import phantom_pixels

ROUNDS = 25
WARM_UP = 3
EDGE = 1024  # pixels of the radiograph

OPEN = """async (name) => {
    const here = (path) => import(new URL(path, document.baseURI).href);
    const [{ Model }, { loadFile }] = await Promise.all([here('model.js'), here('loading.js')]);
    const [site, manifest] = await Promise.all(['site.json', 'model/manifest.json'].map(
        (path) => fetch(path).then((response) => response.json())));
    const artifact = manifest.artifacts.find((one) => one.name === name);
    const model = new Model(manifest, artifact);
    const file = artifact.files[0];
    const begun = performance.now();
    await model.open(await loadFile(site.runtime), await loadFile({ ...file, path: `model/${file.path}` }));
    globalThis.benched = model;
    return { threads: model.threads, open: performance.now() - begun };
}"""
RUN = """async ([edge, letters]) => {
    const pixels = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
    const { outputs, milliseconds } = await globalThis.benched.run({ pixels, height: edge, width: edge });
    return [milliseconds, Array.from(outputs.probabilities)];
}"""


def main(bundle_path: str, *asked: str) -> None:
    """Write the page, open it twice (the second visit has threads), and run each artifact in turns with the runtime."""
    import base64

    pixels = phantom_pixels("pneumonia", 3, EDGE)
    letters = base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
    with tempfile.TemporaryDirectory() as folder, open_bundle(bundle_path) as bundle, open_chromium() as browser:
        site = write_site(bundle, Path(folder) / "site")
        print(f"load average {os.getloadavg()[0]:.1f}; first visit transfers {site.wire_bytes / 1e6:.1f} MB")
        server = StaticServer(site.folder)
        phone = Phone(browser, server.url)
        phone.open()
        phone.open()
        for name in asked or site.artifacts:
            opened = phone.page.evaluate(OPEN, name)
            with Predictor.open(bundle, name, threads=opened["threads"]) as predictor:
                report(name, phone.page, predictor, pixels, letters, opened)
            phone.page.evaluate("globalThis.benched.close()")
        server.stop()
        phone.close()


def report(name: str, page: Any, predictor: Predictor, pixels: Any, letters: str, opened: dict[str, float]) -> None:
    """Run in turns; print both medians, and how far the answers are apart."""
    browser, native, difference = [], [], 0.0
    for _ in range(WARM_UP + ROUNDS):
        milliseconds, found = page.evaluate(RUN, [EDGE, letters])
        start = perf_counter()
        outputs = predictor.run_raw(pixels)
        native.append((perf_counter() - start) * 1000)
        browser.append(milliseconds)
        difference = max(difference, float(np.abs(outputs["probabilities"][0] - found).max()))
    b, n = median(browser[WARM_UP:]), median(native[WARM_UP:])
    print(
        f"{name}, {opened['threads']} threads, {EDGE} x {EDGE} px: browser p50 {b:.0f} ms, runtime p50 {n:.0f} ms, "
        f"{b / n:.1f} times; opened in {opened['open']:.0f} ms; largest |Δp| {difference:.1e}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The phone's page in a browser: ``python -m benchmarks.phone_page BUNDLE... [--json FILE] [--docs PAGE]``.

In headless Chromium with a phone's viewport, for each ONNX artifact: what a first visit transfers, how long it and a
second visit with the server switched off take until the page is ready, and the median of a run beside the field runtime
on the same machine with as many threads, in turns: a busy machine slows both. A desktop's browser is no phone: what
carries over is the sizes, and how much WebAssembly costs beside native code.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.mobile_hosts import machine, replace_between
from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Predictor
from mobile_demo.web.site import Site, write_site
from tests.mobile.phone_page import Phone, StaticServer, open_chromium
from train.data.phantom import phantom_pixels

WARM_UP = 3
EDGE = 1024  # pixels of the radiograph's sides

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


def visit(phone: Phone, artifact: str) -> float:
    """Open the page; milliseconds until it is ready."""
    begun = perf_counter()
    phone.open()
    if phone.ready != artifact:
        raise click.ClickException(phone.page.locator("#failure-message").inner_text())
    return (perf_counter() - begun) * 1000


def measure(browser: Any, site: Site, predictor: Predictor, pixels: NDArray[np.uint8], rounds: int) -> dict[str, Any]:
    """One artifact: a first visit, one without a server, then runs in turns with the field runtime."""
    letters = base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
    name = predictor.artifact.name
    server = StaticServer(site.folder)
    phone = Phone(browser, server.url)
    first = visit(phone, name)
    server.stop()
    offline = visit(phone, name)
    opened = phone.page.evaluate(OPEN, name)
    in_browser, native, difference = [], [], 0.0
    for _ in range(WARM_UP + rounds):
        milliseconds, found = phone.page.evaluate(RUN, [EDGE, letters])
        start = perf_counter()
        outputs = predictor.run_raw(pixels)
        native.append((perf_counter() - start) * 1000)
        in_browser.append(milliseconds)
        difference = max(difference, float(np.abs(outputs["probabilities"][0] - found).max()))
    phone.close()
    return {
        "artifact": name, "threads": opened["threads"], "model_bytes": predictor.artifact.files[0].bytes,
        "wire_bytes": site.wire_bytes, "first_visit_ms": round(first), "offline_visit_ms": round(offline),
        "browser_p50_ms": round(median(in_browser[WARM_UP:]), 1), "runtime_p50_ms": round(median(native[WARM_UP:]), 1),
        "max_abs_probability_difference": difference,
    }  # fmt: skip


def as_markdown(result: dict[str, Any]) -> str:
    lines = [
        "| artifact | model, MB | first visit, MB sent | ready, s | ready offline, s | p50 of a run, ms |"
        " field runtime, ms | largest Δp between them |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['artifact']} | {row['model_bytes'] / 1e6:.1f} | {row['wire_bytes'] / 1e6:.1f} | "
        f"{row['first_visit_ms'] / 1000:.1f} | {row['offline_visit_ms'] / 1000:.1f} | {row['browser_p50_ms']:.0f} | "
        f"{row['runtime_p50_ms']:.0f} | {row['max_abs_probability_difference']:.1g} |"
        for row in result["rows"]
    ]
    before, after = result["load_average"]
    lines += [
        "",
        f"{result['what']}; {result['machine']}; load average {before:.1f} before, {after:.1f} after; median of "
        f"{result['rounds']} runs; {result['date']}.",
    ]
    return "\n".join(lines)


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--artifact", "artifacts", multiple=True, help="ONNX artifact; else all.")
@click.option("--rounds", default=25, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures here.")
@click.option("--docs", type=click.Path(path_type=Path), help="Page whose block `phone_page` is replaced.")
def main(
    bundles: tuple[Path, ...], artifacts: tuple[str, ...], rounds: int, json_file: Path | None, docs: Path | None
) -> None:
    """Measure the phone's pages of BUNDLES; print a Markdown table."""
    pixels = phantom_pixels("pneumonia", 3, EDGE)
    before = os.getloadavg()[0]
    threads = min(4, os.cpu_count() or 1)  # as the page takes them (model.js)
    rows = []
    for path in bundles:
        with tempfile.TemporaryDirectory() as folder, open_bundle(path) as bundle, open_chromium() as browser:
            manifest = bundle.manifest
            for name in artifacts or [a.name for a in manifest.artifacts if a.format == "onnx"]:
                click.echo(f"{name}: {rounds} rounds", err=True)
                site = write_site(bundle, Path(folder) / name, [name])
                with Predictor.open(bundle, name, threads=threads) as predictor:
                    rows.append(measure(browser, site, predictor, pixels, rounds))
                    assert rows[-1]["threads"] == threads, "the comparison is not of equal threads"
    result = {
        "what": f"{manifest.name}, checkpoint {manifest.provenance.checkpoint_sha256[:12]}, {threads} threads, a "
        f"synthetic radiograph of {EDGE} x {EDGE} px, headless Chromium, 390 x 844",
        "machine": machine(), "load_average": [before, os.getloadavg()[0]], "rounds": rounds,
        "date": time.strftime("%Y-%m-%d"), "rows": rows,
    }  # fmt: skip
    text = as_markdown(result)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if docs is not None:
        replace_between(docs, "phone_page", text)
    click.echo(text)


if __name__ == "__main__":
    main()

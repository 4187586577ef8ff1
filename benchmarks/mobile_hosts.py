"""The mobile artifacts in every host: ``python -m benchmarks.mobile_hosts BUNDLE... [--json FILE] [--docs PAGE]``.

For each artifact (lite, ONNX, ExecuTorch) in each host that can run it here: file size, largest difference from the
full model on the bundle's golden vectors, peak resident memory, load time, and the median of a run. Each is a process
of its own, one at a time, one thread, in turns: a busy machine slows all alike. Hosts whose tools are missing
are named. A desktop's figures say nothing about a phone: what carries over is sizes, and one host beside another.

- load: hashing the model file and opening it; in Python with the runtime's import, in the browser from its cache.
- run: pixels to outputs, the median over the golden vectors, each once; of all rounds' medians, the median.
- memory: the kernel's peak of the host's process, with a desktop's libraries; of the browser, the page's renderer
  after its own self-test.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
NATIVE = ROOT / "mobile_demo/native"
JAVA = ROOT / "mobile_demo/android/app/src/main/java/org/cxredge/classifier"
DRIVER = ROOT / "tests/mobile/java/DesktopTest.java"
POLL_SECONDS = 0.01
HOSTS = {
    "lite": ("Python", "C++", "Java"),
    "onnx": ("Python", "browser"),
    "executorch": ("Python, ExecuTorch",),
}


@dataclass
class Row:
    """One artifact in one host; figures of every round."""

    bundle: Path
    artifact: str
    host: str
    bytes: int
    skipped: str | None = None
    difference: float = 0.0
    decisions: int = 0
    memory_mb: list[float] = field(default_factory=list)
    load_ms: list[float] = field(default_factory=list)
    run_ms: list[float] = field(default_factory=list)

    def add(self, figures: dict[str, float]) -> None:
        """Take in one round."""
        self.difference = max(self.difference, figures["difference"])
        self.decisions = max(self.decisions, int(figures["decisions"]))
        self.memory_mb.append(figures["memory_mb"])
        self.load_ms.append(figures["load_ms"])
        self.run_ms.append(figures["run_ms"])

    def as_json(self) -> dict[str, Any]:
        """Return what is written down."""
        shared: dict[str, Any] = {"artifact": self.artifact, "host": self.host, "bytes": self.bytes}
        if self.skipped is not None:
            return {**shared, "skipped": self.skipped}
        return {
            **shared,
            "max_abs_probability_difference": self.difference,
            "differing_decisions": self.decisions,
            "peak_resident_mb": round(max(self.memory_mb), 1),
            "load_ms": round(median(self.load_ms), 1),
            "p50_ms": round(median(self.run_ms), 2),
            "p50_ms_of_each_round": [round(value, 2) for value in self.run_ms],
        }


def measured(command: list[str | Path], **environment: str) -> tuple[str, float]:
    """Run a command; its standard output, and the kernel's peak of its resident memory in MB."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=err, cwd=ROOT, env={**os.environ, **environment}
        )
        peak = 0.0
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            peak = max(peak, peak_mb(status))  # VmHWM only grows: what the last look misses is the last 10 ms
            time.sleep(POLL_SECONDS)
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            raise click.ClickException(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{err.read()}")
        return out.read(), peak


def peak_mb(status: Path) -> float:
    try:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0
    return int(line.split()[1]) / 1024


# ---- hosts


def in_python(python: Path | str) -> Callable[[Path, str], dict[str, float]]:
    def run(bundle: Path, artifact: str) -> dict[str, float]:
        out, memory = measured([python, "-W", "ignore", __file__, "--child", artifact, bundle])
        return {**json.loads(out.splitlines()[-1]), "memory_mb": memory}

    return run


def measure_here(bundle_path: Path, artifact: str) -> None:
    """In a process of its own: open, run each golden vector once, print."""
    import numpy as np

    from edge_runtime.bundle import open_bundle
    from edge_runtime.golden import load_golden
    from edge_runtime.predictor import Predictor

    with open_bundle(bundle_path) as bundle:
        begun = time.perf_counter()
        predictor = Predictor.open(bundle, artifact, threads=1)
        loaded = time.perf_counter() - begun
        times, difference, decisions = [], 0.0, 0
        for vector in load_golden(bundle):
            begun = time.perf_counter()
            found = predictor.run_raw(vector.pixels)["probabilities"][0]
            times.append((time.perf_counter() - begun) * 1000)
            wanted = vector.outputs["probabilities"][0]
            difference = max(difference, float(np.abs(found - wanted).max()))
            decisions += int(found.argmax() != wanted.argmax())
        predictor.close()
    figures = {"difference": difference, "decisions": decisions, "load_ms": loaded * 1000, "run_ms": median(times)}
    print(json.dumps(figures))


def build_native(folder: Path) -> dict[str, Path | str]:
    """``cxr_classify`` and the JNI library as a release; by name the program, the library's folder, or why not."""
    missing = [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]
    if missing:
        reason = f"no {', '.join(missing)} here"
        return {"C++": reason, "Java": reason}
    javac = shutil.which("javac")
    home = os.environ.get("JAVA_HOME") or (str(Path(javac).resolve().parents[1]) if javac else None)
    find = "import torch; print(torch.utils.cmake_prefix_path)"
    prefix = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    configure = [
        "cmake", "-G", "Ninja", "-S", NATIVE, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DCXR_TESTS=OFF",
        f"-DCXR_JNI={'ON' if home else 'OFF'}", f"-DCMAKE_PREFIX_PATH={prefix}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", folder]):
        measured(command, **({"JAVA_HOME": home} if home else {}))
    if home is None:
        return {"C++": folder / "cxr_classify", "Java": "no JDK here"}
    classes = folder / "classes"
    measured([Path(home) / "bin/javac", "--release", "11", "-d", classes, *sorted(JAVA.glob("*.java")), DRIVER])
    return {"C++": folder / "cxr_classify", "Java": folder / "jni", "classes": classes, "java": Path(home) / "bin/java"}


def in_cpp(program: Path) -> Callable[[Path, str], dict[str, float]]:
    def run(bundle: Path, artifact: str) -> dict[str, float]:
        out, memory = measured([program, bundle, "--self-test", "--artifact", artifact, "--threads", "1", "--json"])
        told = json.loads(out)
        return {
            "difference": told["max_abs_probability_difference"], "decisions": told["differing_decisions"],
            "load_ms": told["check_ms"] + told["load_ms"], "run_ms": told["p50_ms"], "memory_mb": memory,
        }  # fmt: skip

    return run


def in_java(java: Path, library: Path, classes: Path) -> Callable[[Path, str], dict[str, float]]:
    def run(bundle: Path, artifact: str) -> dict[str, float]:
        options = ["-Djava.awt.headless=true", "-cp", classes, f"-Djava.library.path={library}"]
        out, memory = measured([java, *options, "DesktopTest", "selfTest", bundle, artifact], LC_ALL="C.UTF-8")
        told = dict(word.split("=") for word in out.split()[2:])
        return {
            "difference": float(told["probability"]), "decisions": float(told["decisions"]),
            "load_ms": float(told["check_ms"]) + float(told["load_ms"]), "run_ms": float(told["p50_ms"]),
            "memory_mb": memory,
        }  # fmt: skip

    return run


BROWSER = """async (name) => {
    const here = (path) => import(new URL(path, document.baseURI).href);
    const [{ Model }, { loadFile }, { decodePicture }] =
        await Promise.all([here('model.js'), here('loading.js'), here('picture.js')]);
    const [site, manifest] = await Promise.all(['site.json', 'model/manifest.json'].map(
        (path) => fetch(path).then((response) => response.json())));
    const under = (entry) => ({ ...entry, path: `model/${entry.path}` });
    const artifact = manifest.artifacts.find((one) => one.name === name);
    const begun = performance.now();
    const model = new Model(manifest, artifact);
    model.threads = 1;
    await model.open(await loadFile(site.runtime), await loadFile(under(artifact.files[0])));
    const load = performance.now() - begun;
    const { vectors } = JSON.parse(new TextDecoder().decode(await loadFile(under(manifest.golden.vectors))));
    const inputs = new Map(manifest.golden.inputs.map((entry) => [entry.path, entry]));
    const largest = (values) => values.indexOf(Math.max(...values));
    const times = [];
    let [difference, decisions] = [0, 0];
    for (const vector of vectors) {
        const bytes = new Uint8Array(await loadFile(under(inputs.get(vector.input))));
        const { outputs, milliseconds } = await model.run(await decodePicture(bytes, 'PNG'));
        times.push(milliseconds);
        const found = Array.from(outputs.probabilities);
        const wanted = vector.outputs.probabilities;
        difference = Math.max(difference, ...found.map((value, index) => Math.abs(value - wanted[index])));
        decisions += largest(found) === largest(wanted) ? 0 : 1;
    }
    model.close();
    times.sort((a, b) => a - b);
    const middle = (times[Math.floor((times.length - 1) / 2)] + times[Math.floor(times.length / 2)]) / 2;
    return { difference, decisions, load_ms: load, run_ms: middle };
}"""


def in_browser(sites: dict[Path, Path]) -> Callable[[Path, str], dict[str, float]]:
    """A new Chromium each time; the page is opened first, so that the model comes from its cache."""

    def run(bundle: Path, artifact: str) -> dict[str, float]:
        import psutil

        from tests.mobile.phone_page import Phone, StaticServer, open_chromium

        with open_chromium() as browser:
            server = StaticServer(sites[bundle])
            phone = Phone(browser, server.url)
            phone.context.add_init_script(f"localStorage.setItem('cxr artifact', '{artifact}')")
            phone.open()
            phone.open()
            if phone.ready != artifact:
                raise click.ClickException(phone.page.locator("#failure-message").inner_text())
            renderers = [
                process.pid
                for process in psutil.Process().children(recursive=True)
                if "--type=renderer" in process.cmdline()
            ]
            memory = max(peak_mb(Path(f"/proc/{pid}/status")) for pid in renderers)
            told = phone.page.evaluate(BROWSER, artifact)
            server.stop()
            phone.close()
        return {**told, "memory_mb": memory}

    return run


@contextmanager
def page_sites(bundles: list[Path]) -> Iterator[dict[Path, Path] | str]:
    """The pages of the bundles that have ONNX, or why there are none."""
    from mobile_demo.web.site import HERE, PACKAGES, write_site
    from tests.ui.conftest import find_chromium

    if not (PACKAGES / "onnxruntime-web").is_dir():
        yield f"no npm packages here (npm ci --ignore-scripts --prefix {HERE.relative_to(ROOT)})"
        return
    if find_chromium() is None:
        yield "no Chromium here"
        return
    from edge_runtime.bundle import open_bundle

    with tempfile.TemporaryDirectory(prefix="mobile-hosts-") as folder:
        sites = {}
        for number, path in enumerate(bundles):
            with open_bundle(path) as bundle:
                if any(a.format == "onnx" for a in bundle.manifest.artifacts):
                    sites[path] = write_site(bundle, Path(folder) / str(number)).folder
        yield sites


# ---- what is written


def machine() -> str:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def as_markdown(result: dict[str, Any]) -> str:
    lines = [
        "| artifact | MB | host | largest Δp | other decisions | p50 of a run, ms | load, ms | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['artifact']} | {row['bytes'] / 1e6:.1f} | {row['host']} | "
        f"{row['max_abs_probability_difference']:.1g} | {row['differing_decisions']} | "
        f"{row['p50_ms']:.0f} | {row['load_ms']:.0f} | {row['peak_resident_mb']:.0f} |"
        for row in result["rows"]
        if "skipped" not in row
    ]
    skipped = sorted({f"{row['host']} ({row['skipped']})" for row in result["rows"] if "skipped" in row})
    lines += ["", f"{result['what']}; {result['machine']}; load average {result['load_average'][0]:.1f} before, "
              f"{result['load_average'][1]:.1f} after; {result['rounds']} rounds; {result['date']}."]  # fmt: skip
    if result["native_bytes"]:
        parts = ", ".join(f"`{name}` {size / 1e6:.2f} MB" for name, size in result["native_bytes"].items())
        lines[-1] += f" Native parts beside libtorch: {parts} (not stripped)."
    if skipped:
        lines += ["", f"Skipped: {'; '.join(skipped)}."]
    return "\n".join(lines)


def replace_between(path: Path, name: str, text: str) -> None:
    """Put ``text`` between ``<!-- NAME -->`` and ``<!-- /NAME -->`` of a page."""
    page = path.read_text("utf-8")
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if page.count(start) != 1 or page.count(end) != 1:
        raise click.ClickException(f"{path} has not one {start} and one {end}")
    before, _, rest = page.partition(start)
    path.write_text(f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}", "utf-8")


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--executorch-venv", type=click.Path(path_type=Path), default=ROOT / ".venv-executorch")
@click.option("--rounds", default=3, show_default=True)
@click.option("--native-build", type=click.Path(path_type=Path), help="Folder that keeps the native build.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures here.")
@click.option("--docs", type=click.Path(path_type=Path), help="Page whose block `mobile_hosts` is replaced.")
@click.option("--child", hidden=True, help="Artifact to measure in this very process.")
def main(
    bundles: tuple[Path, ...], executorch_venv: Path, rounds: int, native_build: Path | None,
    json_file: Path | None, docs: Path | None, child: str | None,
) -> None:  # fmt: skip
    """Measure the artifacts of BUNDLES in every host; print a Markdown table."""
    if child is not None:
        measure_here(bundles[0], child)
        return
    paths = [path.resolve() for path in bundles]
    manifests = {path: json.loads((path / "manifest.json").read_text()) for path in paths}
    with tempfile.TemporaryDirectory(prefix="mobile-hosts-") as scratch, page_sites(paths) as sites:
        native = build_native(native_build or Path(scratch) / "native")
        python = executorch_venv / "bin/python"
        runners: dict[str, Any] = {
            "Python": in_python(sys.executable),
            "C++": in_cpp(native["C++"]) if isinstance(native["C++"], Path) else native["C++"],
            "Java": in_java(native["java"], native["Java"], native["classes"]) if "java" in native else native["Java"],
            "browser": sites if isinstance(sites, str) else in_browser(sites),
            "Python, ExecuTorch": in_python(python) if python.exists() else f"no environment at {executorch_venv}",
        }
        rows = [
            Row(path, a["name"], host, sum(f["bytes"] for f in a["files"]), r if isinstance(r, str) else None)
            for path, manifest in manifests.items()
            for a in manifest["artifacts"]
            for host in HOSTS.get(a["format"], ())
            for r in [runners[host]]
        ]
        before = os.getloadavg()[0]
        for number in range(rounds):
            for row in rows:
                if row.skipped is None:
                    click.echo(f"round {number + 1} of {rounds}: {row.artifact} in {row.host}", err=True)
                    row.add(runners[row.host](row.bundle, row.artifact))
        built = [native["C++"], native["Java"] / "libcxr_jni.so" if "java" in native else ""]
        sizes = {path.name: path.stat().st_size for path in built if isinstance(path, Path)}
    first = manifests[paths[0]]
    result = {
        "what": f"{first['name']}, checkpoint {first['provenance']['checkpoint_sha256'][:12]}, input "
        f"{first['input']['preprocessing_in_graph']['size']} px, one thread",
        "machine": machine(), "load_average": [before, os.getloadavg()[0]], "rounds": rounds,
        "date": time.strftime("%Y-%m-%d"), "native_bytes": sizes, "rows": [row.as_json() for row in rows],
    }  # fmt: skip
    text = as_markdown(result)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if docs is not None:
        replace_between(docs, "mobile_hosts", text)
    click.echo(text)


if __name__ == "__main__":
    main()

"""Warm: a file's way to its answer against the bare backend and pydicom's decoding, in turns in one run.

    python benchmarks/warm_answer.py [--bundle models/covidx-b1/bundle] [--rounds 10] [--calls 20] [--threads N] [FILE]

For each backend, ONNX Runtime and OpenVINO, on the same file and the same number of threads:

- `bare loop`: the backend's own, without our code: `InferenceSession.run`, or an `InferRequest` whose outputs are
  copied; same settings, same input, all outputs;
- `our backend`: `Predictor.run_raw`, at most 1.05 times that;
- `pydicom decode`: `dcmread(file).pixel_array`;
- `file to answer`: `answer_file` with its decoder in a process of its own, as every command runs it; at most 1.15 times
  `bare loop` + `pydicom decode`.

They take turns in blocks of --calls; figures are medians over all blocks. With --benchmark-app OpenVINO's own program
(part of its package) takes turns too, for --app-seconds each, and our backend is held to its median latency as well.
ONNX Runtime's counterpart, onnxruntime_perf_test, is in none of its wheels. Exit code 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from folder_throughput import write_film
from pydicom import dcmread

from edge_runtime.answer import answer_file
from edge_runtime.batch import usable_cores
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph
from edge_runtime.tuned import package_version

BACKEND_LIMIT, ANSWER_LIMIT = 1.05, 1.15
PARTS = ("bare loop", "our backend", "pydicom decode", "file to answer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", help="a DICOM radiograph; else a synthetic one of 1024 x 1024")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "models/covidx-b1/bundle")
    parser.add_argument("--backend", action="append", choices=("onnxruntime", "openvino"), help="repeat it; else both")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--benchmark-app", action="store_true")
    parser.add_argument("--app-seconds", type=int, default=5)
    parser.add_argument("--json", type=Path, dest="json_path")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as scratch, open_bundle(options.bundle) as bundle:
        file = options.file
        if file is None:
            file = Path(scratch) / "film.dcm"
            write_film(file, 1024, 1)
        formats = {a.format for a in bundle.manifest.artifacts}
        for backend in options.backend or ("onnxruntime", "openvino"):
            if {"onnxruntime": "onnx"}.get(backend, backend) in formats:
                results.append(measure(bundle, backend, file, options))
    for result in results:
        show(result)
    within = all(r["within"] for r in results)
    if options.json_path is not None:
        facts = {"machine": platform.machine(), "cores": usable_cores(), "threads": options.threads, "results": results}
        options.json_path.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if within and results else 1


def measure(bundle: Any, backend: str, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    pixels = read_radiograph(file).pixels
    image = np.ascontiguousarray(pixels)[None, None]
    with DecodingPool(1) as pool, Predictor.open(bundle, None, backend, options.threads) as predictor:
        model = bundle.artifact_path(predictor.artifact)
        bare = {"onnxruntime": bare_onnxruntime, "openvino": bare_openvino}[backend](model, options.threads)
        calls: dict[str, Callable[[], Any]] = {
            "bare loop": lambda: bare(image),
            "our backend": lambda: predictor.run_raw(pixels),
            "pydicom decode": lambda: dcmread(file).pixel_array,
            "file to answer": lambda: answer_file(predictor, file, read=pool.read),
        }
        answer = answer_file(predictor, file, read=pool.read).answer
        if answer.timings_ms.get("predict") is None:
            raise SystemExit(f"{file} does not reach the model: {answer.message}")
        np.testing.assert_allclose(bare(image)[0], predictor.run_raw(pixels)["probabilities"], atol=1e-6)
        times: dict[str, list[float]] = {part: [] for part in PARTS}
        app: list[float] = []
        for turn in range(options.rounds + 1):
            order = PARTS if turn % 2 else PARTS[::-1]
            for part in order:
                block = timed(calls[part], options.calls)
                times[part] += block if turn else []  # the first warms up
            if options.benchmark_app and backend == "openvino" and turn:
                app.append(benchmark_app(model, image.shape, options))
        artifact = predictor.artifact.name
    ms = {part: 1000 * median(times[part]) for part in PARTS}
    ratios = {
        "backend": ms["our backend"] / ms["bare loop"],
        "answer": ms["file to answer"] / (ms["bare loop"] + ms["pydicom decode"]),
    }
    if app:
        ms["benchmark_app"] = median(app)
        ratios["backend beside benchmark_app"] = ms["our backend"] / ms["benchmark_app"]
    limits = {name: ANSWER_LIMIT if name == "answer" else BACKEND_LIMIT for name in ratios}
    return {
        "backend": backend, "version": package_version(backend), "artifact": artifact, "pixels": list(pixels.shape),
        "calls": options.rounds * options.calls, "median_ms": ms, "ratios": ratios, "limits": limits,
        "within": all(ratios[name] <= limits[name] for name in ratios),
    }  # fmt: skip


def timed(call: Callable[[], Any], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def bare_onnxruntime(model: Path, threads: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = ["probabilities", "logits", "heatmap", "embedding", "gate_score"]
    return lambda image: session.run(names, {"image": image})


def bare_openvino(model: Path, threads: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(str(model), "CPU", settings).create_infer_request()
    names = ["probabilities", "logits", "heatmap", "embedding", "gate_score"]

    def run(image: np.ndarray) -> list[np.ndarray]:
        request.infer({"image": image})
        return [request.get_tensor(name).data.copy() for name in names]

    return run


def benchmark_app(model: Path, shape: tuple[int, ...], options: argparse.Namespace) -> float:
    """Median milliseconds by OpenVINO's own program, one request and one stream at a time, on its own random input."""
    command = shutil.which("benchmark_app", path=str(Path(sys.executable).parent)) or "benchmark_app"
    arguments = ["-m", str(model), "-d", "CPU", "-api", "sync", "-hint", "none", "-infer_precision", "f32"]
    arguments += ["-data_shape", f"image{list(shape)}".replace(" ", ""), "-t", str(options.app_seconds)]
    arguments += ["-nthreads", str(options.threads), "-nstreams", "1", "-nireq", "1"]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    found = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
    if done.returncode or found is None:
        raise SystemExit(f"benchmark_app failed: {(done.stdout + done.stderr)[-2000:]}")
    return float(found[1])


def show(result: dict[str, Any]) -> None:
    rows, columns = result["pixels"]
    print(f"\n{result['artifact']} on {result['backend']} {result['version']}, {columns} x {rows}, ", end="")
    print(f"medians of {result['calls']} calls\n\n| | ms |\n|---|---|")
    for name, value in result["median_ms"].items():
        print(f"| {name} | {value:.2f} |")
    for name, ratio in result["ratios"].items():
        limit = result["limits"][name]
        print(f"| **{name}**, limit x{limit} | x{ratio:.3f} {'within' if ratio <= limit else '**exceeded**'} |")


if __name__ == "__main__":
    sys.exit(main())

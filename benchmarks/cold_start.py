"""Cold start, side by side: `edge-runtime predict` of one DICOM file against a minimal ONNX Runtime script.

    python benchmarks/cold_start.py [--bundle models/covidx-b1/bundle] [--run models/covidx-b1] [--repeats 15] [FILE]

Each contender is a fresh process, run in turn (A B A B ...) so that a busy machine is unfair to both alike; both open
the same model file. Wall time is the median. Memory is the peak of the whole process tree, pages that processes share
counted once (PSS, sampled in runs of their own that are not timed; Linux, elsewhere the resident sets). Without FILE a
synthetic 1024 x 1024 radiograph, 12 of 16 bits, is written. With --run the way through torch and fastai is measured
after them. Exit code 1 when a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil
from folder_throughput import share, write_film

HERE = Path(__file__).parent
MEMORY_RUNS = 3


@dataclass(frozen=True)
class Contender:
    """A command, and what it adds to the environment."""

    name: str
    command: list[str]
    environment: dict[str, str]


@dataclass
class Figures:
    """Medians over the repeats."""

    name: str
    runs: int
    wall_seconds: float
    wall_spread: tuple[float, float]
    cpu_seconds: float
    peak_megabytes: float
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", help="a DICOM file; else a synthetic one")
    parser.add_argument("--bundle", type=Path, default=HERE.parent / "models/covidx-b1/bundle")
    parser.add_argument("--artifact", help="an ONNX artifact; else the recommended one, or the first of ONNX")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--limit", type=float, default=1.2, help="times the minimal script's wall time and memory")
    parser.add_argument("--run", type=Path, help="a run folder: also measure torch + fastai")
    parser.add_argument("--torch-repeats", type=int, default=3)
    parser.add_argument("--torch-limit", type=float, default=0.1, help="of the wall time of torch + fastai")
    parser.add_argument("--json", type=Path, dest="json_path")
    options = parser.parse_args()
    artifact, model = find_model(options.bundle, options.artifact)
    with tempfile.TemporaryDirectory() as scratch:
        file = options.file
        if file is None:
            file = Path(scratch) / "film.dcm"
            write_film(file, 1024, 1)
        figures = measure(contenders(options.bundle, artifact, model, file), options.repeats)
        if options.run is not None:
            script = [sys.executable, str(HERE / "torch_fastai.py"), str(options.run), str(file)]
            root = {"PYTHONPATH": str(HERE.parent)}
            figures += measure([Contender("torch + fastai", script, root)], options.torch_repeats)
    show(figures)
    baseline, ours = figures[:2]
    ratios = {
        "wall": (ours.wall_seconds / baseline.wall_seconds, options.limit),
        "memory": (ours.peak_megabytes / baseline.peak_megabytes, options.limit),
    }
    if len(figures) > 2:
        ratios["wall beside torch + fastai"] = (ours.wall_seconds / figures[2].wall_seconds, options.torch_limit)
    for name, (ratio, limit) in ratios.items():
        print(f"{name}: x{ratio:.3f}, limit x{limit}: {'within' if ratio <= limit else 'exceeded'}")
    if options.json_path is not None:
        facts = {
            "artifact": artifact,
            "ratios": {name: {"ratio": ratio, "limit": limit} for name, (ratio, limit) in ratios.items()},
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "figures": [asdict(f) for f in figures],
        }
        options.json_path.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if all(ratio <= limit for ratio, limit in ratios.values()) else 1


def find_model(bundle_path: Path, named: str | None) -> tuple[str, Path]:
    """The name of the ONNX artifact to measure, and its file."""
    from edge_runtime.bundle import open_bundle

    with open_bundle(bundle_path) as bundle:
        manifest = bundle.manifest
        fitting = [a for a in manifest.artifacts if a.format == "onnx" and named in (None, a.name)]
        if not fitting:
            raise SystemExit(
                f"{bundle_path} has no ONNX artifact {named or ''}: {[a.name for a in manifest.artifacts]}"
            )
        recommended = [a for a in fitting if a.name == manifest.recommended.get("cpu")]
        artifact = (recommended or fitting)[0]
        return artifact.name, bundle.artifact_path(artifact).resolve()


def contenders(bundle: Path, artifact: str, model: Path, file: Path) -> list[Contender]:
    command = shutil.which("edge-runtime", path=str(Path(sys.executable).parent))
    ours = [command] if command else [sys.executable, "-m", "edge_runtime"]
    return [
        Contender(
            "minimal ONNX Runtime script",
            [sys.executable, str(HERE / "minimal_onnxruntime.py"), str(model), str(file)],
            {},
        ),
        Contender(
            "edge-runtime predict --json",
            [*ours, "predict", str(bundle), str(file), "--json", "--artifact", artifact],
            {} if command else {"PYTHONPATH": str(HERE.parent)},
        ),
    ]


def measure(contenders: list[Contender], repeats: int) -> list[Figures]:
    runs: list[list[tuple[float, float, float, str]]] = [[] for _ in contenders]
    for repeat in range(repeats + 1):
        order = range(len(contenders)) if repeat % 2 else reversed(range(len(contenders)))
        for index in order:
            result = run(contenders[index])
            if repeat:  # the first fills the file cache
                runs[index].append(result)
        print(f"\r{repeat}/{repeats}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    trees = [[tree_peak(contender) for contender in contenders] for _ in range(MEMORY_RUNS)]
    figures = []
    for number, (contender, results) in enumerate(zip(contenders, runs, strict=True)):
        walls, cpus, peaks, outputs = zip(*results, strict=True)
        sampled = [turn[number] for turn in trees if turn[number]]
        figures.append(
            Figures(
                contender.name,
                len(walls),
                median(walls),
                (min(walls), max(walls)),
                median(cpus),
                median(sampled) if sampled else median(peaks),
                outputs[-1],
            )
        )
    return figures


def start(contender: Contender) -> subprocess.Popen[str]:
    environment = {**os.environ, **contender.environment}
    # pip compiles what it installs; a checkout gets the same chance, in the run that is not counted
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(contender.command, stdout=subprocess.PIPE, text=True, env=environment)


def run(contender: Contender) -> tuple[float, float, float, str]:
    """Run once: wall seconds, processor seconds (its children's too), peak resident megabytes, stdout."""
    begun = time.perf_counter()
    process = start(contender)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contender.name} failed: {' '.join(contender.command)}")
    # Linux counts kilobytes, macOS bytes
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output.strip()


def tree_peak(contender: Contender) -> float:
    """Peak megabytes of a run with its children, shared pages counted once."""
    process = start(contender)
    watched, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        with suppress(psutil.Error, OSError):
            peak = max(peak, sum(share(p) for p in [watched, *watched.children(recursive=True)]) / 1e6)
        time.sleep(0.002)
    process.communicate()
    return peak


def show(figures: list[Figures]) -> None:
    print(f"{'':30}{'runs':>5}{'wall s':>8}{'min':>8}{'max':>8}{'cpu s':>8}{'peak MB':>9}")
    for f in figures:
        low, high = f.wall_spread
        times = f"{f.wall_seconds:8.3f}{low:8.3f}{high:8.3f}{f.cpu_seconds:8.3f}"
        print(f"{f.name:30}{f.runs:5}{times}{f.peak_megabytes:9.1f}")
    for f in figures:
        print(f"{f.name}: {f.output}")


if __name__ == "__main__":
    sys.exit(main())

"""Cold start, side by side: `edge-runtime predict` of one DICOM file against a minimal ONNX Runtime script.

Each contender is a fresh process, run in turn (A B A B ...) so that a busy machine is unfair to both alike;
wall time is the median, memory the median of the peak resident set (as the kernel reports it when the
process ends). Exit code 1 when a limit is passed.

    python benchmarks/cold_start.py BUNDLE FILE.dcm --artifact onnx-fp32 --repeats 15
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent


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
    wall_seconds: float
    wall_spread: tuple[float, float]
    cpu_seconds: float
    peak_megabytes: float
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--artifact", default="onnx-fp32", help="an ONNX artifact of the bundle")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--limit", type=float, default=1.3, help="times the minimal script's wall time and memory")
    parser.add_argument("--run", type=Path, help="a run folder: also measure torch + fastai, three times")
    parser.add_argument("--json", type=Path, dest="json_path")
    options = parser.parse_args()

    from edge_runtime.bundle import open_bundle

    with open_bundle(options.bundle) as bundle:
        artifact = bundle.manifest.artifact(options.artifact)
        if artifact is None:
            parser.error(f"no artifact {options.artifact} in {options.bundle}")
        model = bundle.artifact_path(artifact)
    command = shutil.which("edge-runtime", path=str(Path(sys.executable).parent))
    ours = [command] if command else [sys.executable, "-m", "edge_runtime"]
    root = {"PYTHONPATH": str(HERE.parent)}
    contenders = [
        Contender(
            "minimal ONNX Runtime script",
            [sys.executable, str(HERE / "minimal_onnxruntime.py"), str(model), str(options.file)],
            {},
        ),
        Contender(
            "edge-runtime predict --json",
            [
                *ours,
                "predict",
                str(options.bundle),
                str(options.file),
                "--json",
                "--artifact",
                options.artifact,
            ],
            {} if command else root,
        ),
    ]
    figures = _measure(contenders, options.repeats)
    if options.run is not None:
        script = [sys.executable, str(HERE / "torch_fastai.py"), str(options.run), str(options.file)]
        figures += _measure([Contender("torch + fastai", script, root)], 3)
    _show(figures)
    baseline, ours_figures = figures[:2]
    wall = ours_figures.wall_seconds / baseline.wall_seconds
    memory = ours_figures.peak_megabytes / baseline.peak_megabytes
    within = wall <= options.limit and memory <= options.limit
    print(f"wall x{wall:.2f}, memory x{memory:.2f}, limit x{options.limit}: {'within' if within else 'PASSED'}")
    if options.json_path is not None:
        facts = {
            "artifact": options.artifact,
            "repeats": options.repeats,
            "wall_ratio": wall,
            "memory_ratio": memory,
            "limit": options.limit,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "figures": [asdict(f) for f in figures],
        }
        options.json_path.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if within else 1


def _measure(contenders: list[Contender], repeats: int) -> list[Figures]:
    runs: list[list[tuple[float, float, float, str]]] = [[] for _ in contenders]
    for repeat in range(repeats + 1):
        order = range(len(contenders)) if repeat % 2 else reversed(range(len(contenders)))
        for index in order:
            result = _run(contenders[index])
            if repeat:  # the first fills the file cache
                runs[index].append(result)
        print(f"\r{repeat}/{repeats}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    figures = []
    for contender, results in zip(contenders, runs, strict=True):
        walls, cpus, peaks, outputs = zip(*results, strict=True)
        figures.append(
            Figures(
                contender.name,
                median(walls),
                (min(walls), max(walls)),
                median(cpus),
                median(peaks),
                outputs[-1],
            )
        )
    return figures


def _run(contender: Contender) -> tuple[float, float, float, str]:
    """Run once: wall seconds, processor seconds, peak resident megabytes, stdout."""
    environment = {**os.environ, **contender.environment}
    # pip compiles what it installs; a checkout gets the same chance, in the run that is not counted
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    process = subprocess.Popen(contender.command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contender.name} failed: {' '.join(contender.command)}")
    # Linux counts kilobytes, macOS bytes
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output.strip()


def _show(figures: list[Figures]) -> None:
    print(f"{'':30}{'wall s':>8}{'min':>8}{'max':>8}{'cpu s':>8}{'peak MB':>9}")
    for f in figures:
        low, high = f.wall_spread
        print(f"{f.name:30}{f.wall_seconds:8.3f}{low:8.3f}{high:8.3f}{f.cpu_seconds:8.3f}{f.peak_megabytes:9.1f}")
    for f in figures:
        print(f"{f.name}: {f.output}")


if __name__ == "__main__":
    sys.exit(main())

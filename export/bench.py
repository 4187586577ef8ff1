"""How fast, how large, how hungry: every artifact of a bundle that opens here, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge_runtime.backends import backend_for_format, why_unavailable
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.manifest import Artifact
from export.environment import describe_environment
from export.errors import ExportError
from export.other_backends import ALL, named_backends, row_name

__all__ = ["EAGER", "BenchReport", "BenchRow", "bench_bundle", "bench_object", "default_threads"]

EAGER = "torch-eager"
"""Name of the row of the full model in eager torch."""

OnTurn = Callable[[str, int, int], None]
"""Told which artifact has its turn, how many turns are over, and how many there are."""


@dataclasses.dataclass(frozen=True)
class BenchRow:
    """One artifact on one backend at one number of threads.

    Attributes
    ----------
    name
        Of the artifact; on another backend than its own with that in brackets: ``openvino-fp32 (bf16)``.
    load_ms
        Imports and opening, in a fresh process whose files the system may have cached.
    first_ms
        The first radiograph, when a runtime may still compile.
    p50_ms, p95_ms, p99_ms
        Of the warm latencies, pixels to outputs, one radiograph at a time.
    throughput
        Radiographs a second: one after another at this number of threads.
    peak_bytes
        Most memory of the process, imports included; None where the system does not say.
    size_bytes
        Of the artifact's files, or of the checkpoint.
    error
        Why it could not be measured; the figures are None then.
    """

    name: str
    backend: str
    precision: str
    threads: int
    size_bytes: int
    load_ms: float | None = None
    first_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput: float | None = None
    peak_bytes: int | None = None
    runs: int = 0
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    error: str | None = None
    artifact: str | None = None
    """The artifact's name in the bundle; None for the full model."""


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """All rows, and where they were measured."""

    bundle: str
    image: tuple[int, int]
    """Height and width of the radiograph in pixels."""
    rows: tuple[BenchRow, ...]
    rounds: int
    load_average: tuple[float, float]
    """Of the machine before and after (1 minute): above 0 before, others were at work on it."""


def default_threads() -> tuple[int, ...]:
    """1, 2, 4, ... and all the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return tuple(sorted({*(2**n for n in range(10) if 2**n <= cores), cores}))


def bench_bundle(
    bundle: str | Path,
    *,
    run: str | Path | None = None,
    artifacts: Sequence[str] = (),
    threads: Sequence[int] | None = None,
    backends: Sequence[str] = (ALL,),
    image: tuple[int, int] = (512, 424),
    runs: int = 100,
    rounds: int = 5,
    on_turn: OnTurn = lambda _what, _done, _total: None,
) -> BenchReport:
    """Measure every artifact that this machine can open.

    Each artifact at each number of threads is a process of its own, so that its memory is its own and no runtime's
    threads disturb another's. The processes take turns, ``rounds`` times round: what the machine does meanwhile meets
    all of them alike.

    Parameters
    ----------
    bundle
        Folder or zip.
    run
        Run folder: the full model in eager torch is measured among the others.
    artifacts
        Names; all by default.
    threads
        Numbers of threads; :func:`default_threads` by default.
    backends
        Other backends beside each artifact's own, such as ``openvino-bf16``; by default all that this device opens,
        GPUs too.
    image
        Height and width in pixels of the noise that stands for a radiograph.
    runs
        Timed runs of each row, over all rounds.

    Raises
    ------
    EdgeRuntimeError
        The bundle cannot be opened, no such artifact, or nothing opens here.
    """
    counts = tuple(threads) if threads is not None else default_threads()
    if runs < rounds or min((*counts, *image, rounds)) < 1:
        raise ExportError("nothing to measure", got=f"{runs} runs in {rounds} rounds", expected="a run in each round")
    with open_bundle(bundle) as opened:
        name = opened.manifest.name
        chosen = _chosen(opened.manifest.artifacts, artifacts)
    rows_of = [_job(artifact, None) for artifact in chosen]
    rows_of += [_job(artifact, backend) for artifact, backend in named_backends(backends, chosen)]
    before = _load()
    jobs: list[BenchRow] = []
    for count in counts:
        jobs += [dataclasses.replace(row, threads=count) for row in rows_of]
        if run is not None:
            from train.run import CHECKPOINT_NAME

            checkpoint = Path(run) / CHECKPOINT_NAME
            size = checkpoint.stat().st_size if checkpoint.is_file() else 0
            jobs.append(BenchRow(EAGER, "torch", "fp32", count, size))
    rows: list[BenchRow] = []
    total, done = len(jobs) * (rounds + 1), 0
    for count in counts:  # the processes of one number of threads at a time: memory for all formats, not for all rows
        with ExitStack() as stack:
            workers: list[tuple[BenchRow, _Worker | None, list[float]]] = []
            for job in (j for j in jobs if j.threads == count):
                on_turn(f"opening {job.name}, {_words(count)}", done, total)
                done += 1
                worker = None
                if job.error is None:
                    worker = stack.enter_context(_Worker(job, bundle, run, image))
                workers.append((job, worker, []))
            for turn in range(rounds):
                share = runs * (turn + 1) // rounds - runs * turn // rounds
                for job, worker, times in workers:
                    on_turn(f"{job.name}, {_words(count)}", done, total)
                    done += 1
                    if worker is not None and worker.error is None:
                        times += worker.time(share)
            rows += [_row(job, worker, times) for job, worker, times in workers]
    on_turn("done", total, total)
    if all(row.error is not None for row in rows):
        raise ExportError(f"no artifact of {bundle} can be measured here", got=rows[0].error)
    return BenchReport(name, image, tuple(rows), rounds, (before, _load()))


def bench_object(report: BenchReport) -> dict[str, Any]:
    """Return the report as plain values for JSON, with the machine it was measured on."""
    return {
        "schema_version": 1,
        **dataclasses.asdict(report),
        "environment": describe_environment(),
    }


class _Worker:
    """A process that has one artifact open."""

    def __init__(self, row: BenchRow, bundle: str | Path, run: str | Path | None, image: tuple[int, int]) -> None:
        what = {
            "bundle": str(Path(bundle).resolve()),
            "run": None if run is None else str(Path(run).resolve()),
            "adapter": _adapter_of(run),
            "artifact": row.artifact,
            "backend": row.backend,
            "threads": row.threads,
            "height": image[0],
            "width": image[1],
        }
        # torch and OpenMP take their number of threads from the environment before any call can set it
        environment = {**os.environ, "OMP_NUM_THREADS": str(row.threads)}
        # a pipe that nobody reads would fill up and stop the process
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process is
        self._process = subprocess.Popen(
            [sys.executable, "-m", "export.bench_worker", json.dumps(what)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, env=environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        self.error: str | None = None
        self.opened = self._read()

    def time(self, runs: int) -> list[float]:
        """Return the latencies of so many runs, ms; none where the process has died."""
        try:
            _stream(self._process.stdin).write(json.dumps({"runs": runs}) + "\n")
            _stream(self._process.stdin).flush()
        except OSError as error:
            self.error = f"its process ended: {error}"
            return []
        said = self._read()
        self.opened["peak_bytes"] = said.get("peak_bytes")
        return [float(ms) for ms in said.get("times_ms", [])]

    def _read(self) -> dict[str, Any]:
        line = _stream(self._process.stdout).readline()
        if line:
            said: dict[str, Any] = json.loads(line)
            self.error = said.get("error")
            return said
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        self.error = f"its process ended: {lines[-1][:300] if lines else 'without a word'}"
        return {}

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _row(job: BenchRow, worker: _Worker | None, times: list[float]) -> BenchRow:
    if worker is None or worker.error is not None or not times:
        return dataclasses.replace(job, error=job.error or (worker.error if worker else None) or "it gave no times")
    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]))
    return dataclasses.replace(
        job, load_ms=worker.opened["load_ms"], first_ms=worker.opened["first_ms"], p50_ms=p50, p95_ms=p95, p99_ms=p99,
        throughput=1000 * len(times) / sum(times), peak_bytes=worker.opened["peak_bytes"], runs=len(times),
        versions=worker.opened["versions"],
    )  # fmt: skip


def _adapter_of(run: str | Path | None) -> str | None:
    """``FILE.py:FUNCTION`` of a run that was loaded with an adapter: the process loads it anew."""
    adapter = getattr(run, "adapter", None)
    return None if adapter is None else f"{adapter.path.resolve()}:{adapter.function}"


def _job(artifact: Artifact, other: str | None) -> BenchRow:
    own = backend_for_format(artifact.format)
    return BenchRow(
        name=artifact.name if other is None else row_name(artifact.name, other),
        backend=own.name if other is None else other,
        precision="bf16" if other == "openvino-bf16" else artifact.precision,
        threads=0,
        size_bytes=sum(file.bytes for file in artifact.files),
        error=why_unavailable(own),
        artifact=artifact.name,
    )


def _chosen(artifacts: Sequence[Artifact], names: Sequence[str]) -> list[Artifact]:
    known = [artifact.name for artifact in artifacts]
    if unknown := [name for name in names if name not in known]:
        raise ExportError("the bundle has no such artifact", got=", ".join(unknown), expected=", ".join(known))
    return [artifact for artifact in artifacts if not names or artifact.name in names]


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise EdgeRuntimeError("a process was started without its pipes")
    return stream


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def _words(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"

"""One core and 512 MB: does a prediction fit, and what do an idle hot folder, node and page cost?

    python benchmarks/small_machine.py [--bundle models/covidx-b1/bundle] [--megabytes 512] [--idle-seconds 60] [FILE]

`predict --low-memory` runs on one core. Its memory, with its decoder's, is limited for real by the first of these
that this system has, and the output says which: a control group (version 2 or 1, where one can be made), systemd-run,
else each process's address space (RLIMIT_AS of twice the limit, for much that is mapped is never used) together with
the measured peak of what is resident. Then `watch`, `serve` and `receive` idle, and their CPU time is measured, with
their children's. Exit code 1 where the prediction fails or does not fit, or one of them takes over 1 % of a core.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from folder_throughput import share, write_film

GROUPS = Path("/sys/fs/cgroup")


@dataclass
class Limit:
    """How a command's memory is limited."""

    name: str
    prefix: list[str] = field(default_factory=list)
    enter: Callable[[], None] = lambda: None
    group: Path | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", help="a radiograph; else a synthetic one of 2048 x 2048")
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "models/covidx-b1/bundle")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        file = options.file
        if file is None:
            file = Path(scratch) / "film.dcm"
            write_film(file, 2048, 1)
        limit = find_limit(options.megabytes * 2**20)
        try:
            code, peak = run_limited(limit, options.bundle, file)
        finally:
            if limit.group is not None:
                limit.group.rmdir()
        idle = {
            name: idle_share(command, ready, options.idle_seconds)
            for name, (command, ready) in long_running(options.bundle, Path(scratch)).items()
        }
    fits = code == 0 and 0 < peak <= options.megabytes * 2**20
    within = fits and all(value is None or value < 0.01 for value in idle.values())
    print(
        json.dumps(
            {
                "limited_by": limit.name,
                "megabytes": options.megabytes,
                "exit_code": code,
                "peak_mb": round(peak / 2**20),
                "fits": fits,
                "idle_percent_of_a_core": {n: None if v is None else round(100 * v, 3) for n, v in idle.items()},
                "within": within,
            }
        )
    )
    return 0 if within else 1


def find_limit(limit: int) -> Limit:
    name = f"edge-runtime-{os.getpid()}"
    places = (
        (GROUPS, "memory.max", "cgroup v2", {"memory.swap.max": "0"}),
        (GROUPS / "memory", "memory.limit_in_bytes", "cgroup v1", {}),
    )
    for root, key, words, more in places:
        group = root / name
        try:
            if not (root / "cgroup.procs").exists():
                continue
            group.mkdir()
            (group / key).write_text(str(limit))
            for other, value in more.items():
                with suppress(OSError):  # no swap accounting
                    (group / other).write_text(value)
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return Limit(words, enter=lambda group=group: join(group), group=group)
    scope = ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={limit}", "-p", "MemorySwapMax=0"]
    if shutil.which(scope[0]) and not subprocess.run([*scope, "true"], capture_output=True, check=False).returncode:
        return Limit("systemd-run", prefix=scope)

    def address_space() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 * limit, 2 * limit))

    return Limit("RLIMIT_AS of twice the limit, and the peak as measured", enter=address_space)


def join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def run_limited(limit: Limit, bundle: Path, file: Path) -> tuple[int, int]:
    """Exit code and peak bytes of a prediction with its children on one core: the group's own, else measured (PSS)."""
    core = min(os.sched_getaffinity(0))

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        limit.enter()

    command = [*limit.prefix, sys.executable, "-m", "edge_runtime", "predict", str(bundle), str(file)]
    process = subprocess.Popen(
        [*command, "--json", "--low-memory"], stdout=subprocess.PIPE, text=True, preexec_fn=prepare
    )
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        with suppress(psutil.Error, OSError):
            peak = max(peak, sum(share(p) for p in [watched, *watched.children(recursive=True)]))
        time.sleep(0.01)
    output, _ = process.communicate()
    code = process.returncode
    if code == 0 and json.loads(output)["timings_ms"].get("predict") is None:
        raise SystemExit(f"the file did not reach the model: {output}")
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        if limit.group is not None and (limit.group / name).exists():
            peak = int((limit.group / name).read_text())
    return code, peak


def long_running(bundle: Path, scratch: Path) -> dict[str, tuple[list[str], str]]:
    """The commands that wait, and a word that each says when it does."""
    (scratch / "inbox").mkdir()
    ours, site = [sys.executable, "-m", "edge_runtime"], ("--site", str(scratch / "site"))
    watched = (str(scratch / "inbox"), "--out", str(scratch / "watch"))
    sent = ("--out", str(scratch / "receive"), "--port", "0", "--allow-any")
    return {
        "watch": ([*ours, "watch", str(bundle), *watched, *site], "Watching"),
        "serve": ([*ours, "serve", str(bundle), "--port", "0", "--no-login", *site], "http"),
        "receive": ([*ours, "receive", str(bundle), *sent, *site], "isten"),
    }


def idle_share(command: list[str], ready: str, seconds: float) -> float | None:
    """CPU time over wall time of a command in which nothing happens; None where it cannot run here."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while ready not in (text := said_so_far(said.fileno())):
            if process.poll() is not None or time.monotonic() > deadline:
                print(f"{command[3]} did not start: {text.strip()}", file=sys.stderr)
                process.kill()
                process.wait()
                return None
            time.sleep(0.1)
        time.sleep(5)  # what is loaded in the background is loaded
        before, start = cpu_seconds(process.pid), time.monotonic()
        time.sleep(seconds)
        used, wall = cpu_seconds(process.pid) - before, time.monotonic() - start
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return used / wall


def said_so_far(descriptor: int) -> str:
    return os.pread(descriptor, 1 << 20, 0).decode(errors="replace")


def cpu_seconds(pid: int) -> float:
    root = psutil.Process(pid)
    times = [p.cpu_times() for p in [root, *root.children(recursive=True)]]
    return float(sum(t.user + t.system for t in times))


if __name__ == "__main__":
    sys.exit(main())

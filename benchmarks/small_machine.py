"""One core and 512 MB: does a prediction fit, and what does an idle hot folder cost?

    python benchmarks/small_machine.py BUNDLE FILE.dcm [--megabytes 512] [--idle-seconds 60]

The command runs on one core with `--low-memory`. Where systemd-run can make a scope its memory is limited for real (no
swap); otherwise the peak resident set of the whole process tree is measured and compared with the limit. Exit code 1
where it does not fit or the idle watcher takes over 1 % of a core. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    options = parser.parse_args()
    command = [sys.executable, "-m", "edge_runtime", "predict", str(options.bundle), str(options.file), "--json"]
    limited = scope(options.megabytes)
    code, peak = peak_memory([*limited, *command, "--low-memory"])
    idle = idle_share(options.bundle, options.idle_seconds)
    fits = code == 0 and peak < options.megabytes * 2**20
    print(
        json.dumps(
            {
                "limited_by": "systemd" if limited else "nothing: measured",
                "exit_code": code,
                "peak_mb": round(peak / 2**20),
                "fits": fits,
                "idle_watch_percent_of_a_core": round(100 * idle, 3),
            }
        )
    )
    return 0 if fits and idle < 0.01 else 1


def scope(megabytes: int) -> list[str]:
    limits = ["-p", f"MemoryMax={megabytes}M", "-p", "MemorySwapMax=0"]
    command = ["systemd-run", "--scope", "--quiet", *limits]
    if shutil.which("systemd-run") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        return []
    return command


def peak_memory(command: list[str]) -> tuple[int, int]:
    """Exit code and peak resident bytes of a command, with its children, on one core."""
    core = min(os.sched_getaffinity(0))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, sum(p.memory_info().rss for p in [watched, *watched.children(recursive=True)]))
        time.sleep(0.01)
    return process.returncode, peak


def idle_share(bundle: Path, seconds: float) -> float:
    """CPU time over wall time of a hot folder in which nothing happens."""
    with tempfile.TemporaryDirectory() as scratch:
        inbox = Path(scratch) / "inbox"
        inbox.mkdir()
        command = [sys.executable, "-m", "edge_runtime", "watch", str(bundle), str(inbox)]
        process = subprocess.Popen([*command, "--out", str(Path(scratch) / "out")], stderr=subprocess.PIPE)
        assert process.stderr is not None
        while b"Watching" not in (line := process.stderr.readline()):
            if not line:
                raise SystemExit("the hot folder did not start")
        watched = psutil.Process(process.pid)
        before, start = watched.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, wall = watched.cpu_times(), time.monotonic() - start
        process.terminate()
        process.wait()
    return (after.user - before.user + after.system - before.system) / wall


if __name__ == "__main__":
    sys.exit(main())

"""kill -9 at random moments, again and again, while files come in: is anything lost, done twice, or damaged?

    python benchmarks/kill_endurance.py BUNDLE --kills 200
    python benchmarks/kill_endurance.py BUNDLE --kills 200 --receive     # through C-STORE

Synthetic radiographs go into the inbox (or are sent) all the while. After the last kill the runtime may finish; then
every file that was handed over must be answered exactly once, the database whole and the audit chain unbroken.
Exit code 1 where that is not so. POSIX only.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.folder_throughput import write_film
from edge_runtime.records import Records


@dataclass
class Report:
    """What was found at the end."""

    kills: int
    handed_over: int
    answered: int
    problems: list[str] = field(default_factory=list)


def endure_watch(bundle: Path, folder: Path, kills: int, files: int, seed: int = 0) -> Report:
    """Kill ``edge-runtime watch`` while ``files`` pictures come in, then let it finish."""
    chance = random.Random(seed)
    inbox, out = folder / "inbox", folder / "out"
    inbox.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "edge_runtime", "watch", str(bundle), str(inbox), "--out", str(out)),
        *("--settle", "0.05", "--interval", "0.05"),
    ]
    handed = 0
    for number in range(kills):
        watcher = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert watcher.stderr is not None
        watcher.stderr.readline()  # it watches
        for _ in range(files * (number + 1) // kills - handed):
            _drop(inbox, handed)
            handed += 1
        time.sleep(chance.uniform(0, 0.6))
        watcher.send_signal(signal.SIGKILL)
        watcher.wait()
        watcher.stderr.close()
    subprocess.run([*command, "--once"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    return judge(out, out / "site", kills, handed)


def endure_receive(bundle: Path, folder: Path, kills: int, files: int, seed: int = 0) -> Report:
    """Kill ``edge-runtime receive`` while ``files`` objects are sent to it; what was not acknowledged is sent again."""
    from pynetdicom import AE

    chance = random.Random(seed)
    out, films = folder / "out", folder / "films"
    films.mkdir(parents=True)
    for number in range(files):
        write_film(films / f"{number}.dcm", 320, number)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "edge_runtime", "receive", str(bundle), "--out", str(out), "--port", str(port)),
        *("--allow", "TESTER", "--no-results"),
    ]
    sender = AE(ae_title="TESTER")
    sender.add_requested_context("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.1.2.1")
    sender.acse_timeout = sender.dimse_timeout = sender.network_timeout = 20
    waiting = sorted(films.iterdir())
    acknowledged = 0
    for attempt in range(kills + 1):
        node = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert node.stderr is not None
        while b"listens on" not in (line := node.stderr.readline()):
            if not line:
                raise SystemExit("the node did not start")
        threading.Thread(target=node.stderr.read, daemon=True).start()
        last = attempt == kills
        killer = threading.Timer(3600 if last else chance.uniform(0.05, 1.0), node.kill)
        killer.start()
        quota = len(waiting) if last else max(1, files // kills)
        association = sender.associate("127.0.0.1", port, ae_title="EDGE_RUNTIME")
        while waiting and quota and association.is_established:
            status = association.send_c_store(str(waiting[0]))
            if "Status" in status and status.Status == 0:
                waiting.pop(0)
                acknowledged += 1
                quota -= 1
        if association.is_established:
            association.release()
        if last:
            end = time.monotonic() + 600
            while any(not p.name.startswith(".") for p in (out / "working").iterdir()) and time.monotonic() < end:
                time.sleep(0.1)
            killer.cancel()
            node.terminate()
        node.wait()
        killer.join()
    return judge(out, out / "site", kills, acknowledged)


def judge(out: Path, site: Path, kills: int, handed: int) -> Report:
    """Compare what came in with what the folders and the records hold."""
    with Records(site) as records:
        studies = list(records.all_studies())
        report = Report(kills, handed, len(studies))
        report.problems += records.database.check_integrity()
        report.problems += records.verify_audit().problems
        for study in studies:
            if records.files.pixels_file(study.key) is None:
                report.problems.append(f"The files of study {study.key} are gone.")
    names = [study.content_sha256 for study in studies]
    if len(set(names)) != handed or len(names) != handed:
        report.problems.append(f"{handed} files came in, {len(set(names))} were answered, {len(names)} times.")
    done = [p for p in (out / "done").iterdir() if p.suffix != ".json"]
    results = list((out / "done").glob("*.json"))
    if len(done) != handed or len(results) != handed:
        report.problems.append(f"{handed} files came in, {len(done)} are in done/ with {len(results)} results.")
    left = [p.name for p in (out / "working").iterdir() if not p.name.startswith(".")]
    if left:
        report.problems.append(f"{len(left)} files are still in working/.")
    return report


def _drop(inbox: Path, number: int) -> None:
    noise = np.random.default_rng(number).integers(0, 255, (24, 24), np.uint8)
    picture = Image.fromarray(noise).resize((320, 320), Image.Resampling.BILINEAR)
    temporary = inbox / f".{number}.png"
    picture.save(temporary, format="PNG")
    temporary.rename(inbox / f"film-{number}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--files", type=int, help="how many come in; else two a kill")
    parser.add_argument("--receive", action="store_true", help="through the DICOM node")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or 2 * options.kills
        endure = endure_receive if options.receive else endure_watch
        report = endure(options.bundle, Path(folder), options.kills, files, options.seed)
    print(f"{report.kills} kills, {report.handed_over} files handed over, {report.answered} answered.")
    for problem in report.problems:
        print(problem)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())

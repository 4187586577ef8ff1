"""kill -9 at random moments, again and again, while files come in: is anything lost, done twice, or damaged?

    python benchmarks/kill_endurance.py [--bundle models/covidx-b1/bundle] [--kills 200] [--seed 0] [--only watch]

The bundle's golden pictures, each a little changed, are dropped into a hot folder, or sent to the DICOM node by DCMTK's
`storescu`, all the while. A kill comes at any moment of the start or of the work. After each, on a copy of the database
as the kill left it: SQLite's `integrity_check` and `foreign_key_check`, the audit chain with every row, no radiograph
recorded or answered twice, and everything that was acknowledged (the node's success status; the hot folder's line on
stdout) recorded or, for the node, in `working`. After the last one the runtime may finish; then every radiograph that
was handed over must be answered exactly once and lie filed with its result, each file as it came. Prints JSON and one
Markdown line a mode. Exit code 1 where anything is wrong. POSIX only; the node needs DCMTK.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_runtime.bundle import open_bundle
from edge_runtime.golden import load_golden
from edge_runtime.records import Records, audit
from edge_runtime.records.database import DATABASE_NAME

BUNDLE = Path(__file__).parents[1] / "models/covidx-b1/bundle"
WORK_SECONDS = 0.5
"""A kill comes at most so long after the moment at which an undisturbed run has answered its first file."""
STARTING = 0.25
"""The share of the kills that come before the runtime is ready; the others come while it works."""


@dataclass
class Report:
    """What was found: in all, and in what state the kills met the runtime."""

    mode: str
    kills: int
    seed: int
    handed_over: int = 0
    acknowledged: int = 0
    killed_while_starting: int = 0
    killed_with_work: int = 0
    killed_between_answers: int = 0
    answered: int = 0
    answers: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """A row of a table."""
        found = f"{len(self.problems)} problems" if self.problems else "nothing lost, nothing twice, database whole"
        kills = (
            f"{self.killed_while_starting} while starting, {self.killed_with_work} with files in work, "
            f"{self.killed_between_answers} after a first answer"
        )
        answered = f"{self.handed_over} handed over, {self.answered} answered in {self.answers} answers"
        return f"| {self.mode} | {self.kills} kills ({kills}) | {answered} | {found} | {self.seconds:.0f} s |"


@dataclass
class Place:
    """Where a run takes place, and the command that is killed."""

    folder: Path
    command: list[str]
    ready_word: bytes

    @property
    def out(self) -> Path:
        """What --out names."""
        return self.folder / "out"

    @property
    def site(self) -> Path:
        """What --site names."""
        return self.folder / "site"

    def in_work(self) -> list[Path]:
        """Files that are taken and not filed."""
        working = self.out / "working"
        return [p for p in working.iterdir() if not p.name.startswith(".")] if working.is_dir() else []

    def start(self) -> Running:
        """Run the command."""
        return Running(self.command, self.folder, self.ready_word)


class Running:
    """A runtime that was started, with what it says."""

    def __init__(self, command: list[str], folder: Path, ready_word: bytes) -> None:
        self._said, self._answers = folder / "stderr", folder / "stdout"
        self._word = ready_word
        with self._said.open("wb") as said, self._answers.open("wb") as answers:
            self.process = subprocess.Popen(command, stderr=said, stdout=answers)

    def ready(self) -> bool:
        """Whether it said that it is at work."""
        if self.process.poll() is not None:
            raise SystemExit(f"the runtime ended by itself: {self._said.read_text()}")
        return self._word in self._said.read_bytes()

    def wait_until_ready(self) -> float:
        """Return how long that took, in seconds."""
        begun = time.monotonic()
        while not self.ready():
            time.sleep(0.01)
        return time.monotonic() - begun

    def answered(self) -> set[str]:
        """The studies that it said to have answered and filed."""
        lines = self._answers.read_bytes().split(b"\n")[:-1]  # the last may be cut
        return {json.loads(line)["study"] for line in lines}

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it by SIGTERM: it finishes what is begun."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(120):
            raise SystemExit(f"the runtime ended with {self.process.returncode}: {self._said.read_text()}")


def endure_watch(
    bundle: Path, folder: Path, kills: int, files: int, seed: int = 0, on_kill: Callable[[int], None] = lambda _: None
) -> Report:
    """Kill ``edge-runtime watch`` while ``files`` pictures come in, then let it finish."""
    chance, report, begun = random.Random(seed), Report("watch", kills, seed), time.monotonic()
    inbox = folder / "inbox"
    inbox.mkdir(parents=True)
    pictures = Pictures(bundle)
    place = Place(folder, [], b"Watching")
    place.command = [
        *(sys.executable, "-m", "edge_runtime", "watch", str(bundle), str(inbox), "--out", str(place.out)),
        *("--site", str(place.site), "--settle", "0.05", "--interval", "0.05", "--json"),
    ]
    first, digest = drop(inbox, pictures, 0)
    hashes = {first: digest}
    times = Times(place, lambda: None)
    told = times.told
    for number in range(kills):
        running, was_ready = place.start(), False
        quota = files * (number + 1) // kills
        for is_ready in times.kills(running, chance):
            was_ready = is_ready
            if len(hashes) < quota:
                name, digest = drop(inbox, pictures, len(hashes))
                hashes[name] = digest
        running.kill()
        told |= running.answered()
        note_state(report, place, running, was_ready)
        after_a_kill(report, place, told, set())
        for name in hashes:  # each in one place: the inbox, working/, done/
            count = len(list(inbox.glob(name))) + len(list(place.out.glob(f"working/*-{name}")))
            count += len(list(place.out.glob(f"done/{Path(name).stem}.*.png")))
            if count != 1:
                report.problems.append(f"After kill {number + 1} {name} lies in {count} places.")
        on_kill(number + 1)
    while len(hashes) < files:  # what kills during the start left no time for
        name, digest = drop(inbox, pictures, len(hashes))
        hashes[name] = digest
    subprocess.run([*place.command, "--once"], check=True, capture_output=True, timeout=600)
    report.handed_over, report.acknowledged = files, len(told)
    at_the_end(report, place, set(hashes.values()), told, set())
    report.seconds = time.monotonic() - begun
    return report


def endure_receive(
    bundle: Path, folder: Path, kills: int, files: int, seed: int = 0, on_kill: Callable[[int], None] = lambda _: None
) -> Report:
    """Kill ``edge-runtime receive`` while ``files`` objects are sent to it; what was not acknowledged is sent again."""
    chance, report, begun = random.Random(seed), Report("receive", kills, seed), time.monotonic()
    films = folder / "films"
    films.mkdir(parents=True)
    pictures = Pictures(bundle)
    uids = {films / f"{number}.dcm": write_film(films / f"{number}.dcm", pictures[number]) for number in range(files)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = Place(folder, [], b"listens on")
    place.command = [
        *(sys.executable, "-m", "edge_runtime", "receive", str(bundle), "--out", str(place.out)),
        *("--site", str(place.site), "--port", str(port), "--allow", "STORESCU", "--json"),
    ]
    waiting = list(uids)
    times = Times(place, lambda: acknowledgements(send(port, waiting[:1])))
    told, acknowledged = times.told, {uids[waiting.pop(0)]}
    at_once = max(2, 2 * files // kills)
    for number in range(kills):
        running, sender, was_ready = place.start(), None, False
        for was_ready in times.kills(running, chance):
            if sender is None and waiting and was_ready:
                sender = send(port, waiting[:at_once])
        running.kill()
        told |= running.answered()
        if sender is not None:
            taken = acknowledgements(sender)
            acknowledged |= {uids[path] for path in taken}
            waiting = [path for path in waiting if path not in taken]
        note_state(report, place, running, was_ready)
        after_a_kill(report, place, told, acknowledged)
        on_kill(number + 1)
    running = place.start()
    running.wait_until_ready()
    if waiting:
        acknowledged |= {uids[path] for path in acknowledgements(send(port, waiting))}
    end = time.monotonic() + 600
    while place.in_work() and time.monotonic() < end:
        time.sleep(0.05)
    running.end()
    report.handed_over, report.acknowledged = files, len(acknowledged)
    if acknowledged != set(uids.values()):
        report.problems.append(f"{files - len(acknowledged)} objects were never acknowledged.")
    at_the_end(report, place, None, told, acknowledged)
    report.seconds = time.monotonic() - begun
    return report


class Times:
    """How long an undisturbed start takes until it is ready, and from then on until it has answered the first file."""

    def __init__(self, place: Place, hand_over: Callable[[], object]) -> None:
        running = place.start()
        self.ready = running.wait_until_ready()
        begun = time.monotonic()
        hand_over()
        while not running.answered():
            time.sleep(0.01)
        self.answered = time.monotonic() - begun
        running.end()
        self.told = running.answered()

    def kills(self, running: Running, chance: random.Random) -> Iterator[bool]:
        """Yield whether the runtime is ready, many times a second, until its end has come."""
        starting, share = chance.random() < STARTING, chance.random()
        begun = time.monotonic()
        ready: float | None = None
        while True:
            if ready is None and running.ready():
                ready = time.monotonic()
            if starting:
                due = begun + share * self.ready
            else:
                due = math.inf if ready is None else ready + share * (self.answered + WORK_SECONDS)
            if time.monotonic() >= due:
                return
            yield ready is not None
            time.sleep(0.005)


class Pictures:
    """As many different pictures as are asked for that the bundle answers: its golden ones, some pixels changed."""

    def __init__(self, bundle_path: Path) -> None:
        with open_bundle(bundle_path) as bundle:
            gated = bundle.manifest.gate is not None
            vectors = load_golden(bundle)
        self._base = [v.pixels for v in vectors if not gated or v.outputs["gate_score"].item() < 0.9]
        # what is smaller than the reader takes is enlarged
        self._base = [np.kron(p, np.ones((-(-224 // min(p.shape)),) * 2, np.uint8)) for p in self._base]
        if not self._base:
            raise SystemExit("no golden picture of this bundle passes its own gate: choose another --bundle")

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        picture = self._base[number % len(self._base)].copy()
        picture[-2:, -16:] = np.unpackbits(np.array([number], ">u4").view(np.uint8)).reshape(2, 16) * 40
        return picture


def drop(inbox: Path, pictures: Pictures, number: int) -> tuple[str, str]:
    temporary, name = inbox / f".{number}.png", f"film-{number}.png"
    Image.fromarray(pictures[number]).save(temporary, format="PNG")
    digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    temporary.rename(inbox / name)
    return name, digest


def write_film(path: Path, pixels: NDArray[np.uint8]) -> str:
    """Write a picture as a digital radiograph; return its SOP Instance UID."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    film.Modality, film.ViewPosition, film.BodyPartExamined = "DX", "PA", "CHEST"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 8, 8, 7
    film.PixelData = pixels.tobytes()
    film.save_as(path, enforce_file_format=True)
    return str(film.SOPInstanceUID)


def outside_program(name: str) -> str | None:
    """Find a program that is not this environment's: pynetdicom brings a ``storescu`` that exits 0 whatever happens."""
    own = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join(path for path in os.get_exec_path() if path != own))


def send(port: int, paths: list[Path]) -> subprocess.Popen[str]:
    command = [
        outside_program("storescu") or "storescu",
        "-v",
        "-aec",
        "EDGE_RUNTIME",
        "127.0.0.1",
        str(port),
        *map(str, paths),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def acknowledgements(sender: subprocess.Popen[str]) -> set[Path]:
    """Wait for storescu; return what the node said to have."""
    output, _ = sender.communicate(timeout=600)
    taken: set[Path] = set()
    path = None
    for line in output.splitlines():
        if found := re.search(r"Sending file: (.*)$", line):
            path = Path(found[1].strip())
        elif "Received Store Response (Success)" in line and path is not None:
            taken.add(path)
    return taken


def note_state(report: Report, place: Place, running: Running, was_ready: bool) -> None:
    report.killed_between_answers += bool(running.answered())
    report.killed_while_starting += not was_ready
    report.killed_with_work += bool(place.in_work())


def after_a_kill(report: Report, place: Place, told: set[str], acknowledged: set[str]) -> None:
    """Check the database as the kill left it: a copy, so that the runtime itself meets what the kill left."""
    if not (place.site / DATABASE_NAME).exists():
        if told or acknowledged:
            report.problems.append("The database is gone.")
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal"):
            if (place.site / name).exists():
                shutil.copy(place.site / name, Path(folder) / name)
        connection = sqlite3.connect(Path(folder) / DATABASE_NAME)
        connection.row_factory = sqlite3.Row
        try:
            check_records(report, connection, place, told, acknowledged)
        finally:
            connection.close()


def check_records(
    report: Report, connection: sqlite3.Connection, place: Place, told: set[str], acknowledged: set[str]
) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:  # killed at its very first start
        return
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    problems += [f"foreign key: {tuple(row)}" for row in connection.execute("PRAGMA foreign_key_check")]
    problems += audit.verify(connection).problems
    rows = connection.execute(
        "SELECT key, identity, sop_instance_uid, (SELECT count(*) FROM answers WHERE study = key) AS answers"
        " FROM studies"
    ).fetchall()
    for identity, count in Counter(row["identity"] for row in rows).items():
        if count > 1:
            problems.append(f"{identity} is recorded {count} times")
    problems += [f"study {r['key']} has {r['answers']} answers" for r in rows if r["answers"] != 1]
    problems += [f"study {key} was answered and is gone" for key in told - {row["key"] for row in rows}]
    missing = acknowledged - {row["sop_instance_uid"] for row in rows}
    if missing:
        missing -= {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in place.in_work()}
    problems += [f"object {uid} was acknowledged and is gone" for uid in missing]
    report.answered, report.answers = len(rows), sum(row["answers"] for row in rows)
    report.problems += problems


def at_the_end(report: Report, place: Place, contents: set[str] | None, told: set[str], acknowledged: set[str]) -> None:
    """Check the folders, the files and the records when all is dealt with."""
    after_a_kill(report, place, told, acknowledged)
    if place.in_work():
        report.problems.append(f"{len(place.in_work())} files are still in working/.")
    with Records(place.site) as records:
        studies = list(records.all_studies())
        report.problems += records.verify_audit(with_files=True).problems
    if len(studies) != report.handed_over:
        report.problems.append(f"{report.handed_over} were handed over, {len(studies)} are recorded.")
    if contents is not None and {study.content_sha256 for study in studies} != contents:
        report.problems.append("What is recorded is not what was handed over.")
    filed = {p for p in (place.out / "done").iterdir() if not p.name.startswith(".")}
    for study in studies:
        if study.answer["status"] != "ok":
            report.problems.append(f"{study.file_name} was not answered: {study.answer['message']}")
        mine = [p for p in filed if p.suffix != ".json" and f".{study.content_sha256[:8]}" in p.name]
        whole = [p for p in mine if hashlib.sha256(p.read_bytes()).hexdigest() == study.content_sha256]
        if not whole or any(p.with_suffix(".json") not in filed for p in whole):
            report.problems.append(f"{study.file_name} is not in done/ as it came, with its result.")
        if report.mode == "receive":
            for kind in ("report", "capture"):
                path = place.out / "results" / f"{study.key}.{kind}.dcm"
                if not path.exists() or not pydicom.dcmread(path).SOPInstanceUID:
                    report.problems.append(f"The {kind} of study {study.key} is missing.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--kills", type=int, default=200, help="of each mode")
    parser.add_argument("--files", type=int, help="how many come in, a mode; else two a kill")
    parser.add_argument("--only", choices=("watch", "receive"), help="one mode alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    modes = {"watch": endure_watch, "receive": endure_receive}
    reports = []
    for mode, endure in modes.items():
        if options.only not in (None, mode):
            continue

        def progress(kill: int, mode: str = mode) -> None:
            print(f"\r{mode}: {kill} of {options.kills} kills", end="", file=sys.stderr, flush=True)

        with tempfile.TemporaryDirectory() as folder:
            files = options.files or 2 * options.kills
            report = endure(options.bundle, Path(folder) / mode, options.kills, files, options.seed, progress)
        print(file=sys.stderr)
        reports.append(report)
        print(json.dumps(asdict(report)), flush=True)
    for report in reports:
        print(report.markdown())
    return 1 if any(report.problems for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())

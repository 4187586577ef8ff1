"""A running DICOM node, and senders to it, for the tests."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kill_endurance import outside_program
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.hot_folder import HotFolder
from edge_runtime.intake import Filed, Intake
from edge_runtime.predictor import Predictor
from edge_runtime.receiving.node import NodeSettings, StorageNode
from edge_runtime.receiving.results import write_results
from edge_runtime.records import Records
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.tiny_bundle import gradient


def tool(name: str) -> str:
    """A program of DCMTK's or dicom3tools'; skips where it is missing."""
    path = outside_program(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install dcmtk dicom3tools)")
    return path


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Station:
    """A node with its intake, running."""

    def __init__(self, out: Path, bundle_path: Path, **settings: Any) -> None:
        self.filed: list[Filed] = []
        self.refused: list[str] = []
        self.troubles: list[Exception] = []
        self._stop = threading.Event()
        self._bundle = open_bundle(bundle_path)
        self._predictor = Predictor.open(self._bundle)
        self.records = Records(out / "site")
        self._pool = DecodingPool(1)
        (out / "results").mkdir(mode=0o700, parents=True, exist_ok=True)
        self.intake = Intake(
            self._predictor, self._pool, self.records, out, "receive",
            lambda study, path, _: write_results(self.records, study, path, out / "results") and None,
        )  # fmt: skip
        folder = HotFolder(
            None, self.intake, interval=0.05, jobs=1, retry_seconds=0.05, on_filed=self.filed.append,
            on_trouble=lambda _, e: self.troubles.append(e),
        )  # fmt: skip
        given = NodeSettings(**{"port": 0, "allowed": ("STORESCU", "ECHOSCU", "TESTER"), **settings})
        self.node = StorageNode(given, self.intake, lambda _: folder.wake.set(), self.refused.append)
        self._thread = threading.Thread(target=folder.run, args=(self._stop,))

    def __enter__(self) -> Station:
        self.node.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.node.__exit__(None, None, None)
        self._stop.set()
        self._thread.join()
        for part in (self._pool, self.records, self._predictor, self._bundle):
            part.close()


def films(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        write_dicom(
            folder / f"{number}.dcm", PatientID="4711", PatientName="Doe^Jane", StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.4", StudyDate="20240102", PixelData=gradient(320, 288, number).tobytes(),
        )  # fmt: skip
    return sorted(folder.iterdir())


def store(station: Station, *paths: Path, title: str = "STORESCU", called: str = "EDGE_RUNTIME") -> int:
    command = [tool("storescu"), "-aet", title, "-aec", called, "127.0.0.1", str(station.node.port), *map(str, paths)]
    return subprocess.run(command, check=False, capture_output=True, timeout=120).returncode

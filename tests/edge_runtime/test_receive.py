"""The DICOM node against DCMTK's tools and pynetdicom, and its results against dicom3tools' validator."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (the extra node)")
pytest.importorskip("highdicom", reason="highdicom is not installed (the extra node)")

from benchmarks.kill_endurance import endure_receive
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import UsageError
from edge_runtime.hot_folder import HotFolder
from edge_runtime.intake import Filed, Intake
from edge_runtime.predictor import Predictor
from edge_runtime.receiving.node import NodeError, NodeSettings, StorageNode
from edge_runtime.receiving.peer import Peer
from edge_runtime.receiving.results import write_results
from edge_runtime.receiving.sending import ResultSender
from edge_runtime.records import Records
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.tiny_bundle import gradient


def tool(name: str) -> str:
    path = shutil.which(name)
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
            None, self.intake, interval=0.05, jobs=1, on_filed=self.filed.append,
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


@pytest.fixture
def station(tiny_bundle: Path, tmp_path: Path) -> Iterator[Station]:
    with Station(tmp_path / "node", tiny_bundle) as running:
        yield running


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


def test_dcmtk_sends_and_everything_is_answered_once(station: Station, tmp_path: Path) -> None:
    sent = films(tmp_path / "films", 3)
    echo = [tool("echoscu"), "-aet", "ECHOSCU", "-aec", "EDGE_RUNTIME", "127.0.0.1", str(station.node.port)]
    assert subprocess.run(echo, check=False, timeout=60).returncode == 0
    assert store(station, *sent) == 0
    assert store(station, sent[0]) == 0  # once more, as a PACS does
    until(lambda: len(station.filed) == 4)
    assert station.records.studies().total == 3
    assert sum(item.again for item in station.filed) == 1
    names = [p.name for p in (tmp_path / "node" / "done").iterdir()]
    assert len([n for n in names if n.endswith(".json")]) == len(names) / 2
    assert not list((tmp_path / "node" / "incoming").iterdir())
    uids = {pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in sent}
    assert {s.facts.sop_instance_uid for s in station.records.all_studies()} == uids
    assert station.troubles == []


def test_strangers_are_turned_away(station: Station, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    assert store(station, film, title="STRANGER") != 0
    assert store(station, film, called="ANOTHER") != 0
    assert len(station.refused) == 2
    assert "STRANGER" in station.refused[0]
    assert station.records.studies().total == 0


def test_without_a_list_nobody_comes_in(tiny_bundle: Path, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    with Station(tmp_path / "node", tiny_bundle, allowed=()) as station:
        assert store(station, film) != 0


def test_a_full_disk_and_a_huge_object_are_refused_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    with Station(tmp_path / "full", tiny_bundle, min_free_bytes=2**60) as station:
        assert store(station, film) != 0
        assert "nearly full" in station.refused[0]
        assert station.intake.waiting() == []
    with Station(tmp_path / "huge", tiny_bundle, max_object_bytes=20_000) as station:
        assert store(station, film) != 0
        assert any("larger than is allowed" in text for text in station.refused)
        assert station.records.studies().total == 0


def test_the_results_are_valid_and_say_what_they_are(station: Station, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    study = station.filed[0].study
    results = tmp_path / "node" / "results"
    report = pydicom.dcmread(results / f"{study.key}.report.dcm")
    capture = pydicom.dcmread(results / f"{study.key}.capture.dcm")
    source = pydicom.dcmread(film)
    for made in (report, capture):
        assert made.StudyInstanceUID == "1.2.3"
        assert made.PatientID == "4711"
        assert made.SeriesInstanceUID not in ("1.2.3.4", source.SOPInstanceUID)
        assert "NOT FOR CLINICAL USE" in made.SeriesDescription
    assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "PARTIAL")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    text = str(report)
    for label, probability in study.answer["probabilities"].items():
        assert f"Probability of {label}" in text
        assert f"{round(probability, 4):g}" in text
    assert source.SOPInstanceUID in text
    assert (capture.PhotometricInterpretation, capture.BurnedInAnnotation) == ("RGB", "NO")
    assert capture.pixel_array.shape[2] == 3
    assert int(capture.pixel_array.max()) > 200
    # a second time: the same objects, not others
    before = {p.name: pydicom.dcmread(p).SOPInstanceUID for p in results.iterdir()}
    for path in results.iterdir():
        path.unlink()
    write_results(station.records, study, station.filed[0].path, results)
    assert {p.name: pydicom.dcmread(p).SOPInstanceUID for p in results.iterdir()} == before


def test_dicom3tools_finds_no_error_in_the_results(station: Station, tmp_path: Path) -> None:
    validator = tool("dciodvfy")
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    for path in (tmp_path / "node" / "results").iterdir():
        said = subprocess.run([validator, "-new", str(path)], check=False, capture_output=True, text=True, timeout=60)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name


def test_results_reach_a_peer_when_it_is_there(station: Station, tmp_path: Path) -> None:
    from pynetdicom import AE, evt

    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    got: list[str] = []

    def take(event: Any) -> int:
        got.append(str(event.request.AffectedSOPClassUID))
        return 0

    archive = AE(ae_title="ARCHIVE")
    archive.add_supported_context("1.2.840.10008.5.1.4.1.1.7")
    archive.add_supported_context("1.2.840.10008.5.1.4.1.1.88.33")
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    port = server.socket.getsockname()[1]
    server.shutdown()
    troubles: list[str] = []
    sender = ResultSender(
        Peer("ARCHIVE", "127.0.0.1", port), "TESTER", tmp_path / "outgoing", on_trouble=troubles.append
    )
    for result in sorted((tmp_path / "node" / "results").iterdir()):
        sender.queue(result)
    assert sender.send_waiting() == 2  # the peer is away: both stay
    assert "does not answer" in troubles[0]
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    try:
        assert sender.send_waiting() == 0
    finally:
        server.shutdown()
    assert sorted(got) == ["1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.33"]


def test_kills_lose_nothing_that_was_acknowledged(tiny_bundle: Path, tmp_path: Path) -> None:
    report = endure_receive(tiny_bundle, tmp_path / "endurance", kills=2, files=6, seed=5)
    assert report.problems == []
    assert report.answered == 6


def test_settings_are_checked(tiny_bundle: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    assert Peer.parse("PACS@[::1]:104") == Peer("PACS", "::1", 104)
    for wrong in ("PACS", "PACS@host", "PACS@host:0", "A title that is too long@host:104"):
        with pytest.raises(UsageError):
            Peer.parse(wrong)
    assert run_command("receive", tiny_bundle, "--out", tmp_path / "out").exit_code == 2
    with Station(tmp_path / "a", tiny_bundle) as station, pytest.raises(NodeError, match="cannot listen"):
        Station(tmp_path / "b", tiny_bundle, port=station.node.port).__enter__()

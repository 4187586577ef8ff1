"""The DICOM node against DCMTK's tools and pynetdicom, and its results against dicom3tools' validator."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (the extra node)")
pytest.importorskip("highdicom", reason="highdicom is not installed (the extra node)")

from benchmarks.kill_endurance import endure_receive
from edge_runtime.answer import answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import UsageError
from edge_runtime.hot_folder import HotFolder
from edge_runtime.intake import Filed, Intake
from edge_runtime.manifest import Conformal
from edge_runtime.predictor import Predictor
from edge_runtime.receiving.node import NodeError, NodeSettings, StorageNode
from edge_runtime.receiving.peer import Peer
from edge_runtime.receiving.results import _picture, write_results
from edge_runtime.receiving.sending import ResultSender
from edge_runtime.records import Records
from tests.edge_runtime.conftest import stop_decoders, write_dicom
from tests.edge_runtime.tiny_bundle import LABELS, build_tiny_bundle, gradient


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


@pytest.mark.parametrize(
    ("threshold", "possible", "sentence"),
    [
        (0.0, ["normal", "pneumonia", "COVID-19"], "Refer to a reader: normal, pneumonia and COVID-19 cannot be told"),
        (1.0, ["None of the classes"], "Refer to a reader: the radiograph is like none of the classes."),
        (None, None, None),
    ],
)
def test_a_referral_is_in_both_results(
    tiny_bundle: Path, tmp_path: Path, threshold: float | None, possible: list[str] | None, sentence: str | None
) -> None:
    [film] = films(tmp_path / "films", 1)
    if threshold is None:  # what the most probable class alone reaches
        with open_bundle(tiny_bundle) as opened, Predictor.open(opened) as predictor:
            *_, second, first = sorted((answer_file(predictor, film).answer.probabilities or {}).values())
        threshold = (first + second) / 2
    thresholds = dict.fromkeys(LABELS, threshold)
    calibrated = {"split": "val", "radiographs": dict.fromkeys(LABELS, 20), "data_sha256": "0" * 64}
    conformal = Conformal(coverage=0.9, thresholds=thresholds, **calibrated)
    bundle = build_tiny_bundle(tmp_path / "bundle", conformal=conformal)
    with Station(tmp_path / "node", bundle) as station:
        assert store(station, film) == 0
        until(lambda: len(station.filed) == 1)
    assert station.troubles == []
    study = station.filed[0].study
    results = tmp_path / "node" / "results"
    report = pydicom.dcmread(results / f"{study.key}.report.dcm")
    capture = pydicom.dcmread(results / f"{study.key}.capture.dcm")
    said = items(report)
    if possible is None:  # the label alone is left
        assert said["Refer to a reader"] == ["No"]
        assert said["Class that cannot be ruled out"] == [study.answer["label"]] == [study.word]
        assert not capture.ImageComments.startswith("Refer")
    else:
        assert sentence is not None
        assert said["Refer to a reader"] == ["Yes"]
        assert said["Class that cannot be ruled out"] == possible
        assert any(text.startswith(sentence) for text in said["Comment"])
        assert capture.ImageComments.startswith(sentence)
        assert study.word.startswith("refer to a reader: ")
    validator = tool("dciodvfy")
    for path in results.iterdir():
        output = subprocess.run([validator, "-new", str(path)], check=False, capture_output=True, text=True, timeout=60)
        errors = [line for line in (output.stdout + output.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name


def items(report: pydicom.Dataset) -> dict[str, list[str]]:
    """Every text and code of a structured report by its name."""
    found: dict[str, list[str]] = {}

    def walk(part: pydicom.Dataset) -> None:
        for item in part.get("ContentSequence", ()):
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            if item.ValueType == "TEXT":
                found.setdefault(name, []).append(item.TextValue)
            elif item.ValueType == "CODE":
                found.setdefault(name, []).append(item.ConceptCodeSequence[0].CodeMeaning)
            walk(item)

    walk(report)
    return found


def test_the_words_of_the_capture_fit_into_the_picture() -> None:
    small = np.full((200, 180), 90, np.uint8)
    heatmap = np.zeros((4, 4), np.float32)
    short, long = (_picture(small, heatmap, ("word " * count, "heat map")) for count in (2, 60))
    assert (short[:28].max() > 100, long[:28].max() > 100) == (True, True)  # it is written
    assert long[:, -6:].max() == 0  # and not cut off at the right, but broken
    assert len(long) - len(short) >= 3 * 28


def test_a_header_that_no_result_can_be_made_of_costs_the_result_alone(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise ValueError("Doe^Jane is no name")

    monkeypatch.setattr("edge_runtime.receiving.results.build_report", refuse)
    sent = films(tmp_path / "films", 2)
    assert store(station, *sent, sent[0]) == 0
    until(lambda: len(station.filed) == 3)
    assert station.troubles == []
    assert station.intake.waiting() == []
    assert [item.path.parent.name for item in station.filed] == ["done"] * 3
    assert all("Doe^Jane is no name" in str(item.problem) for item in station.filed)
    key = station.filed[0].study.key
    assert json.loads(station.filed[0].result.read_text())["result_problem"] == station.filed[0].problem
    [note] = station.records.notes(key)  # once, though the first film came twice
    assert "No result was written" in note.text
    [entry] = [e for e in station.records.audit_entries(key) if e.action == "result not written"]
    assert "Doe" not in str(entry)


def test_an_odd_header_does_not_stop_the_node(station: Station, tmp_path: Path) -> None:
    odd = tmp_path / "odd.dcm"
    with pydicom.config.disable_value_validation():
        write_dicom(
            odd, PatientID="x" * 200, PatientName="a" * 300, StudyInstanceUID="1.2.abc", PatientSex="unknown",
            AccessionNumber="y" * 40, StudyDate="yesterday",
        )  # fmt: skip
    [plain] = films(tmp_path / "films", 1)
    assert store(station, odd, plain) == 0
    until(lambda: len(station.filed) == 2)
    assert [item.study.answer["status"] for item in station.filed] == ["ok", "ok"]
    assert station.intake.waiting() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_decoders_that_hang_or_die_leave_the_node_running(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = films(tmp_path / "films", 4)
    names = iter(("good", "hang", "die", "good"))
    name = staticmethod(lambda _: f"{uuid.uuid4().hex[:12]}-{next(names)}")
    monkeypatch.setattr(Intake, "working_name", name)
    stop_decoders(monkeypatch, station._pool)
    assert store(station, *sent) == 0
    until(lambda: len(station.filed) == 4)
    reasons = sorted(item.study.answer["reason"] or "answered" for item in station.filed)
    assert reasons == ["answered", "answered", "decoder_died", "decoder_timed_out"]
    assert station.intake.waiting() == []
    monkeypatch.undo()
    station._pool._seconds = 30.0
    write_dicom(tmp_path / "later.dcm", PixelData=gradient(320, 288, 9).tobytes())
    assert store(station, tmp_path / "later.dcm") == 0
    until(lambda: len(station.filed) == 5)
    assert station.filed[4].study.answer["status"] == "ok"


def test_what_is_not_safe_on_disk_is_not_acknowledged(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    [film] = films(tmp_path / "films", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert store(station, film) != 0
    assert "could not be written: Input/output error" in station.refused[0]
    assert store(station, film) == 0
    until(lambda: len(station.filed) >= 1)


def test_an_empty_result_is_written_anew(station: Station, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    filed = station.filed[0]
    report = tmp_path / "node" / "results" / f"{filed.study.key}.report.dcm"
    report.write_bytes(b"")
    write_results(station.records, filed.study, filed.path, report.parent)
    assert pydicom.dcmread(report).Modality == "SR"
    # a newer answer gets objects of its own
    before = pydicom.dcmread(report).SOPInstanceUID
    outcome = answer_file(station._predictor, film)
    newer = station.records.add_answer(filed.study.key, outcome, station._predictor.manifest, actor="Ada")
    write_results(station.records, newer, filed.path, report.parent)
    assert pydicom.dcmread(report).SOPInstanceUID != before


class Archive:
    """A peer that takes results, or says what it is told to say."""

    def __init__(self, say: Callable[[str], int] = lambda _: 0) -> None:
        from pynetdicom import AE, evt

        self.got: list[tuple[str, str]] = []
        self._say = say
        self._entity = AE(ae_title="ARCHIVE")
        for context in ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.33"):
            self._entity.add_supported_context(context)
        self._handlers = [(evt.EVT_C_STORE, self._take)]
        self.peer = Peer("ARCHIVE", "127.0.0.1", 0)

    def _take(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self._say(uid)
        if status == 0:
            self.got.append((str(event.request.AffectedSOPClassUID), uid))
        return status

    def __enter__(self) -> Archive:
        address = ("127.0.0.1", self.peer.port)
        self._server = self._entity.start_server(address, block=False, evt_handlers=self._handlers)
        self.peer = Peer("ARCHIVE", "127.0.0.1", self._server.socket.getsockname()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


def captures(folder: Path, count: int) -> list[Path]:
    """Small secondary captures, as results."""
    folder.mkdir()
    for number in range(count):
        path = folder / f"{number:03}.capture.dcm"
        write_dicom(path, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SOPInstanceUID=f"1.2.3.{number}")
    return sorted(folder.iterdir())


def test_results_reach_a_peer_when_it_is_there(station: Station, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    assert store(station, film) == 0
    until(lambda: len(station.filed) == 1)
    archive = Archive()
    with archive:  # its port is known, and then it is away
        pass
    troubles: list[str] = []
    sender = ResultSender(archive.peer, "TESTER", tmp_path / "outgoing", on_trouble=troubles.append)
    for result in sorted((tmp_path / "node" / "results").iterdir()):
        sender.queue(result)
    assert sender.send_waiting() == 2  # the peer is away: both stay
    assert "does not answer" in troubles[0]
    with archive:
        assert sender.send_waiting() == 0
    assert sorted(c for c, _ in archive.got) == ["1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.33"]


def test_bad_and_refused_results_do_not_hold_up_the_others(tmp_path: Path) -> None:
    results = captures(tmp_path / "made", 60)
    refused = {f"1.2.3.{number}" for number in range(52)}  # more than go over one association, and the first in order
    troubles: list[str] = []
    outgoing = tmp_path / "outgoing"
    with Archive(lambda uid: 0xA900 if uid in refused else 0) as archive:
        sender = ResultSender(
            archive.peer, "TESTER", outgoing, retry_seconds=0, attempts=2, on_trouble=troubles.append
        )  # fmt: skip
        for result in results:
            sender.queue(result)
        (outgoing / "000.empty.dcm").write_bytes(b"")
        (outgoing / "000.cut.dcm").write_bytes(results[0].read_bytes()[:300])
        assert sender.send_waiting() == 52
        assert len(archive.got) == 8  # at once, in one go
        assert sender.send_waiting() == 0
        aside = sorted(p.name for p in (outgoing / "rejected").glob("*.dcm"))
        assert len(aside) == 54
        assert "no readable DICOM file" in (outgoing / "rejected" / "000.empty.dcm.txt").read_text()
        assert "0xA900" in (outgoing / "rejected" / "000.capture.dcm.txt").read_text()
        assert any("is set aside" in text for text in troubles)
        refused.clear()
        (outgoing / "rejected" / "000.capture.dcm").rename(outgoing / "000.capture.dcm")
        assert sender.send_waiting() == 0
        assert len(archive.got) == 9


def test_a_peer_without_room_keeps_everything_waiting(tmp_path: Path) -> None:
    full = True
    with Archive(lambda _: 0xA700 if full else 0) as archive:
        sender = ResultSender(archive.peer, "TESTER", tmp_path / "outgoing", retry_seconds=0, attempts=1)
        for result in captures(tmp_path / "made", 3):
            sender.queue(result)
        for _ in range(4):
            assert sender.send_waiting() == 3
        full = False
        assert sender.send_waiting() == 0


def test_a_backlog_goes_out_at_once(tmp_path: Path) -> None:
    results = captures(tmp_path / "made", 120)
    with Archive() as archive:
        sender = ResultSender(archive.peer, "TESTER", tmp_path / "outgoing")
        for result in results:
            sender.queue(result)
        with sender:
            until(lambda: len(archive.got) == 120)
            sender.queue(results[0])
            until(lambda: len(archive.got) == 121, 10)


def test_deleting_a_study_removes_its_results_and_what_waits_to_be_sent(tiny_bundle: Path, tmp_path: Path) -> None:
    [film] = films(tmp_path / "films", 1)
    out, site = tmp_path / "out", tmp_path / "site"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "edge_runtime", "receive", str(tiny_bundle), "--out", str(out), "--site", str(site)),
        *("--port", str(port), "--allow", "STORESCU", "--send-to", "NOBODY@127.0.0.1:1"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        assert node.stdout is not None
        while "listens on" not in (line := node.stderr.readline()):
            assert line, "the node did not start"
        send = [tool("storescu"), "-aet", "STORESCU", "-aec", "EDGE_RUNTIME", "127.0.0.1", str(port), str(film)]
        assert subprocess.run(send, check=False, timeout=60).returncode == 0
        assert ": " in node.stdout.readline()
        node.terminate()
        node.communicate(timeout=60)
    patient = [p for p in out.rglob("*") if p.is_file() and b"4711" in p.read_bytes()]
    assert sorted(p.parent.name for p in patient) == ["done", "outgoing", "outgoing", "results", "results"]
    with Records(site) as records:
        [study] = records.all_studies()
        assert records.delete(study.key, actor="Ada", reason="asked for").left == ()
    assert [p for p in out.rglob("*") if p.is_file()] == []


def test_kills_lose_nothing_that_was_acknowledged(tiny_bundle: Path, tmp_path: Path) -> None:
    tool("storescu")
    report = endure_receive(tiny_bundle, tmp_path / "endurance", kills=3, files=9, seed=5)
    assert report.problems == []
    assert (report.acknowledged, report.answered, report.answers) == (9, 9, 9)


def test_settings_are_checked(tiny_bundle: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    assert Peer.parse("PACS@[::1]:104") == Peer("PACS", "::1", 104)
    for wrong in ("PACS", "PACS@host", "PACS@host:0", "A title that is too long@host:104"):
        with pytest.raises(UsageError):
            Peer.parse(wrong)
    assert run_command("receive", tiny_bundle, "--out", tmp_path / "out").exit_code == 2
    with Station(tmp_path / "a", tiny_bundle) as station, pytest.raises(NodeError, match="cannot listen"):
        Station(tmp_path / "b", tiny_bundle, port=station.node.port).__enter__()

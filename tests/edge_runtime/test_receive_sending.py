"""Results on their way to a peer: away, full, slow, or refusing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (the extra node)")
pytest.importorskip("highdicom", reason="highdicom is not installed (the extra node)")

from edge_runtime.receiving.peer import Peer
from edge_runtime.receiving.sending import ResultSender
from edge_runtime.records import Records
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.station import Station, films, store, tool, until


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

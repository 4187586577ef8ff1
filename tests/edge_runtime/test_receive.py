"""The DICOM node against DCMTK's tools and pynetdicom."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (the extra node)")
pytest.importorskip("highdicom", reason="highdicom is not installed (the extra node)")

from benchmarks.kill_endurance import endure_receive
from edge_runtime.errors import UsageError
from edge_runtime.intake import Intake
from edge_runtime.receiving.node import NodeError
from edge_runtime.receiving.peer import Peer
from tests.edge_runtime.conftest import stop_decoders, write_dicom
from tests.edge_runtime.station import Station, films, store, tool, until
from tests.edge_runtime.tiny_bundle import gradient


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

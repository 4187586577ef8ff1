"""The hot folder: whole files only, each once, across restarts and kills."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from benchmarks.kill_endurance import endure_watch
from edge_runtime import hot_folder as hot_folder_module
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import BackendError
from edge_runtime.hot_folder import HotFolder
from edge_runtime.intake import Intake
from edge_runtime.predictor import Prediction, Predictor
from edge_runtime.records import Records, RecordsError
from tests.edge_runtime.tiny_bundle import gradient

Run = Callable[..., Result]


@pytest.fixture
def intake(tiny_bundle: Path, tmp_path: Path) -> Iterator[Intake]:
    with (
        open_bundle(tiny_bundle) as bundle,
        Predictor.open(bundle) as predictor,
        Records(tmp_path / "site") as records,
        DecodingPool(1) as pool,
    ):
        yield Intake(predictor, pool, records, tmp_path / "out", "watch")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_files_are_answered_filed_and_remembered(
    tiny_bundle: Path, inbox: Path, tmp_path: Path, chest_dicom: Path, chest_png: Path, run_command: Run
) -> None:
    (inbox / "ward 3").mkdir()
    shutil.copy(chest_dicom, inbox / "ward 3")
    shutil.copy(chest_png, inbox)
    shutil.copy(chest_png, inbox / "the same again.png")
    (inbox / "letter.txt").write_text("Dear colleague")
    (inbox / "half.dcm.part").write_bytes(b"still coming")
    out = tmp_path / "out"
    command = ("watch", tiny_bundle, inbox, "--out", out, "--once", "--settle", 0, "--interval", 0.05)
    result = run_command(*command)
    assert result.exit_code == 0, result.stderr
    done = files(out / "done")
    assert len(done) == 6
    assert all(name.endswith((".png", ".dcm", ".json")) for name in done)
    assert [name.split(".")[0] for name in files(out / "refused")] == ["letter", "letter"]
    assert files(out / "failed") == files(out / "working") == []
    assert sorted(p.name for p in inbox.rglob("*") if p.is_file()) == ["half.dcm.part"]
    answer = json.loads(next((out / "done").glob("chest.*.json")).read_text())
    assert (answer["status"], answer["label"] in ("normal", "pneumonia", "COVID-19")) == ("ok", True)
    assert "Not a medical device" in answer["disclaimer"]
    with Records(out / "site") as records:
        assert records.studies().total == 3
        shutil.copy(chest_png, inbox / "tomorrow.png")
        assert "answered before" in run_command(*command).stdout
        assert records.studies().total == 3
        assert records.verify_audit().problems == ()


def test_a_file_that_grows_is_left_until_it_is_whole(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(hot_folder_module, "monotonic", lambda: now)
    folder = HotFolder(inbox, intake, settle=2.0)
    content = chest_png.read_bytes()
    for count in range(1, 6):
        (inbox / "film.png").write_bytes(content[: len(content) * count // 5])
        assert folder._take(10) == []
        now += 1.9
    assert folder._take(10) == []
    now += 0.2
    [path] = folder._take(10)
    assert path.read_bytes() == content


def test_what_a_killed_run_left_is_finished_without_a_second_study(
    intake: Intake, inbox: Path, chest_png: Path, tmp_path: Path
) -> None:
    first = intake.take(Path(shutil.copy(chest_png, inbox / "film.png")))
    study = intake.deal_with(first).study
    (intake.out / "done" / first.name).unlink(missing_ok=True)
    for path in (intake.out / "done").iterdir():  # as if killed after the records, before the filing
        path.unlink()
    shutil.copy(chest_png, intake.working / "0123456789ab-film.png")
    HotFolder(inbox, intake, settle=0, interval=0.01).run(threading.Event(), once=True)
    assert len(files(intake.out / "done")) == 2
    assert intake._records.studies().total == 1
    assert json.loads(next((intake.out / "done").glob("*.json")).read_text())["study"] == study.key


def test_an_error_is_tried_again_when_the_file_comes_back(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Prediction:
        raise BackendError("the backend broke down")

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", broken)
        failed = intake.deal_with(intake.take(Path(shutil.copy(chest_png, inbox))))
    assert failed.path.parent.name == "failed"
    again = intake.deal_with(intake.take(Path(shutil.copy(failed.path, inbox))))
    assert again.path.parent.name == "done"
    assert again.study.key == failed.study.key
    assert again.study.answer["status"] == "ok"


def test_a_full_disk_loses_nothing(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(chest_png, inbox / "film.png")
    troubles: list[Exception] = []
    stop = threading.Event()

    def full(*_: object, **__: object) -> None:
        raise RecordsError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "add", full)
        folder = HotFolder(
            inbox, intake, settle=0, interval=0.01, on_trouble=lambda _, e: (troubles.append(e), stop.set())
        )
        folder.run(stop)
    assert "disk is full" in str(troubles[0])
    assert len(intake.waiting()) == 1
    HotFolder(inbox, intake, settle=0, interval=0.01).run(threading.Event(), once=True)
    assert len(files(intake.out / "done")) == 2


def test_names_cannot_leave_their_folder(intake: Intake, inbox: Path) -> None:
    Image.fromarray(gradient(200, 200)).save(inbox / "a.png")
    strange = inbox / "..%2f..\\$(reboot)\n\x1b[31m.png"
    (inbox / "a.png").rename(strange)
    filed = intake.deal_with(intake.take(strange))
    assert filed.path.parent == intake.out / "done"
    assert filed.path.name.isprintable()


def test_kills_lose_nothing_and_repeat_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    report = endure_watch(tiny_bundle, tmp_path / "endurance", kills=4, files=12, seed=3)
    assert report.problems == []
    assert report.answered == 12

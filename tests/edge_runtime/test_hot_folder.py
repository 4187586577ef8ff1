"""The hot folder: whole files only, each once, across restarts and kills."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from benchmarks.kill_endurance import Place, Report, after_a_kill, at_the_end, endure_watch
from edge_runtime import hot_folder as hot_folder_module
from edge_runtime.answer import Outcome, answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import BackendError
from edge_runtime.hot_folder import HotFolder
from edge_runtime.intake import Filed, Intake, NotYet
from edge_runtime.predictor import Prediction, Predictor
from edge_runtime.records import Records, RecordsError, Study
from edge_runtime.records.on_disk import sync_file, sync_folder, write_file
from tests.edge_runtime.conftest import stop_decoders, write_dicom
from tests.edge_runtime.tiny_bundle import build_tiny_bundle, gradient

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
    site = tmp_path / "site"
    command = ("watch", tiny_bundle, inbox, "--out", out, "--site", site, "--once", "--settle", 0, "--interval", 0.05)
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
    with Records(site) as records:
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


def broken(*_: object) -> Prediction:
    raise BackendError("the backend broke down")


def run_once(inbox: Path, intake: Intake, **options: Any) -> list[Path]:
    folder = HotFolder(inbox, intake, settle=0, interval=0.01, **{"retry_seconds": 0.01, **options})
    return folder.run(threading.Event(), once=True)


def test_an_error_is_tried_a_few_times_and_again_when_the_file_comes_back(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def count(*_: object) -> Prediction:
        nonlocal calls
        calls += 1
        return broken()

    shutil.copy(chest_png, inbox / "film.png")
    filed: list[Filed] = []
    troubles: list[Exception] = []
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", count)
        run_once(inbox, intake, on_filed=filed.append, on_trouble=lambda _, e: troubles.append(e))
    assert (calls, [type(trouble) for trouble in troubles]) == (3, [NotYet, NotYet])
    [failed] = filed
    assert (failed.path.parent.name, failed.study.answer["reason"]) == ("failed", "backend_failed")
    assert actions(intake, failed.study.key).count("study answered") == 1
    again = intake.deal_with(intake.take(Path(shutil.copy(failed.path, inbox))))
    assert (again.path.parent.name, again.again) == ("done", False)
    assert again.study.key == failed.study.key
    assert again.study.answer["status"] == "ok"
    assert intake._records.verify_audit(with_files=True).problems == ()


def actions(intake: Intake, key: str) -> list[str]:
    return [entry.action for entry in intake._records.audit_entries(key)]


def test_an_error_that_passes_is_never_an_answer(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = intake.take(Path(shutil.copy(chest_png, inbox)))
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", broken)
        with pytest.raises(NotYet, match="attempt 1 of 3"):
            intake.deal_with(path)
    assert path.exists()
    filed = intake.deal_with(path)
    assert filed.study.answer["status"] == "ok"
    assert actions(intake, filed.study.key).count("study answered") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_decoders_that_hang_or_die_cost_their_own_files_alone(
    intake: Intake, inbox: Path, chest_dicom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_decoders(monkeypatch, intake._pool)
    for name in ("a", "hang", "m", "die", "z"):
        write_dicom(inbox / f"{name}.dcm", PixelData=gradient(320, 288, ord(name[0])).tobytes())
    run_once(inbox, intake, jobs=1)
    assert [name.split(".")[0] for name in files(intake.out / "done") if name.endswith(".dcm")] == ["a", "m", "z"]
    reasons = {p.name.split(".")[0]: json.loads(p.read_text())["reason"] for p in intake.out.glob("failed/*.json")}
    assert reasons == {"hang": "decoder_timed_out", "die": "decoder_died"}
    assert intake.waiting() == []
    # what could not be read before has its pixels and its header when it comes back
    monkeypatch.undo()
    intake._pool._seconds = 30.0
    [failed] = intake.out.glob("failed/hang.*.dcm")
    filed = intake.deal_with(intake.take(Path(shutil.copy(failed, inbox))))
    assert (filed.study.answer["status"], filed.study.source_format, filed.study.facts.view) == ("ok", "DICOM", "PA")
    assert intake._records.files.pixels(filed.study.key) is not None
    assert intake._records.verify_audit(with_files=True).problems == ()


def test_a_fault_of_our_own_does_not_keep_a_file_for_ever(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(chest_png, inbox / "film.png")
    add = Records.add

    def fail(self: Records, outcome: Outcome, *arguments: Any, **fields: Any) -> Study:
        if outcome.radiograph is not None:
            raise ValueError("a header that cannot be stored")
        return add(self, outcome, *arguments, **fields)

    monkeypatch.setattr(Records, "add", fail)
    run_once(inbox, intake)
    [result] = intake.out.glob("failed/*.json")
    answer = json.loads(result.read_text())
    assert (answer["reason"], "cannot be stored" in answer["message"]) == ("internal_error", True)
    assert intake.waiting() == []


def test_another_bundle_answers_again_where_that_is_asked_for(
    intake: Intake, inbox: Path, chest_png: Path, tmp_path: Path
) -> None:
    first = intake.deal_with(intake.take(Path(shutil.copy(chest_png, inbox))))
    records, pool = intake._records, intake._pool
    newer = build_tiny_bundle(tmp_path / "newer", name="newer")
    with open_bundle(newer) as bundle, Predictor.open(bundle) as predictor:
        same = Intake(predictor, pool, records, intake.out, "watch")
        assert same.deal_with(same.take(Path(shutil.copy(chest_png, inbox)))).study.model == "tiny"
        anew = Intake(predictor, pool, records, intake.out, "watch", again=True)
        second = anew.deal_with(anew.take(Path(shutil.copy(chest_png, inbox))))
        assert (second.study.key, second.study.model, second.again) == (first.study.key, "newer", False)
        third = anew.deal_with(anew.take(Path(shutil.copy(chest_png, inbox))))
        assert third.again
    assert actions(intake, first.study.key).count("study answered") == 2
    assert records.verify_audit().problems == ()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_what_is_taken_is_private(intake: Intake, inbox: Path, chest_png: Path, tmp_path: Path) -> None:
    film = Path(shutil.copy(chest_png, inbox / "film.png"))
    film.chmod(0o664)
    filed = intake.deal_with(intake.take(film))
    for path in (filed.path, filed.result):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (intake.out / "done").chmod(0o755)
    Intake(intake._predictor, intake._pool, intake._records, intake.out, "watch")
    assert stat.S_IMODE((intake.out / "done").stat().st_mode) == 0o700


def test_deleting_a_study_removes_what_was_filed_of_it(intake: Intake, inbox: Path, chest_png: Path) -> None:
    first = intake.deal_with(intake.take(Path(shutil.copy(chest_png, inbox / "Doe Jane.png"))))
    second = intake.deal_with(intake.take(Path(shutil.copy(chest_png, inbox / "the same again.png"))))
    Image.fromarray(gradient(200, 200, 9)).save(inbox / "other.png")
    other = intake.deal_with(intake.take(inbox / "other.png"))
    assert len(files(intake.out / "done")) == 6
    deletion = intake._records.delete(first.study.key, actor="Ada", reason="asked for")
    assert (deletion.left, deletion.cleared) == ((), True)
    assert sorted(files(intake.out / "done")) == sorted([other.path.name, other.result.name])
    assert not second.path.exists()


def test_a_study_that_is_deleted_while_it_is_filed_leaves_nothing(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_first(path: Path, content: bytes) -> None:
        write_file(path, content)
        [study] = intake._records.all_studies()
        intake._records.delete(study.key, actor="Ada", reason="asked for")

    monkeypatch.setattr("edge_runtime.intake.write_file", delete_first)
    intake.deal_with(intake.take(Path(shutil.copy(chest_png, inbox / "Doe Jane.png"))))
    assert [p for p in intake.out.rglob("*") if p.is_file()] == []


def test_a_failing_disk_is_no_success(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = intake.take(Path(shutil.copy(chest_png, inbox)))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises((OSError, RecordsError)):
            intake.deal_with(path)
        with pytest.raises(OSError):
            sync_folder(inbox)
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EINVAL, "not offered")))
        sync_folder(inbox)  # a network drive that has no such call for folders
        with pytest.raises(OSError):
            sync_file(path)
    assert path.exists()
    assert intake.deal_with(path).path.parent.name == "done"


def test_a_file_that_may_not_be_read_stays_in_the_inbox(
    intake: Intake, inbox: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = Path(shutil.copy(chest_png, inbox / "locked.png"))
    shutil.copy(chest_png, inbox / "film.png")
    open_path, troubles = Path.open, []

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_path(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert run_once(inbox, intake, on_trouble=lambda path, _: troubles.append(path)) == [locked]
    assert troubles == [locked]  # told once, not at every look
    assert files(inbox) == ["locked.png"]
    assert len(files(intake.out / "done")) == 2


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


def test_the_endurance_run_would_see_what_it_looks_for(intake: Intake, inbox: Path, chest_png: Path) -> None:
    records = intake._records
    place = Place(records.site.parent, [], b"")
    first = intake.deal_with(intake.take(Path(shutil.copy(chest_png, inbox))))

    def found(*acknowledged: str) -> str:
        report = Report("watch", 1, 0)
        after_a_kill(report, place, {first.study.key}, set(acknowledged))
        return "; ".join(report.problems)

    assert found() == ""
    assert "object 1.2.3 was acknowledged and is gone" in found("1.2.3")
    report = Report("watch", 1, 0, handed_over=2)
    at_the_end(report, place, {first.study.content_sha256, "another"}, set(), set())
    assert "2 were handed over, 1 are recorded" in str(report.problems)
    first.result.unlink()
    report = Report("watch", 1, 0, handed_over=1)
    at_the_end(report, place, {first.study.content_sha256}, set(), set())
    assert "is not in done/" in str(report.problems)
    outcome = answer_file(intake._predictor, chest_png)
    records.add_answer(first.study.key, outcome, intake._predictor.manifest, actor="twice")
    assert "has 2 answers" in found()
    connection = sqlite3.connect(records.database.path)
    connection.execute("UPDATE answers SET label = 'another'")
    connection.commit()
    connection.close()
    assert "was changed past the log" in found()
    records.delete(first.study.key, actor="Ada", reason="a test")
    assert "was answered and is gone" in found()


def test_kills_lose_nothing_and_repeat_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    report = endure_watch(tiny_bundle, tmp_path / "endurance", kills=4, files=12, seed=3)
    assert report.problems == []
    assert (report.handed_over, report.answered, report.answers) == (12, 12, 12)

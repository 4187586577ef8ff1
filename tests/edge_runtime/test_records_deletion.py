"""What a site's records let go of: studies, their files, and what could be guessed back from the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, RecordsError
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.recording import add, picture


def everything(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


def test_deletion_leaves_the_log_and_nothing_else(records: Records, predictor: Predictor, chest_dicom: Path) -> None:
    write_dicom(chest_dicom, PatientID="SECRET-4711", PatientName="Doe^Jane")
    key = add(records, predictor, chest_dicom, patient_name="Doe^Jane")
    records.add_note(key, "Mrs Doe", author="Ada")
    records.set_verdict(key, "agree", reader="Ada", comment="Mrs Doe has been here before")
    assert b"SECRET-4711" in everything(records.site)
    deletion = records.delete(key, actor="Ada", reason="asked for by the patient")
    assert (deletion.studies, deletion.left, deletion.cleared) == (1, (), True)
    # at once: in the database, its write-ahead log and every other file, while the records are still open
    content = everything(records.site)
    assert b"SECRET-4711" not in content
    assert b"Doe" not in content
    with pytest.raises(RecordsError, match="no study"):
        records.study(key)
    assert not list(records.files.root.glob("??/*"))
    assert records.verify_audit().problems == ()
    assert records.audit_entries(key)[0].action == "study deleted"


def test_a_reader_that_holds_the_log_is_told_of(
    records: Records, predictor: Predictor, chest_dicom: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.records.database._CLEARING_SECONDS", 0.1)
    key = add(records, predictor, chest_dicom)
    other = add(records, predictor, chest_dicom)
    with Records(records.site) as viewer, viewer.database.reading() as connection:
        connection.execute("SELECT count(*) FROM studies").fetchone()
        assert not records.delete(key, actor="Ada", reason="a test").cleared
    assert records.delete(other, actor="Ada", reason="a test").cleared


def test_deletion_reaches_files_outside_the_site(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(2)]
    (tmp_path / "done").mkdir()
    (tmp_path / "drive").mkdir()
    paths = [tmp_path / "done" / name for name in ("Doe Jane.dcm", "Doe Jane.json", "never written.dcm")]
    other, away = tmp_path / "done" / "other.dcm", tmp_path / "drive" / "film.dcm"
    for path in (*paths[:2], other, away):
        path.write_text("patient data")
    records.note_files(keys[0], [*paths, away, tmp_path / "drive" / "again.dcm"])
    records.note_files(keys[1], [other])
    assert set(records.noted_files(keys[0])) == {*paths, away, tmp_path / "drive" / "again.dcm"}
    with pytest.raises(RecordsError, match="no study"):
        records.note_files("0" * 32, [other])
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    deletion = records.delete(keys[0], actor="Ada", reason="asked for")
    assert set(deletion.left) == {away, tmp_path / "drive" / "again.dcm"}
    [unfinished] = [e for e in records.audit_entries() if e.action == "deletion unfinished"]
    assert unfinished.details == {"files": 2, "cleared": True}
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["other.dcm"]
    assert b"Doe Jane" not in everything(records.site)
    taken_anew = tmp_path / "drive" / "again.dcm"
    records.note_files(keys[1], [taken_anew])
    (tmp_path / "unplugged").rename(tmp_path / "drive")
    taken_anew.write_text("of another study")
    with Records(records.site):  # opened again: what was away is removed now
        assert not away.exists()
    assert other.exists()
    assert taken_anew.exists()


def test_what_the_log_keeps_of_a_deleted_study_cannot_be_guessed_back(
    records: Records, predictor: Predictor, tmp_path: Path
) -> None:
    keys = [add(records, predictor, picture(tmp_path, 1)) for _ in range(2)]
    for key in keys:
        records.add_note(key, "Mrs Doe", author="Ada")
    hashes = [entry.details["sha256"] for entry in records.audit_entries() if entry.action == "note added"]
    assert len(set(hashes)) == 2  # the same text: salted


def test_retention(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(3)]
    moment = records.study(keys[2]).received
    older = [key for key in keys if records.study(key).received < moment]
    deletion = records.delete_received_before(moment, actor="retention", reason="older than allowed")
    assert (deletion.studies, deletion.left, deletion.cleared) == (len(older), (), True)
    assert records.studies().total == 3 - len(older)

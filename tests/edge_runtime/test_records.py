"""A site's records: what goes in comes out, nothing is lost, nothing is changed unseen, nothing named leaves."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_runtime.answer import Outcome, answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import UsageError
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, RecordsError, StudyQuery, audit, sealed
from edge_runtime.records.backup import back_up, restore
from edge_runtime.records.deidentified import export_deidentified
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.tiny_bundle import gradient


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Iterator[Predictor]:
    with open_bundle(tiny_bundle) as bundle, Predictor.open(bundle) as opened:
        yield opened


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records(tmp_path / "site") as opened:
        yield opened


def picture(folder: Path, seed: int) -> Path:
    path = folder / f"film {seed}.png"
    Image.fromarray(gradient(200 + seed, 180, seed)).save(path)
    return path


def add(records: Records, predictor: Predictor, path: Path, **changes: object) -> str:
    fields = {"source": "upload", "actor": "tester", "file": path, **changes}
    return records.add(answer_file(predictor, path), predictor.manifest, **fields).key  # type: ignore[arg-type]


def test_a_study_comes_back_as_it_went_in(records: Records, predictor: Predictor, chest_dicom: Path) -> None:
    outcome = answer_file(predictor, chest_dicom)
    study = records.add(
        outcome, predictor.manifest, source="upload", actor="Ada", file=chest_dicom, patient_name="Doe^Jane"
    )
    assert study.answer == outcome.answer.to_json_object()
    assert study.facts == outcome.answer.facts
    assert (study.source, study.file_name, study.model, study.verdict) == ("upload", "chest.dcm", "tiny", None)
    assert outcome.radiograph is not None
    assert outcome.prediction is not None
    pixels = records.files.pixels(study.key)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, outcome.radiograph.pixels)
    heatmap = records.heatmap(study.key)
    assert heatmap is not None
    np.testing.assert_allclose(heatmap, outcome.prediction.heatmap, atol=1e-3)
    original = records.files.original(study.key)
    assert original is not None
    assert original.read_bytes() == chest_dicom.read_bytes()
    hidden = str(study.to_json_object())
    assert "Doe" not in hidden
    assert str(study.facts.sop_instance_uid) not in hidden
    assert "Doe^Jane" in str(study.to_json_object(with_identity=True))


def test_refusals_and_errors_are_written_down_too(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear colleague")
    study = records.study(add(records, predictor, path))
    assert (study.answer["status"], study.answer["reason"]) == ("refused", "unreadable")
    assert study.gate_score is None
    assert records.heatmap(study.key) is None
    with pytest.raises(UsageError, match="no answer to agree"):
        records.set_verdict(study.key, "agree", reader="Ada")


def test_the_same_radiograph_is_taken_once(
    records: Records, predictor: Predictor, chest_dicom: Path, tmp_path: Path
) -> None:
    first = add(records, predictor, chest_dicom, once=True)
    other_file = tmp_path / "again.dcm"  # the same object in another file, as a node sends it again
    content = bytearray(chest_dicom.read_bytes())
    content[0] = 1  # the preamble
    other_file.write_bytes(content)
    assert add(records, predictor, other_file, once=True) == first
    assert add(records, predictor, other_file) != first
    uid = records.study(first).facts.sop_instance_uid
    impostor = tmp_path / "impostor.dcm"  # another picture under the same UID is another radiograph
    write_dicom(impostor, SOPInstanceUID=uid, PixelData=gradient(320, 288, 3).tobytes())
    assert add(records, predictor, impostor, once=True) != first
    assert records.studies().total == 3
    assert len(list(records.files.root.glob("??/*"))) == 3


def test_search_filter_sort_and_pages(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(6)]
    add(records, predictor, tmp_path / "absent.png", content_sha256="0" * 64, file=None)
    assert records.studies().total == 7
    assert records.studies(StudyQuery(status="ok")).total == 6
    assert records.studies(StudyQuery(search="FILM 3")).studies[0].key == keys[3]
    assert records.studies(StudyQuery(search="film%")).total == 0
    page = records.studies(StudyQuery(status="ok", sort="file_name", descending=False, limit=2, offset=2))
    assert [s.key for s in page.studies] == keys[2:4]
    assert page.total == 6
    by_probability = [
        s.answer["probabilities"][s.answer["label"]]
        for s in records.studies(StudyQuery(status="ok", sort="probability")).studies
    ]
    assert by_probability == sorted(by_probability, reverse=True)
    records.add_note(keys[5], "Ask about the_scar", author="Ada")
    assert [s.key for s in records.studies(StudyQuery(search="the_scar")).studies] == [keys[5]]
    records.set_verdict(keys[1], "agree", reader="Ada")
    assert [s.key for s in records.studies(StudyQuery(verdict="agree")).studies] == [keys[1]]
    assert records.studies(StudyQuery(verdict="none")).total == 6
    records.set_verdict(keys[1], "withdrawn", reader="Ada")
    assert records.study(keys[1]).verdict is None
    assert records.studies(StudyQuery(verdict="none")).total == 7
    with pytest.raises(UsageError, match="sorted by"):
        records.studies(StudyQuery(sort="1; DROP TABLE studies"))


def test_a_viewer_sees_what_changed_from_another_process(
    records: Records, predictor: Predictor, tmp_path: Path
) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(3)]
    with Records(records.site) as viewer:
        seen = viewer.revision
        assert viewer.studies(StudyQuery(changed_after=seen)).total == 0
        records.add_note(keys[1], "look again", author="Ada")
        records.delete(keys[2], actor="Ada", reason="sent twice")
        assert [s.key for s in viewer.studies(StudyQuery(changed_after=seen)).studies] == [keys[1]]
        assert viewer.deleted_after(seen) == [keys[2]]


def test_verdicts_count_into_a_confusion_table(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(4)]
    labels = [records.study(key).answer["label"] for key in keys]
    wrong = next(label for label in predictor.manifest.labels if label != labels[1])
    records.set_verdict(keys[0], "agree", reader="Ada")
    records.set_verdict(keys[1], "disagree", reader="Ada", label=wrong)
    records.set_verdict(keys[2], "other", reader="Ada", comment="a chest drain")
    expected: dict[tuple[str, str], int] = {}
    for pair in ((labels[0], labels[0]), (labels[1], wrong), (labels[2], "other")):
        expected[pair] = expected.get(pair, 0) + 1
    assert records.confusion() == expected
    with pytest.raises(UsageError, match="does not fit"):
        records.set_verdict(keys[3], "disagree", reader="Ada", label=labels[3])
    records.set_verdict(keys[0], "other", reader="Bob")
    assert [v.reader for v in records.verdicts(keys[0])] == ["Bob", "Ada"]


def test_similar_cases_are_the_nearest_confirmed_ones(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    # the tiny graph gives every picture nearly the same direction: embeddings at stated angles tell the order
    outcome = answer_file(predictor, picture(tmp_path, 0))
    assert outcome.prediction is not None
    keys = {}
    for degrees in (0, 50, 20, 35, 5):
        direction = [np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0, 0]
        prediction = replace(outcome.prediction, embedding=np.array(direction, np.float32) * (1 + degrees))
        study = records.add(
            replace(outcome, prediction=prediction), predictor.manifest, source="upload", actor="Ada",
            content_sha256=f"{degrees:064}",
        )  # fmt: skip
        keys[degrees] = study.key
    assert records.similar(keys[0]) == []
    for degrees in (50, 20, 35):  # nobody has confirmed the nearest
        records.set_verdict(keys[degrees], "agree", reader="Ada")
    found = records.similar(keys[0], 2)
    assert [case.study.key for case in found] == [keys[20], keys[35]]
    assert [case.similarity for case in found] == pytest.approx(np.cos(np.radians([20, 35])).tolist(), abs=1e-5)
    records.set_verdict(keys[20], "other", reader="Ada")
    assert [case.study.key for case in records.similar(keys[0], 2)] == [keys[35], keys[50]]
    retrained = msgspec.structs.replace(predictor.manifest.provenance, checkpoint_sha256="1" * 64)
    manifest = msgspec.structs.replace(predictor.manifest, provenance=retrained)
    records.add_answer(keys[35], outcome, manifest, actor="Ada")  # another model's embedding is not comparable
    assert [case.study.key for case in records.similar(keys[0], 2)] == [keys[50]]


def test_settings_keep_their_history(records: Records) -> None:
    assert records.setting("operating_point") is None
    records.set_setting("operating_point", {"COVID-19": 0.4}, actor="Ada")
    records.set_setting("operating_point", {"COVID-19": 0.3}, actor="Bob")
    current = records.setting("operating_point")
    assert current is not None
    assert (current.value, current.actor) == ({"COVID-19": 0.3}, "Bob")
    assert [s.actor for s in records.setting_history("operating_point")] == ["Bob", "Ada"]
    details = records.audit_entries()[0].details
    assert (details["from"], details["to"]) == ({"COVID-19": 0.4}, {"COVID-19": 0.3})
    with pytest.raises(UsageError, match="needs a name"):
        records.set_setting("operating_point", 1, actor=" ")


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


def test_records_of_the_first_schema_are_brought_up(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    key = add(records, predictor, picture(tmp_path, 1))
    records.set_setting("threshold", 0.5, actor="Ada")
    records.close()
    connection = sqlite3.connect(records.database.path)  # as version 1 wrote it
    body, answer = connection.execute("SELECT body, id FROM answers").fetchone()
    value, actor, setting = connection.execute("SELECT value, actor, id FROM settings").fetchone()
    sha = connection.execute("SELECT content_sha256 FROM studies").fetchone()[0]
    connection.execute("INSERT INTO notes VALUES (NULL, ?, 'then', 'Ada', 'an early note')", (key,))
    for statement in (
        "DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete", "DELETE FROM audit", "DROP TABLE filed",
        "DROP TABLE removals", "ALTER TABLE studies DROP COLUMN salt", "ALTER TABLE answers DROP COLUMN bundle_sha256",
        "PRAGMA user_version = 1",
    ):  # fmt: skip
        connection.execute(statement)
    connection.row_factory = sqlite3.Row

    def digest(*values: object) -> str:
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    audit.append(connection, "w", "study added", key, {"source": "upload", "content_sha256": sha})
    audit.append(connection, "w", "study answered", key, {"row": answer, "sha256": digest(body)})
    audit.append(connection, "Ada", "note added", key, {})
    details = {"row": setting, "sha256": digest(value, actor)}
    audit.append(connection, "Ada", "setting changed", "threshold", details)
    connection.commit()
    connection.close()
    with Records(records.site) as opened:
        assert opened.audit_entries()[0].action == "records upgraded"
        assert opened.verify_audit(with_files=True).problems == ()
        opened.add_note(key, "a later note", author="Ada")
        opened.add_answer(key, answer_file(predictor, picture(tmp_path, 1)), predictor.manifest, actor="Ada")
        assert opened.verify_audit(with_files=True).problems == ()
    connection = sqlite3.connect(records.database.path)
    connection.execute("UPDATE answers SET body = replace(body, 'ok', 'xx') WHERE id = ?", (answer,))
    connection.commit()
    connection.close()
    with Records(records.site) as opened:
        assert any("An answer of study" in problem for problem in opened.verify_audit().problems)


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


@pytest.mark.parametrize(
    ("tampering", "said"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 2", "Entry 2 was changed"),
        ("DELETE FROM audit WHERE seq = 2", "Entries 2 to 2 are missing"),
        ("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)", "cut off or written anew"),
        ("DELETE FROM studies", "the log tells of no deletion"),
        ("UPDATE studies SET patient_id = 'another'", "Study"),
        ("UPDATE studies SET received = '2020-01-01'", "Study"),
        ("UPDATE studies SET answer_id = (SELECT min(id) FROM answers)", "shows another answer"),
        ("UPDATE answers SET body = replace(body, 'ok', 'xx')", "An answer of study"),
        ("UPDATE answers SET label = 'normal?'", "An answer of study"),
        ("UPDATE answers SET probability = 0.5", "An answer of study"),
        ("UPDATE answers SET heatmap = zeroblob(length(heatmap))", "An answer of study"),
        ("UPDATE verdicts SET verdict = 'disagree'", "A verdict on study"),
        ("UPDATE verdicts SET study = (SELECT max(key) FROM studies WHERE key != study)", "A verdict on study"),
        ("UPDATE notes SET text = 'nothing to see'", "A note on study"),
        ("DELETE FROM notes WHERE id = 1", "A note on study"),
        ("INSERT INTO notes SELECT NULL, key, 'now', 'Ada', 'forged' FROM studies", "A note on study"),
        ("UPDATE settings SET value = '0.1'", "A value of setting"),
        ("DELETE FROM settings", "A value of setting"),
    ],
)
def test_tampering_is_found(records: Records, predictor: Predictor, tmp_path: Path, tampering: str, said: str) -> None:
    key = add(records, predictor, picture(tmp_path, 1))
    add(records, predictor, picture(tmp_path, 2))
    records.add_answer(key, answer_file(predictor, picture(tmp_path, 1)), predictor.manifest, actor="Ada")
    records.set_setting("threshold", 0.5, actor="Ada")
    records.set_verdict(key, "agree", reader="Ada")
    records.add_note(key, "look again", author="Ada")
    noted = records.verify_audit()
    assert noted.problems == ()
    records.add_note(key, "more", author="Ada")
    assert records.verify_audit(noted.head).problems == ()
    noted = records.verify_audit()
    connection = sqlite3.connect(records.database.path)
    if " audit " in tampering:  # the table's own triggers refuse it, but a determined hand drops them
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(tampering)
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("DROP TRIGGER audit_no_delete")
    connection.execute(tampering)
    connection.commit()
    connection.close()
    assert any(said in problem for problem in records.verify_audit(noted.head).problems)


def test_changed_files_are_found(
    records: Records, predictor: Predictor, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(3)]
    verify = ("audit", "verify", "--site", records.site)
    assert run_command(*verify, "--files").exit_code == 0
    pixels, original = records.files.pixels_file(keys[0]), records.files.original(keys[1])
    assert pixels is not None
    assert original is not None
    pixels.write_bytes(pixels.read_bytes() + b" ")
    original.unlink()
    said = run_command(*verify, "--files")
    assert said.exit_code == 10
    assert f"The file pixels.png of study {keys[0]} was changed" in said.stdout
    assert f"The file original of study {keys[1]} is gone" in said.stdout
    assert run_command(*verify).exit_code == 0  # not asked for: the files are not read


def _add_many(site: Path, bundle_path: Path, image: Path, number: int) -> None:
    with open_bundle(bundle_path) as bundle, Predictor.open(bundle) as predictor, Records(site) as records:
        for i in range(8):
            records.add(answer_file(predictor, image), predictor.manifest, source="watch", actor="w", file=image)
            records.set_setting(f"s{number}", i, actor="w")


def test_processes_write_at_the_same_time(records: Records, tiny_bundle: Path, tmp_path: Path) -> None:
    image = picture(tmp_path, 1)
    start = multiprocessing.get_context("spawn").Process
    writers = [start(target=_add_many, args=(records.site, tiny_bundle, image, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert records.studies().total == 24
    assert records.verify_audit().problems == ()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_nobody_else_may_look(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    add(records, predictor, picture(tmp_path, 1))
    for path in (records.site, *records.site.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_what_was_open_to_others_is_closed(tmp_path: Path) -> None:
    site, shared = tmp_path / "site", tmp_path / "shared"
    Records(site).close()
    site.chmod(0o755)
    (site / "studies").chmod(0o750)
    (site / "records.sqlite").chmod(0o644)
    shared.mkdir(mode=0o755)
    shared.chmod(0o755)
    (shared / "something else").touch()
    for folder in (site, shared):
        Records(folder).close()
    for path, mode in ((site, 0o700), (site / "studies", 0o700), (site / "records.sqlite", 0o600), (shared, 0o755)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


def test_one_site_for_all_commands(
    tiny_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_SITE", str(tmp_path / "site"))
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    chest_png.rename(inbox / "film.png")
    absent = run_command("records", "list")
    assert absent.exit_code == 2
    assert "holds no records" in absent.stderr
    watch = ("watch", tiny_bundle, inbox, "--out", out, "--once", "--settle", 0, "--interval", 0.05)
    assert run_command(*watch).exit_code == 0
    assert not (out / "site").exists()
    assert len(run_command("records", "list").stdout.splitlines()) == 1
    assert run_command("audit", "verify").exit_code == 0
    # where an earlier version kept them under --out, a second site is not begun unseen
    (tmp_path / "site").rename(out / "site")
    forgotten = run_command(*watch)
    assert forgotten.exit_code == 2
    assert f"--site {out / 'site'}" in forgotten.stderr
    assert run_command(*watch, "--site", out / "site").exit_code == 0


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    with pytest.raises(RecordsError, match="cannot be used"):
        Records(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    connection = sqlite3.connect(other / "records.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(RecordsError, match="another schema version"):
        Records(other)


def test_what_leaves_names_nobody(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    films = []
    for number in range(4):
        film = tmp_path / f"Doe Jane {number}.dcm"
        patient = "SECRET-1" if number < 2 else f"SECRET-{number}"
        burned = {"BurnedInAnnotation": "YES"} if number == 3 else {}
        write_dicom(
            film, PatientID=patient, PatientName="Doe^Jane", PatientAge="093Y", PatientSex="F", StudyDate="20240102",
            PixelData=gradient(320, 288, number).tobytes(), **burned,
        )  # fmt: skip
        films.append(film)
    keys = [add(records, predictor, film, patient_name="Doe^Jane") for film in films]
    records.add_note(keys[0], "Mrs Doe", author="Dr Who")
    records.set_verdict(keys[0], "agree", reader="Dr Who", comment="Mrs Doe")
    count = export_deidentified(records, tmp_path / "out", actor="Ada")
    assert (count.studies, count.images, count.burned_in) == (4, 3, 1)
    content = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    for secret in (b"SECRET", b"Doe", b"Who", b"2024", b"093Y", *(key.encode() for key in keys)):
        assert secret not in content
    assert str(records.study(keys[0]).facts.sop_instance_uid).encode() not in content
    rows = (tmp_path / "out" / "studies.csv").read_text().splitlines()
    assert len(rows) == 5
    assert sum(",090Y," in row for row in rows) == 4
    assert len({row.split(",")[1] for row in rows[1:]}) == 3  # patients
    with pytest.raises(RecordsError, match="exists already"):
        export_deidentified(records, tmp_path / "out", actor="Ada")


def test_a_backup_restores_the_site(records: Records, predictor: Predictor, tmp_path: Path) -> None:
    keys = [add(records, predictor, picture(tmp_path, seed)) for seed in range(3)]
    out = tmp_path / "site.tar"
    assert back_up(records, out, actor="Ada").studies == 3
    for key in keys:
        records.delete(key, actor="Ada", reason="a mistake")
    assert restore(out, tmp_path / "restored", actor="Ada").missing == 0
    with Records(tmp_path / "restored") as restored:
        assert {s.key for s in restored.all_studies()} == set(keys)
        assert restored.files.pixels(keys[0]) is not None
        assert [e.action for e in restored.audit_entries()][:2] == ["restored", "backup"]
    with pytest.raises(RecordsError, match="not empty"):
        restore(out, tmp_path / "restored", actor="Ada")
    damaged = bytearray(out.read_bytes())
    damaged[3000:9000] = bytes(6000)
    out.write_bytes(damaged)
    with pytest.raises(RecordsError):
        restore(out, tmp_path / "broken", actor="Ada")
    assert not (tmp_path / "broken").exists()


def test_an_encrypted_backup_opens_with_its_passphrase_alone(
    records: Records, predictor: Predictor, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    film = tmp_path / "Doe Jane.dcm"
    write_dicom(film, PatientID="SECRET-4711", PixelData=np.random.default_rng(1).bytes(320 * 288))
    keys = [add(records, predictor, film), add(records, predictor, picture(tmp_path, 1))]
    out, plain, word = tmp_path / "site.sealed", tmp_path / "site.tar", tmp_path / "passphrase"
    word.write_text("correct horse battery\n")
    backup = ("records", "backup", "--site", records.site)
    assert run_command(*backup, out, "--encrypt", "--passphrase-file", word).exit_code == 0
    assert run_command(*backup, plain).exit_code == 0
    for secret in (b"SECRET-4711", b"Doe Jane", b"SQLite", keys[0].encode()):
        assert secret in plain.read_bytes()
        assert secret not in out.read_bytes()
    assert not list(records.site.glob(".backup*"))
    restoring = ("records", "restore", out, "--site", tmp_path / "again", "--passphrase-file", word)
    assert run_command(*restoring).exit_code == 0
    with Records(tmp_path / "again") as again:
        assert {s.key for s in again.all_studies()} == set(keys)
        assert again.verify_audit(with_files=True).problems == ()
    word.write_text("correct horse buttery")
    wrong = run_command("records", "restore", out, "--site", tmp_path / "wrong", "--passphrase-file", word)
    assert wrong.exit_code == 1
    assert "the passphrase is wrong" in wrong.stderr
    assert not (tmp_path / "wrong").exists()
    with pytest.raises(RecordsError, match="is encrypted"):
        restore(out, tmp_path / "wrong", actor="Ada")
    with pytest.raises(UsageError, match="too short"):
        back_up(records, tmp_path / "short", actor="Ada", passphrase="eleven char")
    assert not (tmp_path / "short").exists()


def test_a_sealed_file_does_not_open_when_anything_of_it_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_COST", (4, 8, 1))
    monkeypatch.setattr(sealed, "_PIECE", 100)
    for length in (0, 1, 99, 100, 101, 200, 250):
        content = np.random.default_rng(length).bytes(length)
        file = io.BytesIO()
        writer = sealed.SealedWriter(file, "correct horse battery")
        for start in range(0, length, 37):
            writer.write(content[start : start + 37])
        writer.finish()
        whole = file.getvalue()
        assert sealed.SealedReader(io.BytesIO(whole), "correct horse battery").read() == content
        pieces = len(whole) - 27
        assert pieces == length + 16 * max(1, -(-length // 100))
    first, second, third = whole[27:143], whole[143:259], whole[259:]
    flipped = bytearray(whole)
    flipped[20] ^= 1  # the salt
    changed = [
        whole[:-1], whole + b"x", whole[:27] + second + first + third, whole[:27] + first + second,
        whole[:27] + first + third, whole[:27] + second + third, bytes(flipped), whole[:27], whole[:10],
    ]  # fmt: skip
    for position in (30, 150, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        changed.append(bytes(flipped))
    for number, bad in enumerate(changed):
        with pytest.raises(RecordsError):
            sealed.SealedReader(io.BytesIO(bad), "correct horse battery").read()
            pytest.fail(f"change {number} was not found")


def test_a_failed_write_leaves_no_study(
    records: Records, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome: Outcome = answer_file(predictor, picture(tmp_path, 1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_runtime.records.files._write_png", full)
    with pytest.raises(RecordsError, match="cannot be written"):
        records.add(outcome, predictor.manifest, source="upload", actor="Ada", content_sha256="0" * 64)
    assert records.studies().total == 0
    assert not [p for p in records.files.root.rglob("*") if p.is_file()]

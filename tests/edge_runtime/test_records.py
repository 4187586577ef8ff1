"""A site's records: what goes in comes out, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_runtime.answer import Outcome, answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import UsageError
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, RecordsError, StudyQuery, audit
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.recording import add, picture
from tests.edge_runtime.tiny_bundle import gradient


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

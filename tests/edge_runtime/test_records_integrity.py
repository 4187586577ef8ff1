"""Nothing of a site's records is changed unseen, and nobody else may look."""

from __future__ import annotations

import sqlite3
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.answer import answer_file
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, RecordsError
from tests.edge_runtime.recording import add, picture


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

"""What leaves a site: de-identified exports and backups."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import UsageError
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records, RecordsError, sealed
from edge_runtime.records.backup import back_up, restore
from edge_runtime.records.deidentified import export_deidentified
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.recording import add, picture
from tests.edge_runtime.tiny_bundle import gradient


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

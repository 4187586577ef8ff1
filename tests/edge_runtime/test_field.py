"""Tuning, the doctor, and the records' commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from edge_runtime.backends import VARIANTS
from edge_runtime.bundle import file_entry, open_bundle, rewrite_manifest
from edge_runtime.choice import choose
from edge_runtime.errors import BackendError
from edge_runtime.predictor import Predictor
from edge_runtime.tuned import TuningRecord, tuning_file
from edge_runtime.tuning import candidates

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_RUNTIME_TRUSTED_KEYS", str(tmp_path / "keys"))


def test_the_quickest_that_agrees_is_taken_from_then_on(every_format_bundle: Path, run_command: Run) -> None:
    result = run_command("tune", every_format_bundle, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    tests = {(t["artifact"], t["backend"]): t for t in said["candidates"]}
    agreeing = {pair: t["p50_ms"] for pair, t in tests.items() if t["status"] == "agrees"}
    assert len(agreeing) >= 4
    winner = (said["winner"]["artifact"], said["winner"]["backend"])
    assert agreeing[winner] == min(agreeing.values())
    with open_bundle(every_format_bundle) as bundle:
        choice = choose(bundle.manifest)
        assert (choice.artifact.name, choice.backend, choice.note) == (*winner, None)
        path = tuning_file(bundle.manifest)
        record = msgspec.json.decode(path.read_bytes(), type=TuningRecord)
        for change, words in (({"cpu": "Z80"}, "another CPU"), ({"package_version": "0.1"}, "0.1, and")):
            path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **change)))
            stale = choose(bundle.manifest)
            assert stale.artifact.name == bundle.manifest.recommended["cpu"]
            assert stale.note is not None
            assert words in stale.note
            assert "tune" in stale.note
        path.write_bytes(b"{")
        assert "cannot be read" in str(choose(bundle.manifest).note)
    assert run_command("tune", every_format_bundle, "--forget").exit_code == 0
    with open_bundle(every_format_bundle) as bundle:
        assert choose(bundle.manifest).note is None


def test_what_does_not_agree_cannot_win(own_bundle: Path, run_command: Run) -> None:
    with open_bundle(own_bundle) as bundle:  # golden vectors of another model
        entry = bundle.manifest.golden.vectors
        content = json.loads((own_bundle / entry.path).read_text())
        for vector in content["vectors"]:
            vector["outputs"]["probabilities"].reverse()
        (own_bundle / entry.path).write_text(json.dumps(content))
        golden = msgspec.structs.replace(bundle.manifest.golden, vectors=file_entry(own_bundle, entry.path))
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, golden=golden))
    result = run_command("tune", own_bundle)
    assert result.exit_code == 10
    assert "Nothing that opens here agrees" in result.stdout
    with open_bundle(own_bundle) as bundle:
        assert not tuning_file(bundle.manifest).exists()
        assert choose(bundle.manifest).artifact.name == "onnx-fp32"


def test_variants_are_never_taken_unless_named(every_format_bundle: Path) -> None:
    with open_bundle(every_format_bundle) as bundle:
        assert {backend for _, backend in candidates(bundle)} >= {"onnxruntime", "openvino", "onnxruntime-cuda"}
        assert choose(bundle.manifest).backend not in VARIANTS
        import onnxruntime

        for name, provider in (
            ("onnxruntime-cuda", "CUDAExecutionProvider"),
            ("onnxruntime-tensorrt", "TensorrtExecutionProvider"),
        ):
            if provider not in onnxruntime.get_available_providers():
                with pytest.raises(BackendError, match=provider):
                    Predictor.open(bundle, backend=name)


def test_bfloat16_says_that_it_is(every_format_bundle: Path) -> None:
    with open_bundle(every_format_bundle) as bundle:
        try:
            predictor = Predictor.open(bundle, backend="openvino-bf16")
        except BackendError as error:
            assert "bfloat16" in error.what
            return
        with predictor:
            assert (predictor.backend_name, predictor.artifact.name) == ("openvino-bf16", "openvino-fp32")


def test_the_model_cache_is_written_where_it_is_named(
    every_format_bundle: Path, tmp_path: Path, chest_png: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_MODEL_CACHE", str(tmp_path / "models"))
    assert run_command("predict", every_format_bundle, chest_png, "--backend", "openvino").exit_code == 0
    assert list((tmp_path / "models" / "openvino").iterdir())


def test_low_memory_gives_the_same_answer(
    tiny_bundle: Path, chest_png: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_LOW_MEMORY", "0")  # the option sets it; monkeypatch takes it back
    usual, low = (
        json.loads(run_command("predict", tiny_bundle, chest_png, "--json", *more).stdout)["probabilities"]
        for more in ((), ("--low-memory",))
    )
    assert low == pytest.approx(usual, abs=1e-6)


def test_a_healthy_device(tiny_bundle: Path, tmp_path: Path, run_command: Run) -> None:
    result = run_command("doctor", tiny_bundle, "--site", tmp_path / "site", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == (0 if said["fit"] else 10)
    words = {(f["about"], f["word"]) for f in said["findings"] if f["about"] != "disk"}
    assert not any(word == "bad" for _, word in words), said
    assert {"runtime", "cpu", "memory", "clock", "backend", "signatures", "bundle", "site"} <= {a for a, _ in words}
    assert all(f["remedy"] for f in said["findings"] if f["word"] == "bad")


def test_the_doctor_finds_what_is_wrong(
    own_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    chest_png.rename(inbox / "film.png")
    command = ("watch", own_bundle, inbox, "--out", out, "--once", "--settle", 0, "--interval", 0.05)
    assert run_command(*command).exit_code == 0
    assert "database whole, audit log unbroken" in run_command("doctor", "--site", out / "site").stdout
    if sys.platform != "win32":
        (out / "site" / "records.sqlite").chmod(0o644)
        opened = run_command("doctor", "--site", out / "site")
        assert opened.exit_code == 10
        assert "others on this machine can read" in opened.stdout
        assert "chmod -R go-rwx" in opened.stdout
    (own_bundle / "artifacts" / "onnx-fp32.onnx").write_bytes(b"x")
    damaged = run_command("doctor", own_bundle)
    assert damaged.exit_code == 10
    assert "damaged or was changed" in damaged.stdout


def test_the_records_commands(tiny_bundle: Path, chest_dicom: Path, tmp_path: Path, run_command: Run) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    site = out / "site"
    inbox.mkdir()
    name = chest_dicom.rename(inbox / "Doe Jane.dcm").name
    assert run_command("watch", tiny_bundle, inbox, "--out", out, "--once", "--settle", 0).exit_code == 0
    listed = run_command("records", "list", "--site", site, "--json")
    study = json.loads(listed.stdout)
    assert name not in listed.stdout
    assert "Doe Jane" in run_command("records", "list", "--site", site, "--names").stdout
    assert run_command("records", "backup", "--site", site, tmp_path / "b.tar").exit_code == 0
    assert run_command("records", "export", "--site", site, tmp_path / "e", "--actor", "Ada").exit_code == 0
    assert (tmp_path / "e" / "studies.csv").is_file()
    deleting = ("records", "delete", "--site", site, study["key"], "--reason", "a test")
    assert run_command(*deleting).exit_code == 130  # nobody says yes
    assert run_command(*deleting, "--yes").exit_code == 0
    assert run_command("records", "list", "--site", site).stdout == ""
    assert run_command("records", "restore", tmp_path / "b.tar", "--site", tmp_path / "again").exit_code == 0
    assert study["key"] in run_command("records", "list", "--site", tmp_path / "again").stdout
    verified = run_command("audit", "verify", "--site", site, "--json")
    assert verified.exit_code == 0
    assert "study deleted" in run_command("audit", "show", "--site", site).stdout
    head = json.loads(verified.stdout)["head"]
    assert run_command("audit", "verify", "--site", tmp_path / "again", "--head", head).exit_code == 10

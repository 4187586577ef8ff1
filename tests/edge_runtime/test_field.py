"""Tuning, variants, and the records' commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from edge_runtime.backends import VARIANTS
from edge_runtime.bundle import file_entry, open_bundle, rewrite_manifest
from edge_runtime.choice import candidates, choose
from edge_runtime.errors import BackendError
from edge_runtime.predictor import Predictor
from edge_runtime.tuned import TuningRecord, tuning_file

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_RUNTIME_TRUSTED_KEYS", str(tmp_path / "keys"))


def test_the_quickest_that_agrees_is_taken_from_then_on(every_format_bundle: Path, run_command: Run) -> None:
    with open_bundle(every_format_bundle) as bundle:
        untuned = choose(bundle.manifest)
        assert untuned.hint is not None
        assert "`edge-runtime tune`" in untuned.hint
        assert "--threads 3" in str(choose(bundle.manifest, threads=3).hint)
        assert choose(bundle.manifest, "onnx-fp32").hint is None, "it was named, and nothing measured would change it"
    result = run_command("tune", every_format_bundle, "--json", "--threads", 2)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["threads"], said["one_thread"]) == (2, None)
    tests = {(t["artifact"], t["backend"]): t for t in said["candidates"]}
    agreeing = {pair: t["p50_ms"] for pair, t in tests.items() if t["status"] == "agrees"}
    assert len(agreeing) >= 4
    winner = (said["winner"]["artifact"], said["winner"]["backend"])
    assert agreeing[winner] == min(agreeing.values())
    with open_bundle(every_format_bundle) as bundle:
        choice = choose(bundle.manifest, threads=2)
        assert (choice.artifact.name, choice.backend, choice.note, choice.hint) == (*winner, None, None)
        assert choose(bundle.manifest).hint is not None, "measured for two threads, not for as many as a backend likes"
        path = tuning_file(bundle.manifest, 2)
        record = msgspec.json.decode(path.read_bytes(), type=TuningRecord)
        assert {"CPU", "GPU", "GPU driver", "edge-runtime", "onnxruntime", "openvino", "torch"} <= set(
            record.conditions
        )
        for name, value in (
            ("CPU", "Z80"),
            ("GPU", "Voodoo"),
            ("GPU driver", "1.0"),
            ("edge-runtime", "0.0.1"),
            ("openvino", "openvino 0.1"),
            ("onnxruntime", "onnxruntime-gpu 1.20.0"),
            ("executorch", "executorch 9"),
            ("a backend of tomorrow", "a 1"),
        ):
            changed = msgspec.structs.replace(record, conditions={**record.conditions, name: value})
            path.write_bytes(msgspec.json.encode(changed))
            stale = choose(bundle.manifest, threads=2)
            assert stale.artifact.name == bundle.manifest.recommended["cpu"]
            assert stale.note is not None
            assert f"another {name} ({value}; now " in stale.note
            assert "tune" in stale.note
        path.write_bytes(b"{")
        assert "cannot be read" in str(choose(bundle.manifest, threads=2).note)
    assert run_command("tune", every_format_bundle, "--forget").exit_code == 0
    with open_bundle(every_format_bundle) as bundle:
        assert not path.exists()
        assert choose(bundle.manifest, threads=2).note is None


def test_tuning_is_for_a_file_at_a_time_and_for_folders(
    tiny_bundle: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.batch.usable_cores", lambda: 4)
    said = json.loads(run_command("tune", tiny_bundle, "--json").stdout)
    assert said["threads"] is None
    assert said["one_thread"]["threads"] == 1
    with open_bundle(tiny_bundle) as bundle:
        assert {said["kept_in"], said["one_thread"]["kept_in"]} == {
            str(tuning_file(bundle.manifest, threads)) for threads in (None, 1)
        }
        for threads in (None, 1):
            assert tuning_file(bundle.manifest, threads).exists()


def test_whoever_starts_a_command_hears_that_nothing_was_measured(
    every_format_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run
) -> None:
    assert "Not tuned on this device" in " ".join(run_command("predict", every_format_bundle, chest_png).stdout.split())
    (answer,) = [
        json.loads(line)
        for line in run_command("predict", every_format_bundle, chest_png, "--json").stdout.splitlines()
    ]
    assert not any("tuned" in note for note in answer["notes"]), "that is no part of an answer"
    (tmp_path / "inbox").mkdir()
    watching = run_command("watch", every_format_bundle, tmp_path / "inbox", "--out", tmp_path / "out", "--once")
    assert "Not tuned on this device" in watching.stderr


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
        assert {backend for _, backend in candidates(bundle.manifest)} >= {
            "onnxruntime",
            "openvino",
            "onnxruntime-cuda",
        }
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


def test_the_records_commands(tiny_bundle: Path, chest_dicom: Path, tmp_path: Path, run_command: Run) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    site = out / "site"
    inbox.mkdir()
    name = chest_dicom.rename(inbox / "Doe Jane.dcm").name
    watch = ("watch", tiny_bundle, inbox, "--out", out, "--site", site, "--once", "--settle", 0)
    assert run_command(*watch).exit_code == 0
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

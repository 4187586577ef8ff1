"""The doctor: each trouble is put there, found, and has a remedy."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

from edge_runtime import doctor
from edge_runtime.backends import VARIANTS
from edge_runtime.bundle import open_bundle, rewrite_manifest
from edge_runtime.doctor import Finding, examine
from edge_runtime.gpu import gpu_driver, gpu_names
from edge_runtime.memory import Memory, memory_here
from edge_runtime.selftest import ArtifactTest

Run = Callable[..., Result]
MB = 2**20


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_RUNTIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGE_RUNTIME_TRUSTED_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("EDGE_RUNTIME_SITE", raising=False)


def only(findings: Any, about: str, words: str = "") -> Finding:
    """The one finding about something that says so."""
    found = [f for f in findings if f.about == about and words in f.found]
    assert len(found) == 1, found
    return found[0]


def test_a_healthy_device(tiny_bundle: Path, tmp_path: Path, run_command: Run) -> None:
    result = run_command("doctor", tiny_bundle, "--site", tmp_path / "site", "--out", tmp_path / "out", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == (0 if said["fit"] else 10)
    words = {(f["about"], f["word"]) for f in said["findings"] if f["about"] != "disk"}
    assert not any(word == "bad" for _, word in words), said
    assert {"runtime", "cpu", "memory", "clock", "backend", "signatures", "bundle", "site"} <= {a for a, _ in words}


@pytest.mark.parametrize("word", ["look", "bad"])
def test_everything_that_is_not_good_has_a_remedy(
    own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """A device on which all of it goes wrong at once."""
    monkeypatch.setattr(doctor, "_ENOUGH_DISK", 2**62)
    monkeypatch.setattr(doctor, "_BUILT", datetime(2999, 1, 1, tzinfo=timezone.utc))
    monkeypatch.setattr(doctor, "memory_here", lambda: Memory(10 * MB) if word == "look" else Memory(None))
    monkeypatch.setattr(doctor, "cpu_features", lambda: ("sse4_2",))
    monkeypatch.setattr(doctor, "why_unavailable", lambda kind: "it is not installed")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signed-bundles-only").touch()
    (own_bundle / "artifacts/onnx-fp32.onnx").write_bytes(b"x")
    (tmp_path / "out").write_text("no folder")
    findings = list(examine(own_bundle, tmp_path / "site", tmp_path / "out"))
    chosen = [f for f in findings if f.word == word]
    assert len(chosen) >= 3
    assert {f.about for f in findings if f.word == "bad"} >= {"clock", "disk", "bundle", "out"}
    for finding in chosen:
        assert finding.remedy, finding
        assert finding.remedy != finding.found


@pytest.mark.parametrize("status", ["differs", "failed", "damaged"])
def test_each_verdict_of_the_self_test_has_a_remedy_of_its_own(status: Any) -> None:
    test = ArtifactTest("onnx-int8", "onnxruntime", "int8", status, "the reason", 0.4, 0.1, 3, 0)
    alone, beside = doctor._tested(test, []), doctor._tested(test, ["openvino-fp32"])
    for finding in (alone, beside):
        assert finding.word == "bad"
        assert finding.remedy
        assert "the reason" not in finding.remedy, "that is what was found, and no remedy"
    if status == "damaged":
        assert "bundle install" in str(alone.remedy)
    else:
        assert "--artifact openvino-fp32" in str(beside.remedy)
        assert "another device" in str(alone.remedy)
    assert ("3 decisions" in alone.found) is (status == "differs")
    assert doctor._tested(ArtifactTest("onnx-int8", "onnxruntime", "int8", "agrees"), []).word == "good"


def test_an_artifact_that_differs_is_found_in_a_real_bundle(own_bundle: Path, run_command: Run) -> None:
    from edge_runtime.bundle import file_entry

    with open_bundle(own_bundle) as bundle:  # golden vectors of another model
        entry = bundle.manifest.golden.vectors
        content = json.loads((own_bundle / entry.path).read_text())
        for vector in content["vectors"]:
            vector["outputs"]["probabilities"].reverse()
        (own_bundle / entry.path).write_text(json.dumps(content))
        golden = msgspec.structs.replace(bundle.manifest.golden, vectors=file_entry(own_bundle, entry.path))
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, golden=golden))
    result = run_command("doctor", own_bundle)
    assert result.exit_code == 10
    assert "self-test of onnx-fp32 on onnxruntime: differs" in result.stdout
    assert "do not use it on this device" in result.stdout


def test_the_clock(own_bundle: Path) -> None:
    past = datetime(1970, 1, 2, tzinfo=timezone.utc)
    assert doctor._clock(past).word == "bad"
    assert "set the clock" in str(doctor._clock(past).remedy)
    assert doctor._clock(datetime(2026, 7, 1, tzinfo=timezone.utc)).word == "good"
    with open_bundle(own_bundle) as bundle:
        assert list(doctor._age(bundle)) == []
        (finding,) = doctor._age(bundle, datetime(2024, 12, 31, tzinfo=timezone.utc))
        assert (finding.about, finding.word) == ("clock", "bad")


def test_memory_and_what_to_do_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(memory: Memory) -> Finding:
        monkeypatch.setattr(doctor, "memory_here", lambda: memory)
        return doctor._memory()

    assert found(Memory(4000 * MB)).word == "good"
    assert "close other programs" in str(found(Memory(100 * MB)).remedy)
    limited = found(Memory(100 * MB, 256 * MB, "cgroup v2"))
    assert "256 MB by cgroup v2" in limited.found
    assert "raise the limit" in str(limited.remedy)
    unknown = found(Memory(None))
    assert unknown.word == "look"
    assert unknown.remedy


def _machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    content = {"proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4096000 kB\n", "proc/self/cgroup": groups, **files}
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_limits_of_control_groups_are_found_where_the_process_is(tmp_path: Path) -> None:
    v2 = "sys/fs/cgroup/system.slice"
    root = _machine(
        tmp_path / "v2", "0::/system.slice/edge.service\n",
        {
            f"{v2}/memory.max": f"{600 * MB}\n", f"{v2}/memory.current": f"{100 * MB}\n",
            f"{v2}/edge.service/memory.max": "max\n", f"{v2}/edge.service/memory.current": "1000\n",
        },
    )  # fmt: skip
    found = memory_here(root)
    assert (found.limit, found.available, found.limited_by) == (600 * MB, 500 * MB, "cgroup v2")
    (root / f"{v2}/edge.service/memory.max").write_text(f"{512 * MB}\n")
    (root / f"{v2}/edge.service/memory.current").write_text(f"{200 * MB}\n")
    (root / f"{v2}/edge.service/memory.stat").write_text(f"anon 5\ninactive_file {50 * MB}\n")
    found = memory_here(root)
    assert (found.limit, found.available) == (512 * MB, 362 * MB), "cache that can be given up is not used up"

    v1 = "sys/fs/cgroup/memory"
    root = _machine(
        tmp_path / "v1", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n",
        {  # in a container the group itself is the mount's root
            f"{v1}/memory.limit_in_bytes": f"{256 * MB}\n", f"{v1}/memory.usage_in_bytes": f"{56 * MB}\n",
        },
    )  # fmt: skip
    found = memory_here(root)
    assert (found.limit, found.available, found.limited_by) == (256 * MB, 200 * MB, "cgroup v1")
    (root / f"{v1}/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_here(root) == Memory(4096000 * 1024), "no limit"
    assert memory_here(_machine(tmp_path / "none", "0::/\n", {})) == Memory(4096000 * 1024)


def test_disks_of_the_site_and_the_out_folder_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full"
    full.mkdir()
    usage = shutil.disk_usage(tmp_path)

    def disk_usage(place: Path) -> Any:
        return usage._replace(free=3 * MB if full in (place, *place.parents) else 5000 * MB)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert only(examine(site=tmp_path / "site"), "disk").word == "good"
    for places in ({"site": full / "site"}, {"out": full / "out"}):
        finding = only(examine(**places), "disk", "3 MB free")
        assert finding.word == "bad"
        assert str(full) in finding.found
        assert "records delete" in str(finding.remedy)
    monkeypatch.setenv("XDG_DATA_HOME", str(full))
    assert only(examine(), "disk", "3 MB free").word == "bad", "without a site, the one that the page would take"


def test_signatures(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(examine(), "signatures").word == "good"
    assert only(examine(tiny_bundle, selftest=False), "bundle", "not signed").word == "look"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "broken.pub").write_text("no key")
    finding = only(examine(), "signatures")
    assert finding.word == "bad"
    assert finding.remedy


def test_a_backend_that_is_there_and_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "why_unavailable", lambda kind: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    finding = only(examine(), "backend", "cannot be loaded")
    assert finding.word == "bad"
    assert "--force-reinstall" in str(finding.remedy)


@pytest.mark.parametrize(
    ("providers", "gpus", "word", "told"),
    [
        (["CPUExecutionProvider"], (), None, ""),
        (["CPUExecutionProvider"], ("NVIDIA A2",), "look", "does not use it"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], ("NVIDIA A2",), "good", "--backend onnxruntime-cuda"),
        (["TensorrtExecutionProvider", "CUDAExecutionProvider"], (), "good", "onnxruntime-tensorrt"),
    ],
)
def test_a_gpu_is_named_and_how_it_can_be_used(
    monkeypatch: pytest.MonkeyPatch, providers: list[str], gpus: tuple[str, ...], word: str | None, told: str
) -> None:
    fake = type("onnxruntime", (), {"get_available_providers": staticmethod(lambda: providers)})
    monkeypatch.setattr(doctor, "import_module", lambda name: fake)
    monkeypatch.setattr(doctor, "gpu_names", lambda: gpus)
    findings = list(doctor._onnxruntime())
    assert [f.word for f in findings] == ([word] if word else [])
    assert all(told in f.found and (f.remedy or f.word == "good") for f in findings)
    assert {v.name for v in VARIANTS.values() if hasattr(v, "provider")} == {"onnxruntime-cuda", "onnxruntime-tensorrt"}


def test_gpus_are_named_by_the_driver_or_the_board(tmp_path: Path) -> None:
    assert (gpu_names(tmp_path), gpu_driver(tmp_path)) == ((), None)
    folder = tmp_path / "proc/driver/nvidia"
    for number, model in enumerate(("NVIDIA H100 80GB HBM3", "NVIDIA A2")):
        (folder / f"gpus/0000:0{number}:00.0").mkdir(parents=True)
        text = f"Model: \t\t {model}\nIRQ:   \t\t 60\nGPU UUID: \t GPU-1\n"
        (folder / f"gpus/0000:0{number}:00.0/information").write_text(text)
    (folder / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\nGCC version: 12\n")
    assert gpu_names(tmp_path) == ("NVIDIA H100 80GB HBM3", "NVIDIA A2")
    assert gpu_driver(tmp_path) == "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54"
    jetson = tmp_path / "jetson"
    (jetson / "proc/device-tree").mkdir(parents=True)
    (jetson / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    assert gpu_names(jetson) == ("NVIDIA Jetson Orin Nano Developer Kit",)
    (jetson / "proc/device-tree/model").write_bytes(b"Raspberry Pi 4 Model B\0")
    assert gpu_names(jetson) == ()


def test_the_doctor_finds_what_is_wrong(own_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    chest_png.rename(inbox / "film.png")
    command = ("watch", own_bundle, inbox, "--out", out, "--site", out / "site", "--once", "--settle", 0)
    assert run_command(*command).exit_code == 0
    assert "database whole, audit log unbroken" in run_command("doctor", "--site", out / "site").stdout
    assert "database whole" not in run_command("doctor").stdout
    (tmp_path / "data").mkdir()
    shutil.copytree(out / "site", tmp_path / "data" / "edge-runtime")
    assert "database whole" in run_command("doctor").stdout, "this user's own records are looked at unasked"
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

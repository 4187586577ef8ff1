"""Wheelhouse, installer and units, with wheels of a few hundred bytes in place of the real ones."""

from __future__ import annotations

import base64
import configparser
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = ROOT / "offline"
UNITS = ("watch", "receive", "serve")


def write_wheel(folder: Path, name: str, *, needs: tuple[str, ...] = (), scripts: dict[str, str] | None = None) -> Path:
    """Write a wheel with one module; ``scripts`` maps a command to what it prints."""
    module, version = name.replace("-", "_"), "0.1.0"
    lines = "".join(f"def {key.replace('-', '_')}():\n    print({text!r})\n" for key, text in (scripts or {}).items())
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    extras = "".join(f"Provides-Extra: {e}\n" for e in ("node", "openvino") if any(e in need for need in needs))
    info = f"{module}-{version}.dist-info"
    points = "".join(f"{key} = {module}:{key.replace('-', '_')}\n" for key in scripts or {})
    files = {
        f"{module}.py": lines or "x = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}{extras}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{points}",
    }
    digest = {n: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=") for n, t in files.items()}
    record = "".join(f"{n},sha256={digest[n].decode()},{len(t.encode())}\n" for n, t in files.items())
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for entry, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(entry, text)
    return path


@pytest.fixture
def wheelhouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """offline/wheelhouse.py, with a package index of four tiny wheels and ours one of them."""
    spec = importlib.util.spec_from_file_location("wheelhouse", OFFLINE / "wheelhouse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    index = tmp_path / "index"
    index.mkdir()
    for name in ("tiny-base", "tiny-node", "tiny-openvino"):
        write_wheel(index, name, scripts={"tiny-tool": "tool"} if name == "tiny-base" else None)
    needs = ("tiny-base", 'tiny-node; extra == "node"', 'tiny-openvino; extra == "openvino"')
    commands = {"edge-runtime": "edge-runtime, version 0.1.0"}
    monkeypatch.setattr(
        module, "build_ours", lambda folder: write_wheel(folder, "cxr-edge-runtime", needs=needs, scripts=commands)
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return module


def collect(wheelhouse: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wheelhouse.py", "--out", str(out), *more])
    return int(wheelhouse.main())


def test_a_wheelhouse_holds_every_wheel_with_its_hash(
    wheelhouse: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "house"
    assert collect(wheelhouse, monkeypatch, out) == 0
    for machine in ("x86_64", "aarch64"):
        lines = (out / f"requirements-{machine}.txt").read_text().splitlines()
        pinned = dict(line.split(" --hash=sha256:") for line in lines)
        wheels = {path.name: path for path in (out / machine).glob("*.whl")}
        assert sorted(pinned) == [
            f"{name}==0.1.0" for name in ("cxr_edge_runtime", "tiny_base", "tiny_node", "tiny_openvino")
        ], "node and openvino come along unasked"
        for name, digest in pinned.items():
            wheel = wheels[f"{name.replace('==', '-')}-py3-none-any.whl"]
            assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
    names = {path.name for path in out.iterdir()}
    assert {"PYTHON", "README.md", "install.sh", *(f"edge-runtime-{name}.service" for name in UNITS)} <= names
    assert not list(out.glob("*.whl")), "ours lies with the others"
    assert collect(wheelhouse, monkeypatch, out, "--machine", "x86_64", "--base") == 0
    assert len((out / "requirements-x86_64.txt").read_text().splitlines()) == 2
    assert not (out / "aarch64").exists(), "the old one was replaced as a whole"


def test_a_wheelhouse_that_fails_leaves_the_old_one(
    wheelhouse: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "house"
    collect(wheelhouse, monkeypatch, out, "--machine", "x86_64")
    before = sorted(out.rglob("*"))
    (tmp_path / "index" / "tiny_node-0.1.0-py3-none-any.whl").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        collect(wheelhouse, monkeypatch, out, "--machine", "x86_64")
    assert sorted(out.rglob("*")) == before
    assert not list(tmp_path.glob(".house*"))


def test_make_collects_every_command(tmp_path: Path) -> None:
    lines = (ROOT / "Makefile").read_text().partition("\nwheelhouse:")[2].partition("\n\n")[0]
    assert "--extra node" in lines
    assert "--extra openvino" in lines


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_installer_needs_no_network_and_swaps_what_is_there(
    wheelhouse: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    house = tmp_path / "usb stick" / "house"  # a path with a space, as sticks have
    house.parent.mkdir()
    machine = "aarch64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"
    collect(wheelhouse, monkeypatch, house, "--machine", machine)
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # nobody is there
    monkeypatch.setenv("PYTHON", sys.executable)
    target = tmp_path / "opt" / "edge runtime"

    def install() -> subprocess.CompletedProcess[str]:
        command = ["sh", str(house / "install.sh"), str(target)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    (target / "bin").mkdir(parents=True)
    (target / "bin" / "of an older version").touch()
    done = install()
    assert done.returncode == 0, done.stderr
    assert not (target / "bin" / "of an older version").exists(), "swapped, not mixed"
    assert f"Installed: {target}/bin/edge-runtime (edge-runtime, version 0.1.0)" in done.stdout
    for command, text in (("edge-runtime", "edge-runtime, version 0.1.0"), ("tiny-tool", "tool")):
        said = subprocess.run([target / "bin" / command], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == text, "every script finds its interpreter, not ours alone"
    pip = subprocess.run([target / "bin/pip", "--version"], capture_output=True, text=True, check=True)
    assert str(target) in pip.stdout
    for path in [target / "pyvenv.cfg", *(target / "bin").iterdir()]:
        if not path.is_symlink() and path.is_file():
            assert f"{target}.new".encode() not in path.read_bytes(), path
    (target / "marker").touch()
    wheel = next((house / machine).glob("tiny_base*.whl"))
    with zipfile.ZipFile(wheel, "a") as changed:
        changed.writestr("more.py", "x = 2\n")
    tampered = install()
    assert tampered.returncode != 0
    assert "HASH" in tampered.stderr.upper()
    assert (target / "marker").exists(), "the one that runs is still there"
    assert not Path(f"{target}.old").exists()
    shutil.rmtree(house / machine)
    (house / f"requirements-{machine}.txt").unlink()
    missing = install()
    assert missing.returncode == 1
    assert "there are no wheels for" in missing.stderr
    assert "remedy" in missing.stderr


@pytest.mark.parametrize("name", UNITS)
def test_each_unit_starts_what_the_command_line_knows(name: str, tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    text = (OFFLINE / f"edge-runtime-{name}.service").read_text()
    unit.read_string(text)
    program, command, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert (Path(program).name, command) == ("edge-runtime", name)
    (tmp_path / "inbox").mkdir()
    arguments = [str(tmp_path / "inbox") if a.endswith("/inbox") else a for a in arguments]
    from edge_runtime.cli import commands

    known = commands.get_command(click.Context(commands), name)
    assert known is not None
    known.make_context(name, arguments)  # raises on an option that is not there
    environment = [line.partition("=")[2] for line in text.splitlines() if line.startswith("Environment=")]
    named = dict(entry.split("=", 1) for entry in environment)
    assert set(named) >= {"EDGE_RUNTIME_SITE", "EDGE_RUNTIME_CACHE", "EDGE_RUNTIME_TRUSTED_KEYS"}, "the home is shut"
    assert unit["Service"]["ProtectHome"] == "yes"
    assert named["EDGE_RUNTIME_CACHE"].startswith("/var/cache/" + unit["Service"]["CacheDirectory"])
    assert named["EDGE_RUNTIME_SITE"].startswith("/var/lib/" + unit["Service"]["StateDirectory"])
    if shutil.which("systemd-analyze"):
        own = tmp_path / f"edge-runtime-{name}.service"
        own.write_text(text.replace(program, "/bin/true").replace("User=edge-runtime", "User=root"))
        done = subprocess.run(["systemd-analyze", "verify", str(own)], capture_output=True, text=True, check=False)
        assert own.name not in done.stderr, done.stderr

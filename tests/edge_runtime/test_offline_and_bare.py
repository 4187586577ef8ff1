"""The field runtime alone: no torch, no workshop, no network; and a wheel that holds nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_GUARD = """
import socket, sys

class Forbidden:
    names = {"torch", "torchvision", "fastai", "fastcore", "pytorchcv", "onnx", "nncf", "train", "export"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbidden())

def refuse(*arguments):
    raise SystemExit("it opened a connection")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""


def _guarded(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _GUARD + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)


def test_every_module_imports_without_torch() -> None:
    code = """
import importlib, pkgutil, edge_runtime
for module in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = _guarded(code)
    assert done.returncode == 0, done.stderr


def test_it_answers_without_torch_and_without_a_network(tiny_bundle: Path, chest_dicom: Path) -> None:
    code = """
from edge_runtime.cli import commands
commands(sys.argv[1:])
"""
    done = _guarded(code, "predict", tiny_bundle, chest_dicom, "--json")
    assert done.returncode == 0, done.stderr
    assert '"status":"ok"' in done.stdout
    done = _guarded(code, "selftest", tiny_bundle)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torchscript", "lite"])
def test_no_backend_opens_a_connection(every_format_bundle: Path, chest_png: Path, backend: str) -> None:
    """No socket in this process, nor in the decoder's, which is forked from it and watched by the same hook; and no
    other program is started."""
    code = """
import os, sys

def watch(event, arguments):
    connecting = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
    if event.startswith((*connecting, "os.exec", "os.posix_spawn", "subprocess.")):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(99)

sys.addaudithook(watch)
from edge_runtime.cli import commands
try:
    commands(sys.argv[1:])
finally:
    assert sys.modules.get("openvino_telemetry") is None, "OpenVINO's telemetry was imported"
"""
    command = [sys.executable, "-c", code, "predict", str(every_format_bundle), str(chest_png), "--json"]
    done = subprocess.run(
        [*command, "--backend", backend], capture_output=True, text=True, check=False, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert f'"backend":"{backend}"' in done.stdout


def test_a_torchscript_artifact_without_torch_names_the_line_that_installs_it(
    every_format_bundle: Path, chest_png: Path
) -> None:
    code = """
from edge_runtime.cli import commands
commands(sys.argv[1:])
"""
    done = _guarded(code, "predict", every_format_bundle, chest_png, "--backend", "torchscript")
    assert done.returncode == 1
    assert 'pip install "cxr-edge-runtime[torchscript]"' in done.stderr
    done = _guarded(code, "selftest", every_format_bundle, "--json")
    assert done.returncode == 0
    assert done.stdout.count('"not_installed"') == 2


def test_a_cold_prediction_imports_nothing_that_it_does_not_use(tiny_bundle: Path, chest_dicom: Path) -> None:
    code = """
import atexit
@atexit.register
def tell():
    heavy = {"rich", "flask", "cheroot", "openvino", "torch", "edge_runtime.heatmap", "edge_runtime.golden"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
from edge_runtime.cli import commands
commands(sys.argv[1:])
"""
    done = _guarded(code, "predict", tiny_bundle, chest_dicom, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_wheel_holds_the_field_runtime_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="setuptools is not installed: no wheel can be built here")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "edge_runtime", "train", "export"):
        if (ROOT / name).is_dir():
            import shutil

            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).is_file():
            (source / name).write_bytes((ROOT / name).read_bytes())
        else:
            pytest.skip(f"{name} is not here")
    code = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"edge_runtime"}
    assert "edge_runtime/py.typed" in names
    assert "edge_runtime/commands/predict.py" in names
    assert [n for n in names if n.startswith("edge_runtime/web/templates/")]
    assert wheel.name.endswith("py3-none-any.whl")

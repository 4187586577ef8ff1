"""A disk that fills up, a signal: one message, the bundle that was there as it was, nothing half-written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.bundle import BundleWriter, open_bundle
from tests.export.test_build import snapshot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits and signals of POSIX")

REPOSITORY = Path(__file__).parents[2]
LIMITED = (
    "import resource, sys\n"
    "from export.cli import main\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))\n"
    "main()\n"
)
"""Python ignores SIGXFSZ, so a write beyond the limit is an error, as it is on a full disk."""
WRITERS_UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np
from export.build_int8 import settings_of
from export.errors import ExportError
from export.formats import WRITERS
from export.graph import deployable_graph
from export.quantization.layers import find_layers
from export.quantization.onnx_weights import write_half as half_onnx
from export.quantization.openvino_int8 import write_half as half_openvino
from export.quantization.quantizers import open_quantizer
from export.quantization.sensitivity import mean_inputs
from train.run import load_run

folder = Path(sys.argv[2])
graph = deployable_graph(load_run(sys.argv[1]))
images = tuple(np.random.default_rng(n).integers(0, 256, (graph.size,) * 2, np.uint8) for n in range(2))
layers, means = find_layers(graph), dict(mean_inputs(graph, images))
work = {}
for name in ("onnx", "openvino"):
    WRITERS[name].write(graph, folder / f"{name}-fp32{WRITERS[name].suffixes[0]}")
def int8(name):
    fp32 = folder / f"{name}-fp32{WRITERS[name].suffixes[0]}"
    quantizer = open_quantizer(name, graph, layers, images, means, fp32, folder)
    return lambda: quantizer.write(folder / f"{name}-int8{WRITERS[name].suffixes[0]}", settings_of(name, {}))
tries = {f"{name}-int8": int8(name) for name in ("onnx", "openvino", "torchscript", "lite")}
tries["onnx-fp16"] = lambda: half_onnx(folder / "onnx-fp32.onnx", folder / "half.onnx")
tries["openvino-fp16"] = lambda: half_openvino(folder / "openvino-fp32.xml", folder / "half.xml")
for name in ("onnx", "openvino", "torchscript", "lite"):
    tries[f"{name}-fp32"] = lambda name=name: WRITERS[name].write(graph, folder / f"new{WRITERS[name].suffixes[0]}")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
for name, write in tries.items():
    try:
        write()
    except (ExportError, OSError) as error:
        print(name, "said")
    except Exception as error:
        print(name, "raised", type(error).__name__)
    else:
        print(name, "wrote")
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def listen_to_interrupts() -> None:
    """A job in a shell's background inherits that SIGINT is ignored, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def out(bundle_folder: Path, tmp_path: Path) -> Path:
    """A bundle that is there already."""
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("formats", "limit", "named"),
    [
        ("torchscript", 4_000_000, "File too large"),
        ("openvino", 4_000_000, "openvino-fp32.xml cannot be written"),
        ("lite", 2_000, "File too large"),
    ],
)
def test_a_full_disk_is_one_message(formats: str, limit: int, named: str, run_folder: Path, out: Path) -> None:
    before = snapshot(out)
    command = ["build", "--run", run_folder, "--out", out, "--no-int8", "--formats", formats]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *map(str, command)],
        capture_output=True, text=True, check=False, env=environment(), cwd=out.parent,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    message = " ".join(done.stderr.split())
    assert named in message and "remedy:" in message and "unexpected" not in message
    assert snapshot(out) == before and [p.name for p in out.parent.iterdir()] == ["bundle"]


def test_no_writer_ends_the_process_or_passes_a_cut_file(run_folder: Path, tmp_path: Path) -> None:
    """Each writer where a file may have a megabyte: an error of ours or the system's, and no signal."""
    done = subprocess.run(
        [sys.executable, "-c", WRITERS_UNDER_A_LIMIT, str(run_folder), str(tmp_path)],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert len(said) == 10 and set(said.values()) == {"said"}, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_old_bundle_and_nothing_else(
    number: signal.Signals, code: int, run_folder: Path, out: Path
) -> None:
    before = snapshot(out)
    command = ["build", "--run", run_folder, "--out", out, "--no-int8", "--formats", "torchscript,lite"]
    process = subprocess.Popen(
        [sys.executable, "-m", "export", *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=out.parent,
        preexec_fn=listen_to_interrupts,
    )  # fmt: skip
    half_done = out.parent / ".bundle.building/artifacts/torchscript-fp32.pt"
    deadline = time.monotonic() + 300
    while not half_done.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert half_done.exists(), "the build was not caught in the middle: the test showed nothing"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == code and "Stopped." in stderr and "Traceback" not in stderr
    assert snapshot(out) == before and [p.name for p in out.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_signal_while_the_new_bundle_is_swapped_in(
    renames: int, bundle_folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After none, one, both of the two renames: the old bundle or the new one, whole, and nothing beside it."""
    with open_bundle(bundle_folder) as opened:
        new = opened.manifest
    before = snapshot(out)
    done = 0
    rename = Path.rename

    def stopped(self: Path, target: Path) -> Path:
        nonlocal done
        if done == renames:
            done = 99
            raise KeyboardInterrupt
        done += 1
        return rename(self, target)

    def synced(path: Path) -> None:
        if done == renames == 2 and path == out.parent:
            raise KeyboardInterrupt

    monkeypatch.setattr("edge_runtime.bundle.writing._sync", synced)
    with pytest.raises(KeyboardInterrupt), BundleWriter(out) as writer:
        for entry in new.all_files():
            (writer.root / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bundle_folder / entry.path, writer.root / entry.path)
        monkeypatch.setattr(Path, "rename", stopped)
        writer.commit(new)
    assert snapshot(out) == before
    assert [p.name for p in out.parent.iterdir()] == ["bundle"]

"""The native library cross-compiled for aarch64 with torch 2.1.0, in emulation: the numbers, no timing. Opt-in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.golden import load_golden
from tests.mobile.native_build import NATIVE

pytestmark = pytest.mark.mobile


def test_golden_vectors_on_aarch64(mobile_bundle: Path, tmp_path: Path, lite_artifact: str) -> None:
    named = os.environ.get("CXR_AARCH64_TORCH")
    if not named:
        pytest.skip("opt-in: CXR_AARCH64_TORCH names no unpacked wheel of torch 2.1.0 for aarch64 (docs/mobile.md)")
    for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian: apt-get install g++-aarch64-linux-gnu qemu-user)")
    wheel = Path(named)
    program = build(wheel, tmp_path / "build")
    with open_bundle(mobile_bundle) as bundle:
        agreement = next(a for a in bundle.manifest.artifacts if a.name == lite_artifact).golden_agreement
        vectors = load_golden(bundle)
    largest, differing = 0.0, 0
    for vector in vectors[:4]:  # emulation is slow
        raw = tmp_path / "pixels.raw"
        raw.write_bytes(np.asarray(Image.open(mobile_bundle / vector.name)).tobytes())
        height, width = vector.pixels.shape
        libraries = f"{wheel / 'torch/lib'}:{wheel / 'torch.libs'}"
        command = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={libraries}", program]
        command += [mobile_bundle, lite_artifact, str(height), str(width), raw]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-3000:]
        got = np.array([float(part.split()[-1]) for part in done.stdout.strip().split(", ")])
        wanted = vector.outputs["probabilities"][0]
        largest = max(largest, float(np.abs(got - wanted).max()))
        differing += int(got.argmax() != wanted.argmax())
    print(f"{lite_artifact} on aarch64: largest difference {largest:.3g}, other decisions {differing}")
    assert largest <= agreement.max_abs_probability_difference
    assert differing <= agreement.differing_decisions


def build(wheel: Path, folder: Path) -> Path:
    """Cross-compile; the wheel of 2.1.0 has the old C++ ABI, and its libraries find each other at run time."""
    include, lib = wheel / "torch/include", wheel / "torch/lib"
    libraries = ";".join(str(lib / name) for name in ("libtorch.so", "libtorch_cpu.so", "libc10.so"))
    configure = [
        "cmake", "-G", "Ninja", "-S", NATIVE, "-B", folder, "-DCMAKE_BUILD_TYPE=Test", "-DCMAKE_CXX_FLAGS_TEST=-O1",
        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc",
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++", "-DCMAKE_CXX_FLAGS=-D_GLIBCXX_USE_CXX11_ABI=0",
        "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined", "-DCXR_CLI=OFF", "-DCXR_TESTS=OFF", "-DCXR_EXAMPLE=ON",
        f"-DCXR_TORCH_INCLUDE_DIR={include};{include / 'torch/csrc/api/include'}", f"-DCXR_TORCH_LIBRARIES={libraries}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", folder]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder / "classify_raw"

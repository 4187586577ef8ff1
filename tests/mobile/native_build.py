"""Building mobile_demo's native parts for the tests: once a session, with sanitizers, against the torch wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "mobile_demo/native"
ANDROID = ROOT / "mobile_demo/android"
JAVA_SOURCES = ANDROID / "app/src/main/java"

INSTALL = "Debian: apt-get install cmake ninja-build g++ libpng-dev libjpeg-dev openjdk-17-jdk-headless"


@dataclass(frozen=True)
class NativeBuild:
    """A build folder: ``cxr_classify`` and ``cxr_tests`` with sanitizers, ``libcxr_jni`` without, ctest's cases."""

    folder: Path
    has_jni: bool

    @property
    def program(self) -> Path:
        return self.folder / "cxr_classify"


def need_compiler() -> None:
    """Skip, naming what is missing."""
    missing = [tool for tool in ("cmake", "ninja", "c++") if shutil.which(tool) is None]
    if not (Path("/usr/include/png.h").exists() and Path("/usr/include/jpeglib.h").exists()):
        missing.append("libpng and libjpeg headers")
    if missing:
        pytest.skip(f"no {', '.join(missing)} here ({INSTALL})")


def java_home() -> Path | None:
    """The folder of a JDK: JAVA_HOME, else where javac is."""
    javac = shutil.which("javac")
    named = os.environ.get("JAVA_HOME")
    home = Path(named) if named else Path(javac).resolve().parents[1] if javac else None
    return home if home and (home / "include/jni.h").exists() else None


def need_jdk() -> Path:
    home = java_home()
    if home is None:
        pytest.skip(f"no JDK here ({INSTALL})")
    return home


def build_native(folder: Path, bundle: Path) -> NativeBuild:
    """Configure and build everything that the tools here allow."""
    import torch

    home = java_home()
    environment = {**os.environ, **({"JAVA_HOME": str(home)} if home else {})}
    configure = [
        "cmake", "-G", "Ninja", "-S", str(NATIVE), "-B", str(folder),
        "-DCMAKE_BUILD_TYPE=Test", "-DCMAKE_CXX_FLAGS_TEST=-O1", "-DCMAKE_C_FLAGS_TEST=-O1",
        "-DCXR_SANITIZE=ON", f"-DCXR_JNI={'ON' if home else 'OFF'}", f"-DCXR_TEST_BUNDLE={bundle}",
        f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output[-6000:]
        warnings = [line for line in output.splitlines() if "mobile_demo" in line and "warning:" in line]
        assert not warnings, "\n".join(warnings)
    return NativeBuild(folder, home is not None)

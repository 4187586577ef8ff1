"""The ONNX artifacts on plainer CPUs than this one, emulated. Opt-in: it takes minutes.

``CXR_EMULATED_CPU=1 python -m pytest tests/export/test_emulated_cpu.py``, with ``qemu-x86_64`` (Debian: qemu-user).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ASKED = "CXR_EMULATED_CPU"
_SCRIPT = Path(__file__).with_name("emulated_cpu.sh")
_RELEASE = Path(__file__).parents[2] / "models/covidx-b1/bundle"

pytestmark = [
    pytest.mark.skipif(not os.environ.get(_ASKED), reason=f"{_ASKED} is not set: emulation takes minutes"),
    pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-x86_64 is not installed (Debian: qemu-user)"),
    pytest.mark.timeout(1800),
]


@pytest.mark.parametrize("cpu", ["Nehalem", "Haswell"])
def test_onnx_answers_the_golden_vectors_on_a_plainer_cpu(cpu: str) -> None:
    """Nehalem has no AVX; Haswell has AVX2 and no VNNI, where products of uint8 and int8 saturate."""
    done = subprocess.run(
        [str(_SCRIPT), str(_RELEASE), "onnx-int8"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHON": sys.executable, "CPUS": cpu, "OPTIONS": "--json"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    heading, said = done.stdout.strip().splitlines()[:2]
    assert heading == f"== {cpu}"
    (tested,) = json.loads(said)["artifacts"]
    assert tested["artifact"] == "onnx-int8" and tested["status"] in ("agrees", "as_built")


def test_the_emulated_cpu_is_the_plainer_one() -> None:
    """Were the CPU's name passed over, the tests above would prove nothing."""
    python = Path(sys.executable).resolve()
    code = (
        "import ctypes, mmap; page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); "
        # cpuid leaf 7, subleaf 0: mov eax,7; xor ecx,ecx; push rbx; cpuid; mov eax,ebx; pop rbx; ret
        "page.write(bytes.fromhex('b80700000031c9530fa289d85bc3')); "
        "address = ctypes.addressof(ctypes.c_char.from_buffer(page)); "
        "print(ctypes.CFUNCTYPE(ctypes.c_uint32)(address)() >> 5 & 1)"
    )
    has_avx2 = {
        cpu: subprocess.run(
            ["qemu-x86_64", "-cpu", cpu, str(python), "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        for cpu in ("Nehalem", "Haswell")
    }
    assert has_avx2 == {"Nehalem": "0", "Haswell": "1"}

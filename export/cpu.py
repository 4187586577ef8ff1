"""What CPU this is: an int8 artifact can answer differently where the CPU multiplies int8 in another way."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["FEATURES", "cpu_features", "cpu_model"]

FEATURES = (
    # x86-64
    "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    # aarch64
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""Features that change how a network is computed, by the names of Linux's ``/proc/cpuinfo``."""


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the CPU as the system gives it."""
    fields = _read(cpuinfo)
    return fields.get("model name") or platform.processor() or fields.get("cpu part") or "unknown"


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of :data:`FEATURES` that the CPU has; empty where the system does not say (not Linux)."""
    fields = _read(cpuinfo)
    found = set((fields.get("flags") or fields.get("Features") or "").split())
    return tuple(name for name in FEATURES if name in found)


def _read(cpuinfo: Path) -> dict[str, str]:
    """The first processor's fields."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}

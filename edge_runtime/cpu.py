"""What CPU this is: a quantized artifact can answer differently where the CPU multiplies int8 in another way."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edge_runtime.manifest import Artifact

__all__ = ["FEATURES", "INT8_FEATURES", "cpu_features", "cpu_model", "why_not_validated_here"]

FEATURES = (
    # x86-64
    "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    # aarch64
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""Features that change how a network is computed, by the names of Linux's ``/proc/cpuinfo``."""

INT8_FEATURES = (
    "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
"""Of these, the ones by which the runtimes choose kernels for int8 and bfloat16. U8 x S8 products saturate at 16 bits
on AVX2 and AVX-512 without VNNI and do not with it, so the same file answers differently."""

_ISA_MASK = "ONEDNN_MAX_CPU_ISA"


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the CPU as the system gives it."""
    fields = _read(cpuinfo)
    return fields.get("model name") or platform.processor() or fields.get("cpu part") or "unknown"


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of :data:`FEATURES` that the CPU has; empty where the system does not say (not Linux)."""
    fields = _read(cpuinfo)
    found = set((fields.get("flags") or fields.get("Features") or "").split())
    return tuple(name for name in FEATURES if name in found)


def why_not_validated_here(
    artifact: Artifact, *, machine: str | None = None, features: tuple[str, ...] | None = None
) -> str | None:
    """Say in what this CPU is of another kind than the one the artifact was validated on; None where it is not.

    fp32 is held to 1e-4 on every CPU, so for it only another machine (x86_64, aarch64) counts. For every other
    precision the features of :data:`INT8_FEATURES` count, and for OpenVINO a mask in ``ONEDNN_MAX_CPU_ISA``.

    Parameters
    ----------
    machine, features
        Of this CPU; None asks the system.
    """
    machine = platform.machine() if machine is None else machine
    features = cpu_features() if features is None else features
    validated = artifact.validated_on
    if machine != validated.machine:
        return f"validated on {validated.machine}, this is {machine}"
    if artifact.precision == "fp32":
        return None
    differences = []
    if not features or not validated.cpu_features:
        differences.append(
            "the CPU's features are not known " + ("here" if not features else "of where it was validated")
        )
    else:
        there, here = set(validated.cpu_features), set(features)
        lacks = [name for name in INT8_FEATURES if name in there and name not in here]
        has = [name for name in INT8_FEATURES if name in here and name not in there]
        differences += [f"this CPU lacks {', '.join(lacks)}"] if lacks else []
        differences += [f"this CPU also has {', '.join(has)}"] if has else []
    mask = os.environ.get(_ISA_MASK)
    if mask and artifact.format == "openvino":
        differences.append(f"{_ISA_MASK}={mask} masks what this CPU has")
    return "; ".join(differences) or None


def _read(cpuinfo: Path) -> dict[str, str]:
    """The first processor's fields."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}

"""Memory of this process, for the training log: used now, and the peak since it was last asked."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import torch

__all__ = ["MemoryUse", "read_memory", "reset_peak"]

MemoryUse = tuple[float, float]


def read_memory(device: torch.device) -> MemoryUse:
    """Return (used, peak) in MB (10^6 bytes): of the GPU's allocator on CUDA, of the whole process elsewhere.

    The peak counts from the last :func:`reset_peak` on CUDA and Linux, from the start of the process elsewhere.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 1e6, torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return tuple(int(fields[k].split()[0]) * 1024 / 1e6 for k in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
    scale = 1.0 if sys.platform == "darwin" else 1024.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
    return peak, peak


def reset_peak(device: torch.device) -> None:
    """Start a new peak, where the system lets us."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: reset VmHWM to VmRSS

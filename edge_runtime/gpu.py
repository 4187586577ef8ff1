"""Which GPU this device has, asked without a driver library: what is measured on one does not hold for another."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["gpu_driver", "gpu_names"]


def gpu_names(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the NVIDIA GPUs as the kernel's driver gives them, a Jetson by its board; empty where there is none.

    Linux only; Windows, and Linux in Windows, do not tell without a library.

    Parameters
    ----------
    root
        Where ``proc`` lies.
    """
    names = []
    with suppress(OSError):
        for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
            fields = (line.partition(":") for line in information.read_text().splitlines())
            names += [value.strip() for key, _, value in fields if key.strip() == "Model"]
    if not names:
        with suppress(OSError):
            board = (root / "proc/device-tree/model").read_text(errors="replace").strip("\0 \n")
            names += [board] if "NVIDIA" in board or "Jetson" in board else []
    return tuple(names)


def gpu_driver(root: Path = Path("/")) -> str | None:
    """First line of the NVIDIA kernel driver's version; None where it is not loaded."""
    with suppress(OSError, IndexError):
        return (root / "proc/driver/nvidia/version").read_text().splitlines()[0].strip()
    return None

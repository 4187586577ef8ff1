"""Where something was measured: what a report says of the machine and the software, and nothing of its owner."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from export.cpu import cpu_features, cpu_model

__all__ = ["PACKAGES", "describe_environment"]

PACKAGES = ("torch", "onnxruntime", "openvino", "nncf", "onnx", "executorch", "numpy", "pillow")
"""Whose versions change an answer."""


def describe_environment() -> dict[str, Any]:
    """Return operating system, Python, CPU and package versions as plain values."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cpu_features": list(cpu_features()),
        "cores": os.cpu_count(),
        "packages": versions,
    }

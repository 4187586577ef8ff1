"""What ``edge-runtime tune`` found on this device, looked up when a bundle is opened. Light: no backend is imported."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from edge_runtime.manifest import Manifest

__all__ = [
    "Tuned",
    "TuningRecord",
    "cache_folder",
    "conditions",
    "find_tuned",
    "installed_distribution",
    "package_version",
    "tuning_file",
]


class TuningRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept: the winner, and what it was measured on (:func:`conditions`)."""

    artifact: str
    backend: str
    conditions: dict[str, str]
    measured: str
    table: list[dict[str, str | float | None]]


@dataclass(frozen=True)
class Tuned:
    """The winner of a measurement; ``stale`` says why it no longer counts, or is None."""

    artifact: str
    backend: str
    stale: str | None


def conditions() -> dict[str, str]:
    """Return all that a measurement depends on beside the bundle and the number of threads: in words, by name.

    The CPU, the GPU and its driver, the runtime's version, and of each backend the distribution that is installed with
    its version: ``onnxruntime-gpu`` brings other providers than ``onnxruntime``.
    """
    from edge_runtime import __version__
    from edge_runtime.backends import BACKENDS
    from edge_runtime.cpu import cpu_model
    from edge_runtime.gpu import gpu_driver, gpu_names

    packages = sorted({kind.package for kind in BACKENDS.values()})
    return {
        "CPU": cpu_model(),
        "GPU": ", ".join(gpu_names()) or "none",
        "GPU driver": gpu_driver() or "none",
        "edge-runtime": __version__,
        **{package: installed_distribution(package) or "not installed" for package in packages},
    }


def find_tuned(manifest: Manifest, threads: int | None = None) -> Tuned | None:
    """Return what was measured for these artifacts on this device with so many threads, or None."""
    try:
        text = tuning_file(manifest, threads).read_bytes()
    except OSError:
        return None
    try:
        record = msgspec.json.decode(text, type=TuningRecord)
    except msgspec.DecodeError:
        return Tuned("", "", "What was tuned here cannot be read.")
    if manifest.artifact(record.artifact) is None:
        return Tuned("", "", "What was tuned here is not in the bundle.")
    here = conditions()
    changed = [name for name in {**record.conditions, **here} if record.conditions.get(name) != here.get(name)]
    stale = None
    if changed:
        name = changed[0]
        then, now = record.conditions.get(name, "unknown"), here.get(name, "unknown")
        stale = f"This bundle was tuned with another {name} ({then}; now {now})."
    return Tuned(record.artifact, record.backend, stale)


def tuning_file(manifest: Manifest, threads: int | None = None) -> Path:
    """Return where the measurement of a bundle is kept: by the hashes of its artifacts' files, and the threads."""
    digest = hashlib.sha256()
    for artifact in manifest.artifacts:
        for entry in artifact.files:
            digest.update(bytes.fromhex(entry.sha256))
    return cache_folder() / "tuning" / f"{digest.hexdigest()[:32]}-threads-{threads or 'auto'}.json"


def cache_folder() -> Path:
    """Return this user's cache folder: ``EDGE_RUNTIME_CACHE``, else where the system keeps caches."""
    named = os.environ.get("EDGE_RUNTIME_CACHE")
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "edge-runtime"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-runtime"


def package_version(package: str) -> str | None:
    """Return the installed version of a backend's package, without importing it; None where it is not installed."""
    found = installed_distribution(package)
    return None if found is None else found.rpartition(" ")[2]


def installed_distribution(package: str) -> str | None:
    """Return name and version of the distribution that brings a backend's package; None where it is not installed."""
    for name in (f"{package}-gpu", package):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None

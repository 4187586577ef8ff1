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

__all__ = ["Tuned", "TuningRecord", "cache_folder", "find_tuned", "package_version", "tuning_file"]


class TuningRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept: the winner, and what it was measured on."""

    artifact: str
    backend: str
    cpu: str
    package: str
    package_version: str
    runtime_version: str
    measured: str
    table: list[dict[str, str | float | None]]


@dataclass(frozen=True)
class Tuned:
    """The winner of a measurement; ``stale`` says why it no longer counts, or is None."""

    artifact: str
    backend: str
    stale: str | None


def find_tuned(manifest: Manifest) -> Tuned | None:
    """Return what was measured for these artifacts on this device, or None."""
    try:
        text = tuning_file(manifest).read_bytes()
    except OSError:
        return None
    try:
        record = msgspec.json.decode(text, type=TuningRecord)
    except msgspec.DecodeError:
        return Tuned("", "", "What was tuned here cannot be read.")
    if manifest.artifact(record.artifact) is None:
        return Tuned("", "", "What was tuned here is not in the bundle.")
    from edge_runtime.cpu import cpu_model

    stale = None
    here = package_version(record.package)
    if record.cpu != cpu_model():
        stale = f"This bundle was tuned on another CPU ({record.cpu})."
    elif here != record.package_version:
        stale = f"This bundle was tuned with {record.package} {record.package_version}, and {here} is installed."
    return Tuned(record.artifact, record.backend, stale)


def tuning_file(manifest: Manifest) -> Path:
    """Return where the measurement of a bundle is kept: by the hashes of its artifacts' files."""
    digest = hashlib.sha256()
    for artifact in manifest.artifacts:
        for entry in artifact.files:
            digest.update(bytes.fromhex(entry.sha256))
    return cache_folder() / "tuning" / f"{digest.hexdigest()[:32]}.json"


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
    for name in (package, f"{package}-gpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None

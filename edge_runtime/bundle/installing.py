"""Bundles installed side by side in one place, one of them current: swapped at once, and back again.

The place holds a folder a bundle and ``installed.json``, which is replaced atomically and names the current one.
Commands take the place where they take a bundle. What is running keeps the bundle that it opened until it is started
again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_runtime.bundle.opening import INSTALLED_NAME, open_bundle
from edge_runtime.bundle.packing import copy_bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import encode_manifest

__all__ = ["Installed", "current_bundle", "install_bundle", "installed_bundles", "roll_back"]


class Installed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bundle that was made current: its folder in the place, its name, when."""

    folder: str
    name: str
    installed: str


class _Installed(msgspec.Struct, forbid_unknown_fields=True):
    current: Installed
    earlier: list[Installed]  # newest first


def install_bundle(
    source: Path, place: Path, *, require_signature: bool = False, selftest: bool = True, keep: int = 2
) -> Installed:
    """Copy a bundle to ``place``, let it test itself there, and make it the current one.

    Until the last step the bundle that was current stays so, whatever happens.

    Parameters
    ----------
    selftest
        Refuse a bundle whose self-test does not pass on this device.
    keep
        So many earlier bundles stay, to go back to.

    Raises
    ------
    BundleError
        Damaged, not signed where that is required, or its self-test does not pass.
    """
    with open_bundle(source, require_signature=require_signature) as bundle:
        text = bundle.manifest_text or encode_manifest(bundle.manifest)
        entry = Installed(hashlib.sha256(text).hexdigest()[:16], bundle.manifest.name, _now())
        copy_bundle(bundle, place / entry.folder)
    with open_bundle(place / entry.folder, require_signature=require_signature) as copy:
        if selftest:
            from edge_runtime.selftest import run_selftest

            result = run_selftest(copy)
            if not result.passed:
                failed = [f"{a.artifact} {a.status.replace('_', ' ')}" for a in result.artifacts]
                raise BundleError(
                    f"bundle {source} does not pass its self-test on this device", got=", ".join(failed),
                    remedy="look at `edge-runtime selftest`; the bundle that was current still is",
                )  # fmt: skip
    before = _read(place) if (place / INSTALLED_NAME).exists() else None
    earlier = [] if before is None else [before.current, *before.earlier]
    earlier = [e for e in earlier if e.folder != entry.folder]
    _write(place, _Installed(entry, earlier[:keep]))
    kept = {entry.folder, *(e.folder for e in earlier[:keep])}
    for old in earlier[keep:]:
        if old.folder not in kept:
            shutil.rmtree(place / old.folder, ignore_errors=True)
    return entry


def roll_back(place: Path) -> Installed:
    """Make the bundle current that was so before. A second call goes back one further.

    Raises
    ------
    BundleError
        There is no earlier one, or its folder is gone.
    """
    state = _read(place)
    if not state.earlier:
        raise BundleError(f"{place} holds no earlier bundle to go back to", got=f"only {state.current.folder}")
    before, *others = state.earlier
    with open_bundle(place / before.folder):  # says what is wrong with it
        pass
    _write(place, _Installed(before, others))
    return before


def installed_bundles(place: Path) -> list[Installed]:
    """Return the current bundle and the earlier ones, newest first."""
    state = _read(place)
    return [state.current, *state.earlier]


def current_bundle(place: Path) -> Path:
    """Return the folder of the current bundle.

    Raises
    ------
    BundleError
        ``installed.json`` cannot be read.
    """
    return place / _read(place).current.folder


def _read(place: Path) -> _Installed:
    path = place / INSTALLED_NAME
    try:
        state = msgspec.json.decode(path.read_bytes(), type=_Installed)
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(
            f"{path} cannot be read", got=str(error), expected="what `edge-runtime bundle install` wrote",
            remedy="install the bundle again",
        ) from error  # fmt: skip
    for entry in (state.current, *state.earlier):
        if not entry.folder.isalnum():
            raise BundleError(f"{path} names a folder that it cannot have written", got=entry.folder)
    return state


def _write(place: Path, state: _Installed) -> None:
    target = place / INSTALLED_NAME
    temporary = target.with_name(f".{INSTALLED_NAME}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise BundleError(f"{target} cannot be written", got=error.strerror or str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

"""What could keep this device from answering, found before somebody waits for an answer."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from edge_runtime import __version__
from edge_runtime.backends import BACKENDS, VARIANTS, why_unavailable
from edge_runtime.bundle import open_bundle
from edge_runtime.cpu import cpu_features, cpu_model
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.tuned import find_tuned, package_version

__all__ = ["Finding", "Word", "examine"]

Word = Literal["good", "look", "bad"]
_MB = 2**20
_ENOUGH_MEMORY = 512 * _MB
_ENOUGH_DISK = 1024 * _MB
_BUILT = datetime(2025, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    about
        A word, such as ``memory``.
    word
        ``good``; ``look``: works, and somebody should know; ``bad``: will not work.
    found
        A plain sentence.
    remedy
        What to do; None where there is nothing to do.
    """

    about: str
    word: Word
    found: str
    remedy: str | None = None


def examine(bundle: Path | None = None, site: Path | None = None, selftest: bool = True) -> Iterator[Finding]:
    """Look at this device, and at a bundle and a site where they are named; findings as they come."""
    yield Finding("runtime", "good", f"edge-runtime {__version__}, Python {platform.python_version()}, {_system()}")
    yield _cpu()
    yield _memory()
    yield _clock()
    yield from _backends()
    yield _disk(Path.home() if site is None else site)
    yield from _trust()
    if bundle is not None:
        yield from _bundle(bundle, selftest)
    if site is not None:
        yield from _site(site)


def _system() -> str:
    return f"{platform.system()} {platform.release()} on {platform.machine()}"


def _cpu() -> Finding:
    from edge_runtime.batch import usable_cores

    features = cpu_features()
    words = f"{cpu_model()}, {usable_cores()} usable core(s); {', '.join(features) or 'features unknown'}"
    if platform.machine().lower() in ("x86_64", "amd64") and features and "avx2" not in features:
        return Finding("cpu", "look", words, "without AVX2 answers are slow; expect seconds, not milliseconds")
    return Finding("cpu", "good", words)


def _memory() -> Finding:
    available, limit = _available_memory(), _memory_limit()
    if available is None:
        return Finding("memory", "look", "The free memory is not known on this system.")
    free = available if limit is None else min(available, limit)
    words = f"{free // _MB} MB free" + (f" (limited to {limit // _MB} MB)" if limit is not None else "")
    if free < _ENOUGH_MEMORY:
        return Finding("memory", "look", words, "close other programs; use --low-memory")
    return Finding("memory", "good", words)


def _available_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _memory_limit() -> int | None:
    limits = []
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        limits += [int(text)] if text != "max" else []
    except (OSError, ValueError):
        pass
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        limits += [soft] if soft != resource.RLIM_INFINITY else []
    return min(limits, default=None)


def _clock() -> Finding:
    now = datetime.now(timezone.utc)
    words = f"{now.isoformat(timespec='seconds')} (UTC)"
    if now < _BUILT:
        return Finding("clock", "bad", f"{words}: that is in the past", "set the clock: records and results carry it")
    return Finding("clock", "good", words)


def _backends() -> Iterator[Finding]:
    for kind in BACKENDS.values():
        missing = why_unavailable(kind)
        if missing is not None:
            yield Finding("backend", "look", f"{kind.name}: {missing}", "only if a bundle asks for it")
        else:
            yield Finding("backend", "good", f"{kind.name}: {kind.package} {package_version(kind.package)}")
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("onnxruntime-gpu")
    except PackageNotFoundError:
        return
    gpu = ", ".join(name for name in VARIANTS if name.startswith("onnxruntime"))
    yield Finding("backend", "good", f"onnxruntime-gpu is installed: {gpu} can be named")


def _disk(place: Path) -> Finding:
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    words = f"{free // _MB} MB free at {place}"
    if free < _ENOUGH_DISK:
        return Finding(
            "disk", "bad", words, "make room: delete old studies (`edge-runtime records delete --older-than`)"
        )
    return Finding("disk", "good", words)


def _trust() -> Iterator[Finding]:
    from edge_runtime.bundle.trust import device_requires_signature, trusted_keys, trusted_keys_folder

    try:
        keys = trusted_keys()
    except EdgeRuntimeError as error:
        yield Finding("signatures", "bad", error.what, error.remedy)
        return
    only = device_requires_signature()
    words = f"{len(keys)} trusted key(s) in {trusted_keys_folder()}; unsigned bundles are {'not ' * only}opened"
    if only and not keys:
        yield Finding("signatures", "bad", words, "trust the key of whoever signs: `edge-runtime bundle trust KEY.pub`")
    else:
        yield Finding("signatures", "good", words)


def _bundle(path: Path, selftest: bool) -> Iterator[Finding]:
    from edge_runtime.bundle.signing import check_signature, verify_bundle
    from edge_runtime.bundle.trust import trusted_keys
    from edge_runtime.choice import choose
    from edge_runtime.selftest import run_selftest

    try:
        with open_bundle(path) as bundle:
            verify_bundle(bundle, None)
            yield Finding("bundle", "good", f"{bundle.manifest.name}: every file is as the manifest says")
            try:
                signature = check_signature(bundle, trusted_keys())
                yield Finding("bundle", "good", f"signed by key {signature.key_id}")
            except EdgeRuntimeError as error:
                yield Finding("bundle", "look", error.what, error.remedy)
            choice = choose(bundle.manifest)
            word: Word = "look" if choice.note else "good"
            yield Finding("bundle", word, f"{choice.artifact.name} on {choice.backend} answers", choice.note)
            if find_tuned(bundle.manifest) is None:
                yield Finding(
                    "bundle", "look", "not tuned on this device", "`edge-runtime tune` finds what is quickest"
                )
            if selftest:
                result = run_selftest(bundle)
                for test in result.artifacts:
                    if test.status != "not_installed":
                        fine = test.status in ("agrees", "as_built")
                        words = f"self-test of {test.artifact} on {test.backend}: {test.status.replace('_', ' ')}"
                        yield Finding("bundle", "good" if fine else "bad", words, None if fine else test.why)
    except EdgeRuntimeError as error:
        yield Finding("bundle", "bad", error.what, error.remedy)


def _site(path: Path) -> Iterator[Finding]:
    from edge_runtime.records import Records
    from edge_runtime.records.database import DATABASE_NAME, wider_than_owner

    if not (path / DATABASE_NAME).exists():
        yield Finding("site", "look", f"{path} holds no records yet", "they are made when the first study comes in")
        return
    open_to_others = [p for p in (path, path / DATABASE_NAME, path / "studies") if p.exists() and wider_than_owner(p)]
    if open_to_others:
        names = " ".join(str(p) for p in open_to_others)
        yield Finding("site", "bad", f"others on this machine can read {names}", f"chmod -R go-rwx {path}")
    if not os.access(path, os.W_OK):
        yield Finding("site", "bad", f"{path} cannot be written", "give it to the user that runs this")
        return
    try:
        with Records(path) as records:
            problems = [*records.database.check_integrity(), *records.verify_audit().problems]
            total = records.studies().total
    except EdgeRuntimeError as error:
        yield Finding("site", "bad", error.what, error.remedy)
        return
    for problem in problems:
        yield Finding("site", "bad", problem, "compare with a backup (`edge-runtime records restore`)")
    if not problems:
        yield Finding("site", "good", f"{total} studies; database whole, audit log unbroken")

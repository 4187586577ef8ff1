"""What could keep this device from answering, found before somebody waits for an answer."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Literal

from edge_runtime import __version__
from edge_runtime.backends import BACKENDS, VARIANTS, why_unavailable
from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.commands.serve import default_site
from edge_runtime.cpu import cpu_features, cpu_model
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.gpu import gpu_names
from edge_runtime.memory import memory_here
from edge_runtime.selftest import ArtifactTest
from edge_runtime.tuned import cache_folder, find_tuned, installed_distribution

__all__ = ["Finding", "Word", "examine"]

Word = Literal["good", "look", "bad"]
_MB = 2**20
_ENOUGH_MEMORY = 512 * _MB
_ENOUGH_DISK = 1024 * _MB
_ENOUGH_CACHE = 100 * _MB
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
        What to do; None where there is nothing to do, which is so only of what is good.
    """

    about: str
    word: Word
    found: str
    remedy: str | None


def examine(
    bundle: Path | None = None, site: Path | None = None, out: Path | None = None, selftest: bool = True
) -> Iterator[Finding]:
    """Look at this device, and at a bundle, a site and a hot folder's or node's folder where they are named.

    Findings come as they are made. Without ``site`` this user's own is looked at, where it holds records.
    """
    yield _good("runtime", f"edge-runtime {__version__}, Python {platform.python_version()}, {_system()}")
    yield _cpu()
    yield _memory()
    yield _clock()
    yield from _backends()
    yield from _disks(site, out)
    yield from _trust()
    if bundle is not None:
        yield from _bundle(bundle, selftest)
    if out is not None:
        yield from _out(out)
    if site is not None or _holds_records(default_site()):
        yield from _site(site or default_site())


def _good(about: str, found: str) -> Finding:
    return Finding(about, "good", found, None)


def _look(about: str, found: str, remedy: str) -> Finding:
    return Finding(about, "look", found, remedy)


def _bad(about: str, found: str, remedy: str) -> Finding:
    return Finding(about, "bad", found, remedy)


def _trouble(about: str, error: EdgeRuntimeError, otherwise: str) -> Finding:
    found = error.what if error.got is None else f"{error.what} ({error.got})"
    return _bad(about, found, error.remedy or otherwise)


def _system() -> str:
    return f"{platform.system()} {platform.release()} on {platform.machine()}"


def _cpu() -> Finding:
    from edge_runtime.batch import usable_cores

    features = cpu_features()
    words = f"{cpu_model()}, {usable_cores()} usable core(s); {', '.join(features) or 'features unknown'}"
    if platform.machine().lower() in ("x86_64", "amd64") and features and "avx2" not in features:
        return _look("cpu", words, "without AVX2 answers are slow: expect seconds, or use a newer machine")
    return _good("cpu", words)


def _memory() -> Finding:
    memory = memory_here()
    if memory.available is None:
        remedy = "see to it that 512 MB are free for it (the system's own monitor shows it); use --low-memory if unsure"
        return _look("memory", "the free memory is not known on this system", remedy)
    words = f"{memory.available // _MB} MB free"
    if memory.limit is not None:
        words += f" (limited to {memory.limit // _MB} MB by {memory.limited_by})"
    if memory.available >= _ENOUGH_MEMORY:
        return _good("memory", words)
    limited = memory.limit is not None and memory.limit < 2 * _ENOUGH_MEMORY
    return _look("memory", words, ("raise the limit" if limited else "close other programs") + "; use --low-memory")


def _clock(now: datetime | None = None) -> Finding:
    now = now or datetime.now(timezone.utc)
    words = f"{now.isoformat(timespec='seconds')} (UTC)"
    if now < _BUILT:
        return _bad("clock", f"{words}: that is in the past", "set the clock: records and results carry it")
    return _good("clock", words)


def _backends() -> Iterator[Finding]:
    for kind in BACKENDS.values():
        missing = why_unavailable(kind)
        if missing is not None:
            yield _look("backend", f"{kind.name}: {missing}", "nothing to do, unless a bundle asks for it")
        else:
            words = installed_distribution(kind.package) or f"{kind.package}, of no known version"
            yield _good("backend", f"{kind.name}: {words}")
    yield from _onnxruntime()


def _onnxruntime() -> Iterator[Finding]:
    """Whether the backend that the base install brings can be loaded, and what it offers on a GPU."""
    kind = BACKENDS["onnxruntime"]
    if why_unavailable(kind) is not None:
        return
    try:
        providers = import_module("onnxruntime").get_available_providers()
    except Exception as error:  # a library that it needs is missing, or it is half installed
        words = f"onnxruntime is installed and cannot be loaded ({type(error).__name__}: {str(error)[:200]})"
        yield _bad("backend", words, f"install it anew: {kind.install} --force-reinstall")
        return
    offered = [v.name for v in VARIANTS.values() if getattr(v, "provider", None) in providers]
    gpus = ", ".join(gpu_names())
    if gpus and not offered:
        remedy = "to compute on it, install onnxruntime-gpu in place of onnxruntime (Jetson: docs/jetson.md)"
        yield _look("gpu", f"{gpus}; this ONNX Runtime does not use it", remedy)
    elif offered:
        yield _good("gpu", f"{gpus or 'not named by the system'}; can be named: --backend {' or '.join(offered)}")


def _disks(site: Path | None, out: Path | None) -> Iterator[Finding]:
    """The disks that are written to: of records and radiographs, and of what is kept to be quicker."""
    at, seen = _existing(cache_folder()), set()
    make_room = "make room: delete old studies (`edge-runtime records delete`)"
    places = [(site or default_site(), _ENOUGH_DISK, make_room)]
    places += [(out, _ENOUGH_DISK, make_room)] if out is not None else []
    places += [(cache_folder(), _ENOUGH_CACHE, "make room, or name another folder in EDGE_RUNTIME_CACHE")]
    for place, enough, remedy in places:
        disk = (_existing(place).stat().st_dev, shutil.disk_usage(_existing(place)).free)
        if disk not in seen:
            seen.add(disk)
            yield _disk(place, enough, remedy)
    if not os.access(at, os.W_OK):
        remedy = "name a folder that can be written in EDGE_RUNTIME_CACHE"
        yield _look("cache", f"{cache_folder()} cannot be written: nothing can be tuned", remedy)


def _disk(place: Path, enough: int, remedy: str) -> Finding:
    free = shutil.disk_usage(_existing(place)).free
    words = f"{free // _MB} MB free for {place}"
    return _good("disk", words) if free >= enough else _bad("disk", words, remedy)


def _existing(place: Path) -> Path:
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _trust() -> Iterator[Finding]:
    from edge_runtime.bundle.trust import device_requires_signature, trusted_keys, trusted_keys_folder

    try:
        keys = trusted_keys()
    except EdgeRuntimeError as error:
        yield _trouble("signatures", error, f"repair or empty {trusted_keys_folder()}")
        return
    only = device_requires_signature()
    words = f"{len(keys)} trusted key(s) in {trusted_keys_folder()}; unsigned bundles are {'not ' * only}opened"
    if only and not keys:
        yield _bad("signatures", words, "trust the key of whoever signs: `edge-runtime bundle trust KEY.pub`")
    else:
        yield _good("signatures", words)


def _bundle(path: Path, selftest: bool) -> Iterator[Finding]:
    from edge_runtime.bundle.signing import verify_bundle
    from edge_runtime.selftest import run_selftest

    try:
        with open_bundle(path) as bundle:
            verify_bundle(bundle, None)
            yield _good("bundle", f"{bundle.manifest.name}: every file is as the manifest says")
            yield from _age(bundle)
            yield _signature(bundle)
            yield from _choice(bundle)
            if selftest:
                tests = run_selftest(bundle).artifacts
                agreeing = [test.artifact for test in tests if test.status in ("agrees", "as_built")]
                yield from (_tested(test, agreeing) for test in tests if test.status != "not_installed")
    except EdgeRuntimeError as error:
        yield _trouble("bundle", error, "copy or install the bundle again (`edge-runtime bundle install`)")


def _age(bundle: Bundle, now: datetime | None = None) -> Iterator[Finding]:
    """A clock that runs before the bundle was built is wrong, whatever the year."""
    try:
        built = datetime.fromisoformat(bundle.manifest.provenance.created.replace("Z", "+00:00"))
    except ValueError:
        return
    built = built if built.tzinfo else built.replace(tzinfo=timezone.utc)
    if (now or datetime.now(timezone.utc)) < built:
        yield _bad("clock", f"the bundle was built on {built:%Y-%m-%d}, later than this clock says", "set the clock")


def _signature(bundle: Bundle) -> Finding:
    from edge_runtime.bundle.signing import check_signature
    from edge_runtime.bundle.trust import device_requires_signature, trusted_keys

    try:
        return _good("bundle", f"signed by key {check_signature(bundle, trusted_keys()).key_id}")
    except EdgeRuntimeError as error:
        remedy = error.remedy or "ask for a signed bundle, and trust the key of whoever signs"
        return (_bad if device_requires_signature() else _look)("bundle", error.what, remedy)


def _choice(bundle: Bundle) -> Iterator[Finding]:
    from edge_runtime.choice import choose

    choice = choose(bundle.manifest)
    words = f"{choice.artifact.name} on {choice.backend} answers"
    if choice.note is None:
        yield _good("bundle", words)
    else:
        remedy = "install what the bundle recommends, or name an artifact with --artifact"
        tuned = find_tuned(bundle.manifest)
        yield _look("bundle", f"{words}. {choice.note}", "`edge-runtime tune`" if tuned is not None else remedy)
    if choice.hint is not None:
        yield _look("bundle", "not tuned on this device", "`edge-runtime tune` finds what is quickest")


def _tested(test: ArtifactTest, agreeing: list[str]) -> Finding:
    """What a self-test says of one artifact, with what can be done about it."""
    words = f"self-test of {test.artifact} on {test.backend}: {test.status.replace('_', ' ')}"
    if test.status in ("agrees", "as_built"):
        return _good("bundle", words)
    instead = f"answer with another (--artifact {agreeing[0]})" if agreeing else "answer on another device"
    if test.status == "differs":
        if test.differing_decisions is not None:
            words += (
                f" ({test.differing_decisions} decisions, probabilities by {test.max_abs_probability_difference:.1g})"
            )
        here = f" ({test.not_validated_here})" if test.not_validated_here else ""
        return _bad("bundle", words, f"do not use it on this device{here}: {instead}, or update {test.backend}")
    words += f": {test.why}" if test.why else ""
    if test.status == "damaged":
        return _bad("bundle", words, "copy or install the bundle again (`edge-runtime bundle install`)")
    kind = BACKENDS.get(test.backend)
    update = f"install {kind.package} anew ({kind.install})" if kind is not None else f"install {test.backend} anew"
    return _bad("bundle", words, f"{update}, or {instead}")


def _out(path: Path) -> Iterator[Finding]:
    if path.exists() and not path.is_dir():
        yield _bad("out", f"{path} is not a folder", "name another folder with --out")
    elif not os.access(_existing(path), os.W_OK):
        yield _bad("out", f"{path} cannot be written", "give it to the user that runs this")


def _holds_records(site: Path) -> bool:
    from edge_runtime.records.database import DATABASE_NAME

    return (site / DATABASE_NAME).exists()


def _site(path: Path) -> Iterator[Finding]:
    from edge_runtime.records import Records
    from edge_runtime.records.database import DATABASE_NAME, wider_than_owner

    if not _holds_records(path):
        yield _look(
            "site", f"{path} holds no records yet", "nothing to do: they are made when the first study comes in"
        )
        if not os.access(_existing(path), os.W_OK):
            yield _bad("site", f"{path} cannot be made", "give the folder above it to the user that runs this")
        return
    open_to_others = [p for p in (path, path / DATABASE_NAME, path / "studies") if p.exists() and wider_than_owner(p)]
    if open_to_others:
        names = " ".join(str(p) for p in open_to_others)
        yield _bad("site", f"others on this machine can read {names}", f"chmod -R go-rwx {path}")
    if not os.access(path, os.W_OK):
        yield _bad("site", f"{path} cannot be written", "give it to the user that runs this")
        return
    try:
        with Records(path) as records:
            problems = [*records.database.check_integrity(), *records.verify_audit().problems]
            total = records.studies().total
    except EdgeRuntimeError as error:
        yield _trouble("site", error, "compare with a backup (`edge-runtime records restore`)")
        return
    for problem in problems:
        yield _bad("site", problem, "compare with a backup (`edge-runtime records restore`)")
    if not problems:
        yield _good("site", f"{total} studies; database whole, audit log unbroken")

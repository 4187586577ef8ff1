"""How much memory this process can still have: the machine's, and what a control group or a limit leaves of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "memory_here"]

_NO_LIMIT = 1 << 60
"""Version 1 of control groups writes "no limit" as the largest number of whole pages."""


@dataclass(frozen=True)
class Memory:
    """In bytes; None where the system does not say.

    Attributes
    ----------
    available
        What can still be had.
    limit, limited_by
        The tightest limit below the machine's own memory, and a word for what sets it.
    """

    available: int | None
    limit: int | None = None
    limited_by: str | None = None


def memory_here(root: Path = Path("/")) -> Memory:
    """Look at the machine, at every control group that this process is in, and at its own limit.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys/fs/cgroup`` lie.
    """
    free = _machine(root)
    limits = [*_groups(root), *_own_limit()]
    if not limits:
        return Memory(free)
    left = [limit - used for limit, used, _ in limits]
    available = max(0, min(left if free is None else [*left, free]))
    limit, _, name = min(limits)
    return Memory(available, limit, name)


def _machine(root: Path) -> int | None:
    with suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _groups(root: Path) -> Iterator[tuple[int, int, str]]:
    """Yield limit and use of each group from this process's own up to the root, of both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(mount, path, "memory.max", "memory.current", "inactive_file", "cgroup v2")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _upwards(mount / "memory", path, *names, "cgroup v1")


def _upwards(mount: Path, path: str, limit: str, use: str, cache: str, name: str) -> Iterator[tuple[int, int, str]]:
    # a container may see its own group as the mount's root, and a path that only the host knows
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        with suppress(OSError, ValueError):  # "max" is no number
            bytes_ = int((folder / limit).read_text())
            if bytes_ < _NO_LIMIT:
                yield bytes_, max(0, int((folder / use).read_text()) - _reclaimable(folder, cache)), name


def _reclaimable(folder: Path, key: str) -> int:
    """Bytes of file cache that the group gives up when it needs memory."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def _own_limit() -> Iterator[tuple[int, int, str]]:
    if sys.platform == "win32":
        return
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        used = 0
        with suppress(OSError, ValueError):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        yield soft, used, "ulimit -v"

"""The hot folder: files that somebody or something drops into an inbox, taken when they are whole."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Final

from edge_runtime.intake import Filed, Intake

__all__ = ["HotFolder"]

_UNFINISHED: Final = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".!ut")
_RETRY_SECONDS: Final = 10.0


class HotFolder:
    """Watches an inbox by looking at it every so often: that works on network drives and USB sticks too.

    A file is whole when its size and time have not changed for ``settle`` seconds. Hidden files, links and names that
    end like an unfinished download are left alone until they are renamed.

    Parameters
    ----------
    inbox
        None: there is none, and files come into the intake's ``working`` by themselves.
    jobs
        So many files are dealt with at once.
    interval
        Seconds between two looks.
    retry_seconds
        Until a file that could not be dealt with is tried again.
    on_filed, on_trouble
        Told of each file that was dealt with, and of each that could not be: it is tried again later.

    Attributes
    ----------
    wake
        Set it where there is something to do before the next look.
    """

    def __init__(
        self,
        inbox: Path | None,
        intake: Intake,
        *,
        settle: float = 2.0,
        interval: float = 1.0,
        jobs: int = 2,
        retry_seconds: float = _RETRY_SECONDS,
        on_filed: Callable[[Filed], None] = lambda _: None,
        on_trouble: Callable[[Path, Exception], None] = lambda _, __: None,
    ) -> None:
        self._inbox = inbox
        self._intake = intake
        self._settle = settle
        self._interval = interval
        self._jobs = jobs
        self._retry_seconds = retry_seconds
        self._on_filed = on_filed
        self._on_trouble = on_trouble
        self.wake = threading.Event()
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._later: dict[Path, float] = {}
        self._untaken: dict[Path, str] = {}

    def run(self, stop: threading.Event, *, once: bool = False) -> list[Path]:
        """Deal with what comes until ``stop`` is set; what is begun is finished first.

        Parameters
        ----------
        once
            Return when the inbox holds nothing more that can be taken.

        Returns
        -------
        list[Path]
            Files of the inbox that cannot be taken: of another user, for instance.
        """
        busy: dict[Future[Filed], Path] = {}
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="hot-folder") as workers:
            while not stop.is_set():
                self.wake.clear()
                self._collect(busy)
                room = 2 * self._jobs - len(busy)
                # what lies in `working` comes first: at a start, what an earlier run did not finish
                waiting = self._ready(set(busy.values()))
                if len(waiting) < room:
                    waiting += self._take(room - len(waiting))
                for path in waiting[:room]:
                    future = workers.submit(self._intake.deal_with, path)
                    busy[future] = path
                    future.add_done_callback(lambda _: self.wake.set())
                if once and not (busy or self._later or set(self._seen) - set(self._untaken)):
                    break
                self._wait(stop)
        self._collect(busy)
        return sorted(self._untaken)

    def _wait(self, stop: threading.Event) -> None:
        end = monotonic() + self._interval
        while (left := end - monotonic()) > 0 and not stop.is_set():
            if self.wake.wait(min(left, 0.5)):  # in pieces: a signal only sets `stop`
                return

    def _ready(self, busy: set[Path]) -> list[Path]:
        now = monotonic()
        self._later = {path: moment for path, moment in self._later.items() if moment > now}
        return [path for path in self._intake.waiting() if path not in busy and path not in self._later]

    def _take(self, room: int) -> list[Path]:
        taken: list[Path] = []
        present = {} if self._inbox is None else dict(_files(self._inbox))
        for path in [p for p in self._seen if p not in present]:
            del self._seen[path]
            self._untaken.pop(path, None)
        now = monotonic()
        for path, state in present.items():
            before = self._seen.get(path)
            if before is None or before[0] != state:
                self._seen[path] = (state, now)
            elif now - before[1] >= self._settle and len(taken) < room:
                try:
                    taken.append(self._intake.take(path))
                    del self._seen[path]
                    self._untaken.pop(path, None)
                except OSError as error:  # somebody else was quicker, or holds it open (Windows), or it is not ours
                    self._seen[path] = (state, now)
                    if self._untaken.get(path) != str(error):  # told once, not at every look
                        self._untaken[path] = str(error)
                        self._on_trouble(path, error)
        return taken

    def _collect(self, busy: dict[Future[Filed], Path]) -> None:
        for future in [f for f in busy if f.done()]:
            path = busy.pop(future)
            try:
                self._on_filed(future.result())
            except Exception as error:  # a full disk, for instance: the file is still in `working`
                self._later[path] = monotonic() + self._retry_seconds
                self._on_trouble(path, error)


def _files(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # a network drive that is away for a while
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower().endswith(_UNFINISHED):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
                continue
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            yield Path(entry.path), (status.st_size, status.st_mtime_ns)

"""Decoding in worker processes: a file that hangs, crashes or swallows memory costs its worker, not the runtime."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.errors import EdgeRuntimeError, InputError, Reason, Refusal
from edge_runtime.reading import read_radiograph
from edge_runtime.reading.limits import DEFAULT_LIMITS, ReadingLimits

if TYPE_CHECKING:
    from edge_runtime.radiograph import Radiograph

__all__ = ["DecodingPool"]

_START_SECONDS: Final = 60.0
_LIFETIME: Final = 500
"""Files a worker reads before a fresh one takes its place: what a decoder leaks goes with it."""


class DecodingPool:
    """A fixed number of worker processes that read radiographs, one file at a time each. A context manager.

    Calls come from any thread; each waits for a free worker. Workers are started when they are first needed, killed
    when a file takes too long, and replaced when they die.

    Parameters
    ----------
    workers
        How many processes.
    limits
        See :class:`~edge_runtime.reading.limits.ReadingLimits`.
    seconds
        Wall time for one file.
    memory_bytes
        What a worker may allocate beyond what it has once started (POSIX ``RLIMIT_AS``; no such limit on Windows and
        macOS). None: no limit.
    """

    def __init__(
        self,
        workers: int = 1,
        limits: ReadingLimits = DEFAULT_LIMITS,
        seconds: float = 30.0,
        memory_bytes: int | None = 2 * 2**30,
    ) -> None:
        self.workers = workers
        self._settings = (limits, seconds, memory_bytes)
        self._seconds = seconds
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)
        self._closed = False

    def read(self, path: str | Path) -> Radiograph:
        """Read a radiograph as :func:`~edge_runtime.reading.read_radiograph` does, in a worker.

        Raises
        ------
        Refusal
            As there; also where the worker had to be killed, died, or ran out of memory.
        InputError
            As there.
        """
        with self._worker() as worker:
            return worker.read(Path(path), self._seconds)

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        worker = self._free.get()
        try:
            if self._closed:
                raise InputError("the runtime is shutting down")
            if worker is None or not worker.usable:
                if worker is not None:
                    worker.stop()
                worker = None
                worker = _Worker(self._settings)
            yield worker
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Stop the workers; those that are reading are waited for, at most as long as one file may take."""
        self._closed = True
        for _ in range(self.workers):
            with suppress(queue.Empty):
                worker = self._free.get(timeout=self._seconds + 5)
                if worker is not None:
                    worker.stop()
        for _ in range(self.workers):
            self._free.put(None)

    def __enter__(self) -> DecodingPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    _starting = threading.Lock()  # multiprocessing's start is not made for several threads at once

    def __init__(self, settings: tuple[ReadingLimits, float, int | None]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the model's threads' locks
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *settings), daemon=True, name="decoder")
        with self._starting:
            self._process.start()
        theirs.close()
        self._files = 0
        try:
            ready = self._pipe.poll(_START_SECONDS) and self._pipe.recv() == "ready"
        except (EOFError, OSError):
            ready = False
        if not ready:
            self.stop()
            raise InputError("a worker process for decoding did not start", remedy="`edge-runtime doctor`")

    @property
    def usable(self) -> bool:
        return self._files < _LIFETIME and self._process.is_alive()

    def read(self, path: Path, seconds: float) -> Radiograph:
        self._files += 1
        answer: Any
        try:
            self._pipe.send(path)
            if not self._pipe.poll(seconds):
                self.stop()
                raise Refusal(
                    Reason.UNREADABLE, f"{path.name} took too long to decode and was given up",
                    got=f"more than {seconds:.0f} s", remedy="export the radiograph again, uncompressed or as PNG",
                )  # fmt: skip
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self.stop()
            raise Refusal(
                Reason.UNREADABLE, f"the decoder broke down on {path.name}",
                got=f"exit code {self._process.exitcode}", remedy="export the radiograph again, uncompressed or as PNG",
            ) from None  # fmt: skip
        if isinstance(answer, BaseException):
            raise answer
        radiograph: Radiograph = answer
        return radiograph

    def stop(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join(10)


def _serve(pipe: Connection, limits: ReadingLimits, seconds: float, memory_bytes: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runtime's to handle; it closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _limit_memory(memory_bytes)
    pipe.send("ready")
    while True:
        try:
            path = pipe.recv()
        except (EOFError, OSError):  # the runtime is gone, killed perhaps
            return
        with _alarm(seconds + 5):
            answer = _read(path, limits)
        try:
            pipe.send(answer)
        except OSError:
            return


def _read(path: Path, limits: ReadingLimits) -> Radiograph | EdgeRuntimeError:
    try:
        return read_radiograph(path, limits)
    except EdgeRuntimeError as error:
        return error
    except MemoryError:
        return Refusal(Reason.TOO_LARGE, f"{path.name} needs more memory than a decoder may have")
    except Exception as error:
        return Refusal(
            Reason.UNREADABLE, f"the decoder failed on {path.name}", got=f"{type(error).__name__}: {str(error)[:200]}"
        )


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    # ends this process even if the runtime that would kill it is itself gone
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory(memory_bytes: int | None) -> None:
    if memory_bytes is None or sys.platform != "linux":
        return
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + memory_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

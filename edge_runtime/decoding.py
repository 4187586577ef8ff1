"""Decoding in worker processes: a file that hangs, crashes or swallows memory costs its worker, not the runtime."""

from __future__ import annotations

import json
import multiprocessing
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from edge_runtime.backends.footprint import low_memory
from edge_runtime.decoding_messages import Request, SharedPixels, receive_radiograph, send_failure, send_radiograph
from edge_runtime.errors import DecoderError, EdgeRuntimeError, Fault, InputError, Reason, Refusal
from edge_runtime.reading import read_radiograph
from edge_runtime.reading.limits import DEFAULT_LIMITS, ReadingLimits

if TYPE_CHECKING:
    from edge_runtime.radiograph import Radiograph

__all__ = ["DecodingPool"]

_START_SECONDS: Final = 60.0
_LIFETIME: Final = 500
"""Files a worker reads before a fresh one takes its place: what a decoder leaks goes with it."""
_KEPT_BYTES: Final = 64 << 20
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Of glibc's ``malloc.h``."""
_PRELOADED: Final = ("edge_runtime.cli", "edge_runtime.reading.dicom", "edge_runtime.reading.imaging", "PIL.Image")
_ANOTHER_FORM: Final = "try it again; if it happens again, export the radiograph uncompressed or as PNG"

_Start = Literal["fork", "forkserver", "spawn"]


class DecodingPool:
    """A fixed number of worker processes that read radiographs, one file at a time each. A context manager.

    Calls come from any thread; each waits for a free worker. Workers are started when they are first needed, killed
    when a file takes too long, and replaced when they die. On Linux they are forked from a small process that has
    the readers loaded, so that a new one costs milliseconds; elsewhere, and where memory is to be kept low, each starts
    anew.

    Parameters
    ----------
    workers
        How many processes.
    limits
        See :class:`~edge_runtime.reading.limits.ReadingLimits`.
    seconds
        Wall time for one file.
    memory_bytes
        What a worker may allocate beyond what it has once started (Linux, ``RLIMIT_AS``; no such limit on Windows and
        macOS). None: no limit.
    fork_first
        Fork the first worker from this process (Linux), which is quickest. For a process that runs no threads yet:
        call :meth:`start` before it does.
    """

    def __init__(
        self,
        workers: int = 1,
        limits: ReadingLimits = DEFAULT_LIMITS,
        seconds: float = 30.0,
        memory_bytes: int | None = 2 * 2**30,
        *,
        fork_first: bool = False,
    ) -> None:
        self.workers = workers
        self._settings = (limits, seconds, memory_bytes)
        self._seconds = seconds
        self._fork_next = fork_first and sys.platform == "linux"
        self._free: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)
        self._closed = False

    def start(self) -> None:
        """Start a worker, and do not wait until it is ready: it loads the readers while the caller opens a model."""
        self._free.put(self._ready(self._free.get()))

    def read(self, path: str | Path, *, frame: int | None = None, window: int = 1) -> Radiograph:
        """Read a radiograph as :func:`~edge_runtime.reading.read_radiograph` does, in a worker.

        Raises
        ------
        Refusal
            As there; also where the worker ran out of the memory that a decoder may have.
        DecoderError
            The worker took too long and was killed, or died.
        InputError
            As there.
        """
        with self._worker() as worker:
            return worker.read(Request(str(path), frame, window), self._seconds)

    @contextmanager
    def _worker(self) -> Iterator[_Worker]:
        worker = self._free.get()
        try:
            if self._closed:
                raise InputError("the runtime is shutting down")
            old, worker = worker, None
            worker = self._ready(old)
            yield worker
        finally:
            self._free.put(worker)

    def _ready(self, worker: _Worker | None) -> _Worker:
        if worker is not None and worker.usable:
            return worker
        if worker is not None:
            worker.stop()
        method: _Start = "spawn" if sys.platform != "linux" or low_memory() else "forkserver"
        if self._fork_next:
            self._fork_next, method = False, "fork"
        return _Worker(self._settings, method)

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

    def __init__(self, settings: tuple[ReadingLimits, float, int | None], method: _Start) -> None:
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload(list(_PRELOADED))
        self._limits = settings[0]
        self._pipe, theirs = context.Pipe()
        # a fork copies the runtime's end too, and would not see it close
        copied = self._pipe if method == "fork" else None
        self._shared = SharedPixels.there(self._limits.max_pixels)
        self._process = context.Process(
            target=_serve, args=(theirs, copied, self._shared, *settings), daemon=True, name="decoder"
        )
        with self._starting, warnings.catch_warnings():
            # Python 3.12 warns of any fork beside a thread; NumPy's own are idle, and made for it
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()
        self._files = 0
        self._is_ready = False

    @property
    def usable(self) -> bool:
        return self._files < _LIFETIME and bool(self._process.is_alive())

    def read(self, request: Request, seconds: float) -> Radiograph:
        self._wait_until_ready()
        self._files += 1
        name = Path(request.path).name
        try:
            self._pipe.send_bytes(request.encode())
            if not self._pipe.poll(seconds):
                self.stop()
                raise DecoderError(
                    Fault.DECODER_TIMED_OUT, f"{name} took too long to decode and was given up",
                    got=f"more than {seconds:.0f} s", remedy=_ANOTHER_FORM,
                )  # fmt: skip
            return receive_radiograph(self._pipe, self._limits, self._shared)
        except (EOFError, OSError):
            self.stop()
            raise DecoderError(
                Fault.DECODER_DIED, f"the decoder broke down on {name}", got=_ending(self._process.exitcode),
                remedy=_ANOTHER_FORM,
            ) from None  # fmt: skip

    def stop(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join(10)
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        with suppress(EOFError, OSError):
            self._is_ready = self._pipe.poll(_START_SECONDS) and self._pipe.recv_bytes() == b"ready"
        if not self._is_ready:
            self.stop()
            raise InputError("a worker process for decoding did not start", remedy="`edge-runtime doctor`")


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _serve(
    pipe: Connection,
    copied: Connection | None,
    shared: SharedPixels | None,
    limits: ReadingLimits,
    seconds: float,
    memory_bytes: int | None,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runtime's to handle; it closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if copied is not None:
        copied.close()
    from edge_runtime.reading import dicom, imaging  # noqa: F401 - loaded before a file is waited for

    if not low_memory():
        _keep_freed_memory()
    _limit_memory(memory_bytes)
    pipe.send_bytes(b"ready")
    while True:
        try:
            request = Request(**json.loads(pipe.recv_bytes()))
        except (EOFError, OSError):  # the runtime is gone, killed perhaps
            return
        with _alarm(seconds + 5):
            answer = _read(request, limits)
        try:
            if isinstance(answer, EdgeRuntimeError):
                send_failure(pipe, answer)
            else:
                send_radiograph(pipe, answer, shared)
        except OSError:
            return


def _read(request: Request, limits: ReadingLimits) -> Radiograph | EdgeRuntimeError:
    name = Path(request.path).name
    try:
        return read_radiograph(request.path, limits, frame=request.frame, window=request.window)
    except EdgeRuntimeError as error:
        return error
    except MemoryError:
        return Refusal(
            Reason.TOO_LARGE, f"{name} needs more memory than a decoder may have",
            remedy="export the radiograph at a smaller size",
        )  # fmt: skip
    except Exception as error:
        return Refusal(
            Reason.UNREADABLE, f"the decoder failed on {name}", got=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="copy or export the file again",
        )  # fmt: skip


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


def _keep_freed_memory() -> None:
    """Let glibc keep up to 64 MB for the next file: getting a radiograph's pages anew takes longer than decoding it."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 2)


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

"""Many files: decoding in worker processes and inference on several threads overlap, answers come in order."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from edge_runtime.answer import Answer, Outcome, answer_file
from edge_runtime.bundle import Bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.inputs import InputFile
from edge_runtime.predictor import Predictor

__all__ = ["answer_in_order", "usable_cores"]

_AHEAD = 3
"""So many files per job are read ahead: memory is bounded by their pixels."""


def usable_cores() -> int:
    """Return how many CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Windows and macOS
        return os.cpu_count() or 1


def answer_in_order(
    bundle: Bundle,
    first: Predictor,
    inputs: Iterable[InputFile | Answer],
    jobs: int,
    pool: DecodingPool,
) -> Iterator[Outcome]:
    """Answer files with ``jobs`` predictors at once; outcomes in the order of ``inputs``.

    Inputs are taken as they are needed: a folder of any length costs the same memory.

    Parameters
    ----------
    first
        An opened predictor; ``jobs - 1`` more are opened of the same artifact, with one thread each.
    pool
        Decodes; closing it is the caller's.
    """
    predictors: queue.SimpleQueue[Predictor] = queue.SimpleQueue()
    with ExitStack() as stack:
        predictors.put(first)
        for _ in range(jobs - 1):
            more = Predictor.open(bundle, first.artifact.name, first.backend_name, threads=1)
            predictors.put(stack.enter_context(more))

        def answer(item: InputFile) -> Outcome:
            borrowed = _Borrowed(predictors, first)
            return answer_file(borrowed, item.path, item.name, read=pool.read)  # type: ignore[arg-type]

        # twice as many threads as predictors: one waits for a decoder while another computes
        workers = stack.enter_context(ThreadPoolExecutor(2 * jobs, thread_name_prefix="answer"))
        waiting: deque[Future[Outcome]] = deque()
        try:
            for item in inputs:
                waiting.append(_done(item) if isinstance(item, Answer) else workers.submit(answer, item))
                if len(waiting) >= _AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Borrowed:
    """A predictor of several, taken for the time of one prediction."""

    def __init__(self, predictors: queue.SimpleQueue[Predictor], facts: Predictor) -> None:
        self._predictors = predictors
        self._facts = facts

    def __getattr__(self, name: str) -> object:
        return getattr(self._facts, name)

    def predict(self, *arguments: object, **named: object) -> object:
        predictor = self._predictors.get()
        try:
            return predictor.predict(*arguments, **named)  # type: ignore[arg-type]
        finally:
            self._predictors.put(predictor)


def _done(answer: Answer) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(Outcome(answer))
    return future

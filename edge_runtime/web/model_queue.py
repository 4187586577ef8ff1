"""A bounded queue before the model: one file at a time, a few waiting, the rest sent away politely."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ModelBusy", "ModelQueue"]


class ModelBusy(Exception):  # noqa: N818 - a state of the queue, not a fault
    """No place is free. ``retry_after`` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the model is busy; try again in {retry_after} s")
        self.retry_after = retry_after


class ModelQueue:
    """Serialises the use of a predictor.

    Parameters
    ----------
    places
        How many may wait beside the one being served.
    wait_seconds
        Longest wait.
    """

    def __init__(self, places: int, wait_seconds: float) -> None:
        self.places = places
        self._wait_seconds = wait_seconds
        self._slot = threading.Lock()
        self._count = threading.Lock()
        self._present = 0
        self._typical_seconds = 1.0

    @property
    def present(self) -> int:
        """How many are being served or waiting."""
        return self._present

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Wait for the model and hold it.

        Yields
        ------
        float
            Milliseconds waited.

        Raises
        ------
        ModelBusy
            All places are taken, or the wait took too long.
        """
        with self._count:
            if self._present > self.places:
                raise ModelBusy(self._retry_after())
            self._present += 1
        try:
            arrived = time.perf_counter()
            if not self._slot.acquire(timeout=self._wait_seconds):
                raise ModelBusy(self._retry_after())
            try:
                started = time.perf_counter()
                yield (started - arrived) * 1000
                self._typical_seconds = 0.7 * self._typical_seconds + 0.3 * (time.perf_counter() - started)
            finally:
                self._slot.release()
        finally:
            with self._count:
                self._present -= 1

    def busy(self) -> ModelBusy:
        """Return what to raise where a file does not even get a place to wait."""
        return ModelBusy(self._retry_after())

    def _retry_after(self) -> int:
        """Seconds until half of those present are probably through, from 1 to 30."""
        return max(1, min(30, math.ceil(self._present * self._typical_seconds / 2)))

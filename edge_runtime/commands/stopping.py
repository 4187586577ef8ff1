"""Ending a command that runs for long: what is begun is finished; a second signal ends at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["stop_on_signals"]


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT (Ctrl-C) and SIGTERM set."""
    stop = threading.Event()

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()
        click.echo("Finishing what is begun; once more to end at once.", err=True)

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

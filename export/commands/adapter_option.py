"""``--adapter FILE.py:FUNCTION``, for every command that takes ``--run``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["adapter_option"]

Command = TypeVar("Command", bound=Callable[..., Any])


def adapter_option(command: Command) -> Command:
    """Add ``--adapter`` to a command: its parameter ``run`` is then a loaded :class:`train.run.Run`, not a path.

    A ``Run`` is a path to its folder wherever one is wanted, and :func:`train.run.load_run` returns it as it is, so
    the command needs nothing else. Write it below the other options.
    """

    @click.option(
        "--adapter",
        metavar="FILE.py:FUNCTION",
        help="With --run: code that builds a classifier which is not the kit's own (docs/export.md).",
    )
    @functools.wraps(command)
    def with_adapter(*args: Any, adapter: str | None, **options: Any) -> Any:
        if adapter is not None:
            if options.get("run") is None:
                raise click.UsageError("--adapter goes with --run")
            from train.run import load_run  # torch takes seconds

            options["run"] = load_run(options["run"], adapter)
        return command(*args, **options)

    return with_adapter  # type: ignore[return-value]

"""How every command line of the kit ends: one message for people, one exit code for programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.terminal import show_error

__all__ = ["exit_code"]


def exit_code(call: Callable[[], Any]) -> int:
    """Call a click command in ``standalone_mode=False`` and turn what comes of it into an exit code.

    Parameters
    ----------
    call
        Returns the exit code, or None for 0.

    Returns
    -------
    int
        What ``call`` returned; 1 something failed, 2 wrong usage, 130 interrupted. Messages go to stderr. With
        ``EDGE_RUNTIME_TRACEBACK`` in the environment an unexpected error is raised instead.
    """
    try:
        code = call()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return 130
    except EdgeRuntimeError as error:
        show_error(error)
        return 2 if isinstance(error, UsageError) else 1
    except Exception as error:
        if os.environ.get("EDGE_RUNTIME_TRACEBACK"):
            raise
        show_error(_as_ours(error))
        return 1
    return code if isinstance(code, int) else 0


def _as_ours(error: Exception) -> EdgeRuntimeError:
    if isinstance(error, OSError) and error.strerror:
        return EdgeRuntimeError(
            "the operating system reported an error",
            got=error.strerror if error.filename is None else f"{error.filename}: {error.strerror}",
            remedy="check the disk's free space and the permissions",
        )
    first_line = (str(error).strip().splitlines() or [""])[0][:500]
    return EdgeRuntimeError(
        "an unexpected error",
        got=f"{type(error).__name__}: {first_line}",
        remedy="please report it; EDGE_RUNTIME_TRACEBACK=1 in the environment shows where it was",
    )

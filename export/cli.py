"""``python -m export``: exit 0 done, 1 something failed, 2 wrong usage, 10 and up verdicts of ``parity``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import import_module

import click

from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.terminal import show_error

__all__ = ["commands", "main"]


class _Terminated(BaseException):
    """SIGTERM came. Not an Exception: nobody takes it for a failure of his own."""


def _stop(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one does not interrupt the cleaning up
    raise _Terminated


class _Commands(click.Group):
    """Imports a command when it is asked for: torch takes seconds."""

    names = ("add", "bench", "build", "explain", "naive", "parity", "quantize")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.names:
            return None
        command = import_module(f"export.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def commands() -> None:
    """Turn a trained run into a bundle for devices, and prove that it answers as the full model does."""


def main() -> None:
    """Run the command line; every failure ends in one message and an exit code.

    SIGTERM stops it as Ctrl-C does: what a command was writing is taken away before it goes.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    try:
        code = commands(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = 130
    except _Terminated:
        click.echo("Stopped.", err=True)
        code = 143
    except EdgeRuntimeError as error:
        show_error(error)
        code = 2 if isinstance(error, UsageError) else 1
    except Exception as error:
        if os.environ.get("EDGE_RUNTIME_TRACEBACK"):
            raise
        show_error(
            EdgeRuntimeError(
                "an unexpected error",
                got=f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:500]}",
                remedy="please report it; EDGE_RUNTIME_TRACEBACK=1 in the environment shows where it was",
            )
        )
        code = 1
    sys.exit(code or 0)

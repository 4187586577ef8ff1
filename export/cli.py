"""``python -m export``: exit 0 done, 1 something failed, 2 wrong usage, 10 and up verdicts of ``parity``."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module

import click

from edge_runtime.exit_codes import exit_code

__all__ = ["commands", "main"]


class _Terminated(BaseException):
    """SIGTERM came. Not an Exception: nobody takes it for a failure of his own."""


def _stop(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one does not interrupt the cleaning up
    raise _Terminated


class _Commands(click.Group):
    """Imports a command when it is asked for: torch takes seconds."""

    names = ("add", "bench", "build", "explain", "fine-tune", "naive", "parity", "quantize")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.names:
            return None
        command = import_module(f"export.commands.{cmd_name.replace('-', '_')}").command
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
        code = exit_code(lambda: commands(standalone_mode=False))
    except _Terminated:
        click.echo("Stopped.", err=True)
        code = 143
    sys.exit(code)

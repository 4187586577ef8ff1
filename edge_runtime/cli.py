"""The command ``edge-runtime``: exit code 0 done, 1 something failed, 2 wrong usage, 130 stopped."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from edge_runtime import __version__
from edge_runtime.exit_codes import exit_code

__all__ = ["commands", "main"]


class _Commands(click.Group):
    """Imports a command when it is asked for, and turns every failure into one message and an exit code."""

    names = (
        *("predict", "info", "selftest", "serve", "tls", "bundle"),
        *("watch", "receive", "records", "audit", "tune", "doctor"),
    )

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.names:
            return None
        command = import_module(f"edge_runtime.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        call = functools.partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(exit_code(call))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-runtime")
def commands() -> None:
    """Answer chest radiographs on this machine, without a network.

    For research and demonstration only. Not a medical device.
    """


def _stop(number: int, _: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Run the command line."""
    # a terminated run leaves as an interrupted one does: temporary files removed, nothing half-written
    signal.signal(signal.SIGTERM, _stop)
    commands(prog_name="edge-runtime")

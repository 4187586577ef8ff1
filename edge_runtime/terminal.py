"""Words for people: errors, safe names, tables. rich is imported only where something is drawn with it."""

from __future__ import annotations

from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

import click

from edge_runtime.errors import EdgeRuntimeError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "printable", "show_error"]


def show_error(error: EdgeRuntimeError) -> None:
    """Print an error to stderr: what happened, then what was found, expected, and what to do."""
    lines = [click.style("Error: ", fg="red", bold=True) + printable(error.what)]
    for name, text in (("got", error.got), ("expected", error.expected), ("remedy", error.remedy)):
        if text is not None:
            lines.append(f"  {name + ':':<10}{printable(text)}")
    click.echo("\n".join(lines), err=True)


def printable(text: str) -> str:
    """Return text without control characters: a file name must not be able to steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def console(stream: TextIO) -> Console:
    """Return a rich console that writes plain text as it is, and does not squeeze tables into 80 columns of
    a pipe.
    """
    from rich.console import Console

    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    width = None if stream.isatty() else 200
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)

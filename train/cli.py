"""The command line of training: one click group, commands imported when they are asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from edge_runtime.exit_codes import exit_code

__all__ = ["LazyGroup", "cli", "main"]


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported on use: ``--help`` must not import torch."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return a command."""
        if name not in self.lazy:
            return super().get_command(ctx, name)
        module, attribute, _ = self.lazy[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one-line help, without importing them."""
        rows = [(name, help_text) for name, (_, _, help_text) in sorted(self.lazy.items())]
        rows += [
            (name, command.get_short_help_str())
            for name in super().list_commands(ctx)
            if name not in self.lazy and (command := super().get_command(ctx, name))
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


data = LazyGroup(
    "data",
    help="Build data sets.",
    lazy={
        "batches": ("train.data.batches_command", "batches", "Draw batches before and after resampling."),
        "build": ("train.data.build_command", "build", "Build the COVIDx data set from its sources."),
        "describe": ("train.data.describe_command", "describe_command", "Describe a data set, and how a run sees it."),
        "phantom": ("train.data.phantom_command", "phantom", "Make synthetic radiographs."),
    },
)


@click.group(
    cls=LazyGroup,
    lazy={
        "count": ("train.count_command", "count_command", "Count parameters and multiply-adds."),
        "evaluate": ("train.evaluate_command", "evaluate_command", "Evaluate a run on a split."),
        "fit": ("train.fit_command", "fit_command", "Train a classifier."),
        "search": ("train.search_command", "search_command", "Search learning rate and weight decay."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
def cli() -> None:
    """Train a chest-radiograph classifier. For research; not a medical device."""


cli.add_command(data)


def main() -> None:
    """Run the command line: exit 0 done, 1 something failed, 2 wrong usage, 130 interrupted."""
    sys.exit(exit_code(lambda: cli.main(standalone_mode=False)))

"""``python -m export add``."""

from __future__ import annotations

import typing
from pathlib import Path

import click

from edge_runtime.manifest import FORMATS, Format, Precision
from export.commands.adapter_option import adapter_option

__all__ = ["command"]


@click.command("add")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True, help="What the file is.")
@click.option(
    "--precision", type=click.Choice(typing.get_args(Precision)), default="int8", show_default=True, help="Of the file."
)
@click.option("--replace", is_flag=True, help="Take the place of an artifact of the same format and precision.")
@click.option("--run", type=click.Path(path_type=Path), help="Run the bundle was built from: judge it at once.")
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder, with --run.")
@click.option("--split", default="test", show_default=True, help="Split that judges, with --run.")
@click.option("--accept-not-shown", is_flag=True, help="As in `parity`, with --run.")
@adapter_option
def command(
    bundle: Path,
    file: Path,
    format_: Format,
    precision: Precision,
    replace: bool,
    run: Path | None,
    data: Path | None,
    split: str,
    accept_not_shown: bool,
) -> int:
    """Add FILE, an artifact that was made elsewhere, to BUNDLE, and judge it like our own.

    It must have the graph's input and outputs and run here on the golden vectors; at fp32 it must answer them as the
    full model does. With --run and --data `parity` judges it at once.

    Exit code: 0 added (and passed), 1 not added, 2 wrong usage; with --run as in `parity`: 10 failed, 11 not shown.
    """
    if (run is None) != (data is None):
        raise click.UsageError("--run and --data go together")
    from export.add import add_artifact

    added = add_artifact(bundle, file, format_, precision, replace=replace)
    test = added.test
    click.echo(
        f"Added {added.artifact.name} to {bundle}: on the golden vectors largest |Δp| "
        f"{test.max_abs_probability_difference:.1e}, {test.differing_decisions} decisions that differ."
    )
    if run is None or data is None:
        click.echo("Next: python -m export parity, on radiographs that the run was not trained on.")
        return 0
    from export.commands.parity import judge_and_report

    return judge_and_report(
        bundle, run, data, split=split, artifacts=(added.artifact.name,), accept_not_shown=accept_not_shown
    )

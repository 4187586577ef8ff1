"""``python -m export naive``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from edge_runtime.terminal import console
from export.commands.adapter_option import adapter_option
from export.commands.formats_option import QUANTIZED, formats_of

if TYPE_CHECKING:
    from edge_runtime.manifest import Format

__all__ = ["command"]


@click.command("naive")
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run folder that `train fit` left.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Dataset folder the run was trained on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Bundle folder to write.")
@click.option(
    "--formats", default="onnx,openvino,lite", show_default=True, callback=formats_of(QUANTIZED), help="With commas."
)
@click.option(
    "--calibration", type=click.IntRange(1), default=60, show_default=True, help="Radiographs that set ranges."
)
@adapter_option
def command(run: Path, data: Path, out: Path, formats: tuple[Format, ...], calibration: int) -> int:
    """Build a bundle whose int8 artifacts are naive: everything in int8, a scale a tensor, min-max ranges.

    It is there to see the gate fail: `python -m export parity OUT --run RUN --data DATA` exits 10 on a network that
    suffers from it. Its manifest says what it is and recommends fp32 alone.
    """
    progress_console = console(sys.stderr)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    ) as progress:
        task = progress.add_task("starting", total=None)

        from export.naive import build_naive_bundle

        result = build_naive_bundle(
            run, data, out, formats=formats, calibration=calibration,
            on_step=lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )  # fmt: skip
    for note in result.notes:
        click.echo(f"Note: {note}")
    click.echo(f"Written: {out}. Judge it: python -m export parity {out} --run {run} --data {data}")
    return 0

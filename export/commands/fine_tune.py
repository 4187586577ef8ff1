"""``python -m export fine-tune``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edge_runtime.terminal import console
from export.commands.adapter_option import adapter_option

if TYPE_CHECKING:
    from edge_runtime.manifest import Format

__all__ = ["command"]


@click.command("fine-tune")
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run folder that `train fit` left.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Dataset folder the run was trained on.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, such as tuned.safetensors.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["onnx", "openvino", "lite"]),
    default="openvino",
    show_default=True,
    help="Whose ladder the rung is of.",
)
@click.option(
    "--rung",
    required=True,
    help="What will be rounded, as `export quantize` names it, such as '10 worst layers in float'.",
)
@click.option("--epochs", type=click.IntRange(1, 1000), help="How long.  [default: 4]")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    help="Largest learning rate; at 5e-5 and more the loss rose.  [default: 1e-5]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute; a CPU takes minutes an epoch.",
)
@click.option(
    "--calibration", type=click.IntRange(1), default=60, show_default=True, help="Radiographs that set ranges."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of decoded images.  [default: DATA/cache]")
@adapter_option
def command(
    run: Path,
    data: Path,
    out: Path,
    format_: Format,
    rung: str,
    epochs: int | None,
    rate: float | None,
    device: str,
    calibration: int,
    seed: int,
    cache: Path | None,
) -> int:
    """Fine-tune a run for int8 by itself, where there is a GPU, and write the changed weights to a file.

    The network learns to answer as the full model does while its weights and activations are rounded; no labels are
    used. `python -m export quantize --fine-tuned FILE`, on the machine where times are to be measured, tries it.
    """
    progress_console = console(sys.stderr)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    ) as progress:
        task = progress.add_task("starting", total=None)

        from export.quantization.fine_tune_run import fine_tune_run
        from export.quantization.fine_tuning import RATE
        from export.quantization.ladder import FINE_TUNING_EPOCHS

        def on_epoch(epoch: int, of: int, loss: float) -> None:
            progress.update(task, description="fine-tuning", completed=epoch, total=of)
            progress_console.print(f"epoch {epoch} of {of}: loss {loss:.4g}", highlight=False)

        tuned = fine_tune_run(
            run, data, out, format_=format_, rung=rung, epochs=epochs or FINE_TUNING_EPOCHS, rate=rate or RATE,
            device=device, calibration=calibration, seed=seed, cache=cache,
            on_step=lambda what: progress.update(task, description=what), on_epoch=on_epoch,
        )  # fmt: skip
    click.echo(f"Written: {out} ({tuned.device}, last loss {tuned.loss:.4g})")
    click.echo(f"Try it: python -m export quantize --run {run} --data {data} --formats {format_} --fine-tuned {out}")
    return 0

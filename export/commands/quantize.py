"""``python -m export quantize``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge_runtime.manifest import Format
from edge_runtime.terminal import console
from export.commands.adapter_option import adapter_option
from export.commands.formats_option import QUANTIZED, formats_of

if TYPE_CHECKING:
    from export.quantization.climbing import FineTuning
    from export.quantization.quantize import QuantizeResult
    from export.quantization.variants import Variant

__all__ = ["command"]

_NOT_REACHED = 10


@click.command("quantize")
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run folder that `train fit` left.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Dataset folder the run was trained on.")
@click.option(
    "--formats",
    default="onnx,openvino,lite",
    show_default=True,
    callback=formats_of(QUANTIZED),
    help="With commas; torchscript takes what lite finds unless it is named too.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0.5, 1),
    default=0.99,
    show_default=True,
    help="Share of decisions on the search set that must stay.",
)
@click.option(
    "--drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="Points of accuracy that may be lost on the search set.",
)
@click.option(
    "--calibration", type=click.IntRange(1), default=60, show_default=True, help="Radiographs that set ranges."
)
@click.option("--first", is_flag=True, help="Stop at the first rung that reaches the target; otherwise all are tried.")
@click.option(
    "--fine-tuning",
    type=click.Choice(["needed", "always", "never"]),
    default="needed",
    show_default=True,
    help="Fine-tune for int8 (quantization-aware training; long on a CPU) where no other rung reaches the target, or "
    "always: for a quicker file.",
)
@click.option(
    "--fine-tuning-epochs",
    type=click.IntRange(1, 1000),
    help="How long to fine-tune.  [default: 4]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where fine-tuning computes.",
)
@click.option(
    "--fine-tuned",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights that `export fine-tune` wrote, here or on another machine: try them, and train nothing.",
)
@click.option(
    "--accuracy-control",
    type=click.FloatRange(0),
    default=0,
    metavar="SECONDS",
    help="For OpenVINO: let NNCF search the layers to leave in float, at most so long.  [default: not tried]",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of decoded images.  [default: DATA/cache]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@adapter_option
def command(
    run: Path,
    data: Path,
    formats: tuple[Format, ...],
    agreement: float,
    drop: float,
    calibration: int,
    first: bool,
    fine_tuning: FineTuning,
    fine_tuning_epochs: int | None,
    device: str,
    fine_tuned: Path | None,
    accuracy_control: float,
    cache: Path | None,
    as_json: bool,
) -> int:
    """Find int8 settings for each format that keep the run's decisions, and write them to RUN/quantization.toml.

    Each rung of the ladder is built and run through edge_runtime on the validation radiographs and changed copies of
    them, and timed in turns with fp32. Chosen is the fastest that reaches the target. `export build` repeats the
    choice.

    Exit code: 0 reached for every format, 10 not reached for some (the best is written down), 1 failed, 2 wrong usage.
    """
    progress_console = console(sys.stderr)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=progress_console,
        transient=True,
        disable=not progress_console.is_terminal,
    ) as progress:
        task = progress.add_task("starting", total=None)

        def on_step(what: str) -> None:
            progress.update(task, description=what)

        def on_rung(format_: str, rung: str, figures: Any, done: int, total: int) -> None:
            progress.update(task, description=f"{format_}: {rung}", completed=done, total=total)
            if figures is not None and not as_json:
                progress_console.print(
                    f"{format_:12} {rung:48} agreement {100 * figures.agreement:5.1f} %  "
                    f"{figures.p50_ms / figures.fp32_p50_ms:.2f} of fp32's time  {figures.megabytes:.1f} MB",
                    highlight=False,
                )

        from export.quantization.judging import Target
        from export.quantization.ladder import FINE_TUNING_EPOCHS
        from export.quantization.ladder_report import result_object, write_ladder_report
        from export.quantization.quantize import quantize_run

        result = quantize_run(
            run, data, formats=formats, target=Target(agreement, drop), calibration=calibration, stop_at_first=first,
            fine_tuning=fine_tuning, fine_tuning_epochs=fine_tuning_epochs or FINE_TUNING_EPOCHS,
            fine_tuned_weights=fine_tuned, device=device,
            control_seconds=accuracy_control, cache=cache, on_rung=on_rung, on_step=on_step,
        )  # fmt: skip
        report = write_ladder_report(result, Path(run))
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(result_object(result)).decode())
    else:
        _show(result)
        click.echo(f"Written: {result.plan_path} (repeated by `python -m export build`) and {report}")
    return 0 if result.reached else _NOT_REACHED


def _show(result: QuantizeResult) -> None:
    from export.quantization.settings import describe

    table = Table(title="Chosen for each format", title_justify="left")
    for column in ("format", "rung", "agreement", "drop, points", "max |Δp|", "time / fp32", "MB", "of fp32"):
        table.add_column(column, justify="left" if column in ("format", "rung") else "right")
    for climb in result.climbs:
        figures = climb.chosen.figures
        assert figures is not None
        table.add_row(
            climb.format,
            climb.chosen.settings.rung + ("" if climb.reached else "  (target not reached)"),
            f"{100 * figures.agreement:.1f} %",
            f"{figures.drop_points:+.1f}",
            f"{figures.max_abs_difference:.3f}",
            f"{figures.p50_ms / figures.fp32_p50_ms:.2f}",
            f"{figures.megabytes:.1f}",
            f"{100 * figures.megabytes / figures.fp32_megabytes:.0f} %",
        )
    console(sys.stdout).print(table)
    for climb in result.climbs:
        click.echo(f"{climb.format}: {describe(climb.chosen.settings)}")
        for variant in climb.variants:
            click.echo(f"{climb.format}: no file needed: {variant.file} on {variant.backend}: {_said_of(variant)}")
        for sentence in climb.untried:
            click.echo(f"{climb.format}: {sentence}")


def _said_of(variant: Variant) -> str:
    figures = variant.figures
    if figures is None:
        return f"not run: {variant.failure}"
    return (
        f"agreement {100 * figures.agreement:.1f} %, drop {figures.drop_points:+.1f} points, "
        f"{figures.p50_ms / figures.fp32_p50_ms:.2f} of fp32's time, {figures.megabytes:.1f} MB"
    )

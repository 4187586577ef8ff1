"""``python -m export build``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from edge_runtime.manifest import FORMATS, Format
from edge_runtime.terminal import console
from export.commands.adapter_option import adapter_option
from export.commands.formats_option import formats_of
from export.default_formats import DEFAULT_FORMATS

__all__ = ["command"]


@click.command("build")
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run folder that `train fit` left.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Dataset folder the run was trained on: for int8, gate, prediction sets, --golden-real. Without it, none of "
    "these (give --no-int8).",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Bundle: new, empty, or one to replace.")
@click.option(
    "--formats",
    default=",".join(DEFAULT_FORMATS),
    show_default=True,
    callback=formats_of(FORMATS),
    help="Formats to write at fp32, with commas.",
)
@click.option(
    "--int8/--no-int8",
    default=True,
    show_default=True,
    help="Also write int8 as `export quantize` chose; without its plan ONNX, OpenVINO, ExecuTorch at plain settings.",
)
@click.option("--fp16", is_flag=True, help="Also write ONNX and OpenVINO with float16 weights, for GPUs.")
@click.option(
    "--keep", multiple=True, metavar="NAME", help="Ship only these artifacts (all are built and tested); repeatable."
)
@click.option(
    "--calibration",
    type=click.IntRange(1),
    default=120,
    show_default=True,
    help="Radiographs of training patients that int8 is calibrated on.",
)
@click.option(
    "--golden-real",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Real radiographs to add to the synthetic golden inputs; such a bundle is not to be shipped.",
)
@click.option(
    "--not-frontal",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of pictures for the gate to learn to refuse: DIR/lateral (lateral chest views) and DIR/other (CT, "
    "photographs, ...), of no validation or test patient.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0.5, 0.99),
    default=0.9,
    show_default=True,
    help="Coverage of the prediction sets, for each class.",
)
@click.option(
    "--minimum-age",
    type=click.FloatRange(0, 120),
    help="Refuse younger patients, in years, where a DICOM header tells the age.  [default: nobody]",
)
@click.option("--name", help="Name of the bundle.  [default: the run folder's]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@adapter_option
def command(
    run: Path,
    data: Path | None,
    out: Path,
    formats: tuple[Format, ...],
    int8: bool,
    fp16: bool,
    keep: tuple[str, ...],
    calibration: int,
    golden_real: int,
    not_frontal: Path | None,
    coverage: float,
    minimum_age: float | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Write a run's checkpoint as a bundle: every format, golden vectors, manifest.

    The bundle is written whole or not at all; one that is at --out already is replaced at the end. An fp32
    artifact that does not answer as the eager model does on the golden vectors fails the build.
    """
    progress_console = console(sys.stderr)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=progress_console, transient=True, disable=not progress_console.is_terminal
    ) as progress:
        task = progress.add_task("starting", total=None)

        def on_step(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        from export.build import build_bundle  # seconds: the bar is up first

        result = build_bundle(
            run, data, out, formats=formats, int8=int8, fp16=fp16, keep=keep, calibration=calibration,
            golden_real=golden_real, not_frontal=not_frontal, coverage=coverage, minimum_age=minimum_age, name=name,
            on_step=on_step,
        )  # fmt: skip
    manifest = result.manifest
    if as_json:
        import msgspec

        click.echo(
            msgspec.json.encode(
                {
                    "bundle": str(out),
                    "name": manifest.name,
                    "recommended": manifest.recommended,
                    "artifacts": result.tests,
                    "notes": result.notes,
                }
            ).decode()
        )
        return
    table = Table(title=f"{out}: bundle {manifest.name}", title_justify="left")
    for column in ("artifact", "MB", "largest |Δp| on golden vectors", "decisions that differ", "p50 ms", ""):
        table.add_column(column, justify="left" if column in ("artifact", "") else "right")
    for artifact, test in zip(manifest.artifacts, result.tests, strict=True):
        table.add_row(
            artifact.name,
            f"{sum(file.bytes for file in artifact.files) / 1e6:.1f}",
            f"{test.max_abs_probability_difference:.1e}",
            str(test.differing_decisions),
            f"{test.p50_ms:.1f}",
            "recommended" if artifact.name == manifest.recommended.get("cpu") else "",
        )
    console(sys.stdout).print(table)
    for note in result.notes:
        click.echo(f"Note: {note}")
    click.echo("Next: python -m export parity, on radiographs that the run was not trained on.")

"""``python -m export explain``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_runtime.terminal import console
from export.commands.adapter_option import adapter_option

if TYPE_CHECKING:
    from export.explain import Explanation

__all__ = ["command"]


@click.command("explain")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run the bundle was built from.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Dataset folder.")
@click.option("--artifact", required=True, metavar="NAME", help="The artifact to explain, such as onnx-int8.")
@click.option("--split", default="test", show_default=True, help="Where flips are looked for: test, valid or train.")
@click.option("--limit", type=click.IntRange(1), help="Look for flips in so many radiographs, spread over the split.")
@click.option(
    "--images", type=click.IntRange(1), default=8, show_default=True, help="Radiographs whose tensors are compared."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, allow_dash=True), help="Write JSON; - prints.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for explain-NAME.html and .json.")
@adapter_option
def command(
    bundle: Path,
    run: Path,
    data: Path,
    artifact: str,
    split: str,
    limit: int | None,
    images: int,
    json_file: Path | None,
    out: Path | None,
) -> int:
    """Say why an artifact answers otherwise than the full model.

    Layer by layer, signal to quantization noise and cosine against float; the ranges that calibration kept of each
    activation and what it cut; the radiographs that flip, with both heat maps.
    """
    progress_console = console(sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=progress_console, transient=True, disable=not progress_console.is_terminal
    ) as progress:
        task = progress.add_task("starting", total=None)

        import msgspec

        from export.explain import explain_artifact, explanation_object

        explanation = explain_artifact(
            bundle, run, data, artifact, split=split, limit=limit, images=images,
            on_step=lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )  # fmt: skip
        text = msgspec.json.format(msgspec.json.encode(explanation_object(explanation)), indent=2) + b"\n"
        if out is not None:
            _write(explanation, data, out, text)
    if json_file is not None and str(json_file) == "-":
        click.echo(text.decode(), nl=False)
        return 0
    if json_file is not None:
        from export.parity_report import write_atomically

        write_atomically(json_file, text)
    _show(explanation)
    if out is not None:
        click.echo(f"Report: {out / f'explain-{artifact}.html'}")
    return 0


def _write(explanation: Explanation, data: Path, out: Path, text: bytes) -> None:
    from export.errors import ExportError
    from export.explain_page import render_explanation
    from export.parity_report import read_pictures, write_atomically

    page = render_explanation(explanation, read_pictures(explanation.report, data))
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / f"explain-{explanation.artifact}.html", page.encode())
        write_atomically(out / f"explain-{explanation.artifact}.json", text)
    except OSError as error:
        raise ExportError(
            f"the explanation cannot be written to {out}", got=error.strerror or str(error),
            remedy="check the folder's permissions and the disk",
        ) from error  # fmt: skip


def _show(explanation: Explanation) -> None:
    from export.explain_page import decibels, short_name

    judged = explanation.report.artifacts[0]
    out = console(sys.stdout)
    out.print(
        f"{explanation.artifact}: {len(judged.differing)} of {len(judged.case_numbers)} decisions differ, largest |Δp| "
        f"{judged.max_abs_probability_difference:.2g}; tensors compared on {len(explanation.looked_at)} radiographs."
    )
    outputs = Table(title="outputs, as the field runs it", title_justify="left")
    for column in ("output", "SQNR dB", "cosine", "largest difference"):
        outputs.add_column(column, justify="left" if column == "output" else "right")
    for one in explanation.outputs:
        outputs.add_row(one.name, decibels(one.sqnr_db), f"{one.cosine:.5f}", f"{one.max_abs_difference:.2g}")
    out.print(outputs)
    if explanation.layers:
        layers = Table(title="the worst layers, everything before them quantized too", title_justify="left")
        for column in ("layer", "operator", "SQNR dB", "own rounding dB", "weights dB", "cosine"):
            layers.add_column(column, justify="left" if column in ("layer", "operator") else "right")
        for layer in explanation.worst_layers():
            layers.add_row(
                short_name(layer.name, 40), layer.op, decibels(layer.sqnr_db), decibels(layer.own_sqnr_db),
                decibels(layer.weight_sqnr_db), f"{layer.cosine:.5f}",
            )  # fmt: skip
        out.print(layers)
    if explanation.cuts:
        cuts = Table(title="activations that lose most by their own rounding", title_justify="left")
        for column in ("activation", "kept range", "seen here", "cut", "range used", "dB"):
            cuts.add_column(column, justify="left" if column == "activation" else "right")
        for cut in explanation.worst_cuts():
            cuts.add_row(
                short_name(cut.name, 40), f"{cut.low:.3g} .. {cut.high:.3g}",
                f"{cut.smallest:.3g} .. {cut.largest:.3g}",
                f"{cut.cut_share:.2%}", f"{cut.used_share:.0%}", decibels(cut.own_sqnr_db),
            )  # fmt: skip
        out.print(cuts)
    for note in explanation.notes:
        out.print(f"Note: {note}")

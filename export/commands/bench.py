"""``python -m export bench``."""

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
    from export.bench import BenchReport

__all__ = ["command"]


def _numbers(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("numbers with commas, such as 1,2,4") from None
    if min(numbers) < 1:
        raise click.BadParameter("at least 1")
    return numbers


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="Run folder: measure the full model in eager torch too.")
@click.option("--artifact", "artifacts", multiple=True, metavar="NAME", help="Only this artifact; repeatable.")
@click.option(
    "--backend", "backends", multiple=True, default=("all",), show_default=True, metavar="NAME",
    help="Other backend beside each artifact's own, such as openvino-bf16; all: those that this device opens; none.",
)  # fmt: skip
@click.option("--threads", callback=_numbers, help="Numbers of threads, with commas.  [default: 1, 2, 4, ... all]")
@click.option("--runs", type=click.IntRange(5), default=100, show_default=True, help="Timed runs of each row.")
@click.option("--image", default="512x424", show_default=True, help="Height x width of the radiograph in pixels.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, allow_dash=True), help="Write JSON; - prints.")
@click.option("--chart", type=click.Path(path_type=Path, dir_okay=False), help="Write the chart: .svg or .png.")
@adapter_option
def command(
    bundle: Path,
    run: Path | None,
    artifacts: tuple[str, ...],
    backends: tuple[str, ...],
    threads: tuple[int, ...] | None,
    runs: int,
    image: str,
    json_file: Path | None,
    chart: Path | None,
) -> int:
    """Measure latency, throughput by threads, load time, peak memory and size of every artifact of BUNDLE.

    Each artifact runs in a process of its own; the processes take turns, so that what the machine does meanwhile meets
    all alike. Figures of one run compare with each other, and with nothing measured elsewhere or at another time.
    """
    height, _, width = image.partition("x")
    if not (height.isdecimal() and width.isdecimal() and 1 <= int(height) <= 10000 and 1 <= int(width) <= 10000):
        raise click.BadParameter("height x width in pixels, such as 512x424", param_hint="--image")
    if chart is not None and chart.suffix not in (".svg", ".png"):
        raise click.BadParameter("a name that ends in .svg or .png", param_hint="--chart")
    progress_console = console(sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=progress_console, transient=True, disable=not progress_console.is_terminal
    ) as progress:
        task = progress.add_task("starting", total=None)

        from export.bench import bench_bundle, bench_object

        report = bench_bundle(
            bundle, run=run, artifacts=artifacts, threads=threads, image=(int(height), int(width)), runs=runs,
            backends=() if "none" in backends else backends,
            on_turn=lambda what, done, total: progress.update(task, description=what, completed=done, total=total),
        )  # fmt: skip
    if chart is not None:
        from export.bench_chart import draw_bench

        draw_bench(report, chart)
    if json_file is not None:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(bench_object(report)), indent=2) + b"\n"
        if str(json_file) == "-":
            click.echo(text.decode(), nl=False)
            return 0
        from export.parity_report import write_atomically

        write_atomically(json_file, text)
    _show(report)
    return 0


def _show(report: BenchReport) -> None:
    height, width = report.image
    out = console(sys.stdout)
    table = Table(title=f"{report.bundle}: one radiograph of {height} x {width} at a time", title_justify="left")
    for column in ("artifact", "threads", "p50 ms", "p95", "p99", "a second", "load ms", "first ms", "peak MB", "MB"):
        table.add_column(column, justify="left" if column == "artifact" else "right")
    for row in sorted(report.rows, key=lambda r: (r.threads, r.p50_ms or float("inf"))):
        if row.error is not None:
            continue
        table.add_row(
            row.name,
            str(row.threads),
            f"{row.p50_ms:.1f}",
            f"{row.p95_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.throughput:.1f}",
            f"{row.load_ms:.0f}",
            f"{row.first_ms:.0f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
            f"{row.size_bytes / 1e6:.1f}",
        )
    out.print(table)
    for row in report.rows:
        if row.error is not None:
            out.print(f"{row.name}, {row.threads} threads, was not measured: {row.error}", highlight=False)
    if report.load_average[0] > 0.5:
        out.print(
            f"Note: the machine was busy before this began (load {report.load_average[0]:.1f}): the rows compare with "
            "each other only.",
            highlight=False,
        )

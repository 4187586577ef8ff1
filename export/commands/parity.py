"""``python -m export parity``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_runtime.terminal import console

if TYPE_CHECKING:
    from export.parity_result import ParityReport

__all__ = ["command"]

_MOST_LINES = 20


@click.command("parity")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run the bundle was built from.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Dataset folder.")
@click.option("--split", default="test", show_default=True, help="test, valid or train.")
@click.option("--limit", type=click.IntRange(1), help="At most so many radiographs, spread over the split.")
@click.option("--artifact", "artifacts", multiple=True, metavar="NAME", help="Only this artifact; repeatable.")
@click.option(
    "--gate-int8",
    is_flag=True,
    help="Judge int8 by non-inferiority (accuracy within 1 point, COVID-19 sensitivity within 2) and exit 10 or 11.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write the report as JSON; - prints.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for parity.html with pictures, parity.json, parity.csv.",
)
def command(
    bundle: Path,
    run: Path,
    data: Path,
    split: str,
    limit: int | None,
    artifacts: tuple[str, ...],
    gate_int8: bool,
    json_file: Path | None,
    out: Path | None,
) -> int:
    """Compare every artifact of BUNDLE with the full model, radiograph by radiograph.

    Two questions, kept apart. Conversion, at fp32: no probability may differ by more than 1e-4 and no
    decision may differ. Quantization: reported as measured, or judged with --gate-int8. The result goes into
    the bundle's manifest and reports.

    Exit code: 0 nothing failed, 10 a conversion failed or a gated artifact is inferior, 11 a gate is not
    shown (too few radiographs), 1 the comparison could not be made, 2 wrong usage.
    """
    progress_console = console(sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=progress_console, transient=True, disable=not progress_console.is_terminal
    ) as progress:
        task = progress.add_task("radiographs", total=None)

        from edge_runtime.bundle import open_bundle
        from export.parity import check_parity
        from export.parity_report import (
            encode_json,
            read_pictures,
            record_parity,
            write_atomically,
            write_reports,
        )

        with open_bundle(bundle) as opened:
            report = check_parity(
                opened, run, data, split=split, artifacts=artifacts, limit=limit, gate_int8=gate_int8,
                on_radiograph=lambda done, total: progress.update(task, completed=done, total=total),
            )  # fmt: skip
            pictures = read_pictures(report, data)
            if out is not None:
                write_reports(report, out, pictures)
            if json_file is not None:
                if str(json_file) == "-":
                    click.echo(encode_json(report).decode(), nl=False)
                else:
                    write_atomically(json_file, encode_json(report))
            recorded = not opened.is_zip
            if recorded:
                record_parity(opened, report, pictures)
    if json_file is None or str(json_file) != "-":
        _show(report)
        if recorded:
            click.echo(f"Recorded in {bundle / 'manifest.json'} and {bundle / 'reports' / 'parity.html'}.")
    if not recorded:
        click.echo("Note: a zip is not changed in place, so the result is not recorded in the bundle.", err=True)
    return report.exit_code


def _show(report: ParityReport) -> None:
    from export.parity_page import headline

    what = "synthetic radiographs" if report.synthetic else "radiographs"
    out = console(sys.stdout)
    table = Table(
        title=f"{report.bundle}: {len(report.cases)} {what} of the split {report.split}; "
        f"full model right on {report.full_accuracy:.1%}",
        title_justify="left",
    )
    for column in (
        "artifact",
        "question",
        "verdict",
        "largest |Δp|",
        "mean |Δp|",
        "differ",
        "agreement",
        "accuracy",
    ):
        table.add_column(column, justify="left" if column in ("artifact", "question", "verdict") else "right")
    for artifact in report.artifacts:
        table.add_row(
            artifact.name,
            artifact.question,
            artifact.verdict,
            f"{artifact.max_abs_probability_difference:.1e}",
            f"{artifact.mean_abs_probability_difference:.1e}",
            str(len(artifact.differing)),
            f"{1 - len(artifact.differing) / len(report.cases):.1%}",
            f"{artifact.accuracy:.1%}",
        )
    out.print(table)
    lines = 0
    for artifact in report.artifacts:
        for number in artifact.differing:
            lines += 1
            if lines > _MOST_LINES:
                continue
            case = report.cases[number]
            answer = artifact.probabilities[number]
            out.print(
                f"{artifact.name} differs on {case.file} ({case.truth}): "
                f"{report.decision(case.probabilities)} {max(case.probabilities):.3f} -> "
                f"{report.decision(answer)} {max(answer):.3f}"
            )
    if lines > _MOST_LINES:
        out.print(f"... and {lines - _MOST_LINES} more, in the report.")
    if report.refused:
        out.print(f"The reader refused {len(report.refused)}: " + ", ".join(f for f, _ in report.refused[:10]))
    out.print(headline(report)[0] + ".")

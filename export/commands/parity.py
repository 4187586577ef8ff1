"""``python -m export parity``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from edge_runtime.terminal import console
from export.commands.adapter_option import adapter_option

if TYPE_CHECKING:
    from export.parity_result import ParityReport

__all__ = ["command", "judge_and_report"]

_MOST_LINES = 20


@click.command("parity")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Run the bundle was built from.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Dataset folder.")
@click.option("--split", default="test", show_default=True, help="test, valid or train.")
@click.option("--limit", type=click.IntRange(1), help="At most so many radiographs, spread over the split.")
@click.option("--artifact", "artifacts", multiple=True, metavar="NAME", help="Only this artifact; repeatable.")
@click.option(
    "--limits", type=click.Path(path_type=Path), help="TOML file of limits.  [default: export/parity_limits.toml]"
)
@click.option("--gate/--no-gate", default=True, show_default=True, help="Judge quantized artifacts, or measure only.")
@click.option(
    "--accept-not-shown",
    is_flag=True,
    help="Exit 0 where nothing failed and there were too few radiographs to show it.",
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    help="Judge answers that a device recorded (`edge-runtime predict --json`) instead of running the artifacts here.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="Judge artifacts on this other backend too, such as openvino-bf16; all: those that this device opens.",
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
    help="Folder for parity.html (with pictures and layers), parity.json, .csv, .md and .xml (JUnit).",
)
@adapter_option
def command(
    bundle: Path,
    run: Path,
    data: Path,
    split: str,
    limit: int | None,
    artifacts: tuple[str, ...],
    limits: Path | None,
    gate: bool,
    accept_not_shown: bool,
    predictions: Path | None,
    backends: tuple[str, ...],
    json_file: Path | None,
    out: Path | None,
) -> int:
    """Compare every artifact of BUNDLE with the full model, radiograph by radiograph.

    Two questions, kept apart. Conversion, at fp32: no probability may differ by more than 1e-4 and no decision may
    differ. Quantization: the decisions must stay (agreement), and accuracy and COVID-19 sensitivity must not be
    inferior, by Tango's paired intervals. The result goes into the bundle's manifest and reports; that of another
    backend (--backend), judged as quantization, into the reports alone.

    Exit code: 0 passed, 10 failed (a conversion differs, a quantized artifact is inferior or agrees too little),
    11 not shown (too few radiographs to tell), 1 the comparison could not be made, 2 wrong usage.
    """
    if predictions is not None and backends:
        raise click.UsageError("--backend runs artifacts here, and --predictions judges what ran elsewhere: give one")
    return judge_and_report(
        bundle, run, data, split=split, limit=limit, artifacts=artifacts, limits=limits, gate=gate,
        accept_not_shown=accept_not_shown, predictions=predictions, backends=backends, json_file=json_file,
        out=out,
    )  # fmt: skip


def judge_and_report(
    bundle: Path,
    run: Path,
    data: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    artifacts: tuple[str, ...] = (),
    limits: Path | None = None,
    gate: bool = True,
    accept_not_shown: bool = False,
    predictions: Path | None = None,
    backends: tuple[str, ...] = (),
    json_file: Path | None = None,
    out: Path | None = None,
) -> int:
    """Do what the command does, and return its exit code."""
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
                opened, run, data, split=split, artifacts=artifacts, limit=limit, gate=gate, limits=limits,
                accept_not_shown=accept_not_shown, predictions=predictions, backends=backends,
                on_radiograph=lambda done, total: progress.update(task, completed=done, total=total),
            )  # fmt: skip
            recorded = not opened.is_zip and predictions is None
            pictures = read_pictures(report, data) if out is not None or (recorded and report.synthetic) else {}
            layers = None
            if out is not None:
                from export.explain_page import layer_charts

                progress.update(task, description="layers")
                layers = layer_charts(opened, run, data, report) if predictions is None else None
                write_reports(report, out, pictures, layers)
            if json_file is not None:
                if str(json_file) == "-":
                    click.echo(encode_json(report).decode(), nl=False)
                else:
                    write_atomically(json_file, encode_json(report))
            if recorded:
                record_parity(opened, report, pictures, layers)
    if json_file is None or str(json_file) != "-":
        _show(report)
        if recorded:
            click.echo(f"Recorded in {bundle / 'manifest.json'} and {bundle / 'reports' / 'parity.html'}.")
        if out is not None:
            click.echo(f"Report: {out / 'parity.html'}")
    if not recorded:
        why = "a zip is not changed in place" if predictions is None else "recorded answers are about another device"
        click.echo(f"Note: {why}, so the result is not recorded in the bundle.", err=True)
    return report.exit_code


def _show(report: ParityReport) -> None:
    from export.parity_text import headline, verdict_words

    what = "synthetic radiographs" if report.synthetic else "radiographs"
    out = console(sys.stdout)
    table = Table(
        title=f"{report.bundle}: {len(report.cases)} {what} of the split {report.split}; "
        f"full model right on {report.full_accuracy:.1%}",
        title_justify="left",
    )
    columns = ("artifact", "question", "verdict", "largest |Δp|", "mean |Δp|", "differ", "agreement", "κ", "accuracy")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:3] else "right")
    styles = {"passed": "green", "failed": "red", "not_shown": "yellow"}
    for artifact in report.artifacts:
        kappa = artifact.drift.kappa
        table.add_row(
            artifact.name,
            artifact.question,
            Text(verdict_words(artifact.verdict), style=styles.get(artifact.verdict, "")),
            f"{artifact.max_abs_probability_difference:.1e}",
            f"{artifact.mean_abs_probability_difference:.1e}",
            str(len(artifact.differing)),
            f"{artifact.agreement:.1%}",
            "" if kappa is None else f"{kappa:.3f}",
            f"{artifact.accuracy:.1%}",
        )
    out.print(table)
    for artifact in report.artifacts:
        for criterion in artifact.criteria:
            if criterion.verdict != "met" and artifact.verdict != "reported":
                more = f" ({criterion.underpowered})" if criterion.underpowered else ""
                out.print(
                    f"{artifact.name}: {criterion.name}: {verdict_words(criterion.verdict)}: {criterion.found}, "
                    f"asked {criterion.limit}{more}",
                    highlight=False,
                )
    _show_flips(report)
    if report.refused:
        out.print(f"The reader refused {len(report.refused)}: " + ", ".join(f for f, _ in report.refused[:10]))
    for name, why in report.validated_elsewhere.items():
        out.print(f"{name} was validated on another kind of CPU before: {why}")
    for note in report.notes:
        out.print(f"Note: {note}")
    accepted = " (accepted)" if report.accept_not_shown and headline(report)[1] == "not_shown" else ""
    out.print(headline(report)[0] + accepted + ".")


def _show_flips(report: ParityReport) -> None:
    out = console(sys.stdout)
    lines = 0
    for artifact in report.artifacts:
        for number in artifact.differing:
            lines += 1
            answer = artifact.answer(number)
            if lines > _MOST_LINES or answer is None:
                continue
            case = report.cases[number]
            out.print(
                f"{artifact.name} differs on {case.file} ({case.truth}): "
                f"{report.decision(case.probabilities)} {max(case.probabilities):.3f} -> "
                f"{report.decision(answer)} {max(answer):.3f}"
            )
    if lines > _MOST_LINES:
        out.print(f"... and {lines - _MOST_LINES} more, in the report.")

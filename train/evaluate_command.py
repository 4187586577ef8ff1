"""``python -m train evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from train.evaluation.record import Evaluation

__all__ = ["evaluate_command"]


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data set folder.")
@click.option("--split", type=click.Choice(["test", "valid", "train"]), default="test", show_default=True)
@click.option("--tta", is_flag=True, help="Average over mirrored and zoomed views too, and show it beside.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Report folder.  [default: RUN/evaluation-SPLIT]"
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for decoded images.  [default: DATA/cache]")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that decode images.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--resamples", type=click.IntRange(100), default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--top", type=click.IntRange(0), default=12, show_default=True, help="How many of the largest losses.")
@click.option("--pictures/--no-pictures", default=True, help="Radiographs and heat maps in the report.")
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json.")
def evaluate_command(
    run: Path,
    data: Path,
    split: str,
    tta: bool,
    out: Path | None,
    device: str,
    cache: Path | None,
    workers: int,
    seed: int,
    resamples: int,
    top: int,
    pictures: bool,
    as_json: bool,
) -> None:
    """Evaluate the run in RUN on a split.

    Writes report.html (self-contained), evaluation.json and predictions.csv.
    """
    from train.evaluate import HTML_NAME, EvaluateOptions, evaluate

    options = EvaluateOptions(
        split=split,
        tta=tta,
        out=out,
        device=device,
        cache=cache,
        workers=workers,
        seed=seed,
        resamples=resamples,
        top=top,
        pictures=pictures,
    )
    if not sys.stderr.isatty():
        click.echo(f"evaluating {run} on the {split} split of {data}", err=True)
    evaluation = evaluate(run, data, options)
    if as_json:
        click.echo(evaluation.to_json(), nl=False)
        return
    _print(evaluation)
    click.echo(f"report: {(out or run / f'evaluation-{split}') / HTML_NAME}")


def _print(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from train.evaluation.summary import percent

    console = Console(highlight=False)
    if evaluation.synthetic:
        console.print("SYNTHETIC radiographs: this says nothing about patients.", style="bold yellow")
    table = Table("class", "cases", "sensitivity", "specificity", "PPV", "F1", "AUROC", box=None, pad_edge=False)
    for found in evaluation.result.classes:
        shares = [percent(x.value) for x in (found.sensitivity, found.specificity, found.ppv)]
        figures = ["n/a" if x.value is None else f"{x.value:.3f}" for x in (found.f1, found.auroc)]
        table.add_row(found.label, str(found.cases), *shares, *figures)
    console.print(table)
    for line in (*evaluation.summary, *evaluation.warnings):
        console.print(f"- {line}", markup=False)
    console.print("For research only, not a medical device.", style="dim")

"""``python -m train data build``: the command."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from train.data.covidx import BuildOptions, BuildResult, build_covidx
from train.data.rows import SPLITS

__all__ = ["build"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("build")
@click.option("--cohen", type=_FOLDER, help="ieee8023/covid-chestxray-dataset: metadata.csv and images/.")
@click.option("--figure1", type=_FOLDER, help="Figure1-COVID-chestxray-dataset: metadata.csv and images/.")
@click.option("--actualmed", type=_FOLDER, help="Actualmed-COVID-chestxray-dataset: metadata.csv and images/.")
@click.option("--radiography", type=_FOLDER, help="COVID-19 radiography database: its sheet and COVID-19/.")
@click.option("--rsna", type=_FOLDER, help="RSNA Pneumonia Detection Challenge: stage_2_*.csv and DICOM files.")
@click.option("--splits", type=_FOLDER, help="Published tables: train_split_v3.csv and test_split_v3.csv.")
@click.option("--out", type=_FOLDER, required=True, help="The dataset folder: made, or brought up to date.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides what no published table decides.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    show_default="CPU cores",
    help="Processes that read images.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def build(
    cohen: Path | None,
    figure1: Path | None,
    actualmed: Path | None,
    radiography: Path | None,
    rsna: Path | None,
    splits: Path | None,
    out: Path,
    seed: int,
    workers: int,
    as_json: bool,
) -> None:
    """Build the COVIDx dataset from any subset of its sources.

    Writes images/, train.csv, valid.csv, test.csv, boxes.csv and dataset.json. Run it again after a kill, or
    after a source has changed: it does only what is left. See docs/data.md.
    """
    if not any((cohen, figure1, actualmed, radiography, rsna)):
        raise click.UsageError("name at least one of --cohen, --figure1, --actualmed, --radiography, --rsna")
    options = BuildOptions(
        out=out,
        cohen=cohen,
        figure1=figure1,
        actualmed=actualmed,
        radiography=radiography,
        rsna=rsna,
        splits=splits,
        seed=seed,
        workers=workers,
    )
    begun = time.monotonic()
    result = build_covidx(options)
    seconds = time.monotonic() - begun
    if as_json:
        click.echo(json.dumps(_summary(result, out, seconds)))
    else:
        _print_summary(result, out, seconds)


def _summary(result: BuildResult, out: Path, seconds: float) -> dict[str, object]:
    record = result.record
    return {
        "out": str(out),
        "counts": record.counts,
        "written": result.written,
        "unchanged": result.kept,
        "removed": result.removed,
        "missing": len(record.missing),
        "dropped": len(record.dropped),
        "refused": len(result.refused),
        "near_duplicates": [msgspec.to_builtins(pair) for pair in record.near_duplicates],
        "published": record.published,
        "tables": record.tables,
        "notes": list(record.notes),
        "seconds": round(seconds, 2),
    }


def _print_summary(result: BuildResult, out: Path, seconds: float) -> None:
    record = result.record
    # A narrow pipe must not cut the figures: rich then takes 80 columns.
    console = Console(highlight=False, soft_wrap=True)
    table = Table("label", "source", *SPLITS, title=f"COVIDx in {out}", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for label in record.labels:
        for source in sorted({of for split in SPLITS for of in record.counts[split][label]}):
            table.add_row(label, source, *(str(record.counts[split][label].get(source, 0)) for split in SPLITS))
    table.add_section()
    totals = (sum(sum(by.values()) for by in record.counts[split].values()) for split in SPLITS)
    table.add_row("all", "", *(str(total) for total in totals))
    console.print(table)
    console.print(f"{result.written} images read, {result.kept} unchanged, {result.removed} removed in {seconds:.1f} s")
    console.print(f"{len(record.missing)} listed images are missing, {len(record.dropped)} left out: see dataset.json")
    if result.refused:
        first = result.refused[0]
        console.print(f"the reader refused {len(result.refused)} images; the first, {first.file}: {first.why}")
    if record.published is not None:
        here = sum(record.published["listed_and_here"].values())
        differ = len(record.published["differences"])
        console.print(f"{here} images are in the published tables; label or split differs for {differ}")
    if record.near_duplicates:
        console.print(f"{len(record.near_duplicates)} pairs of images look alike across splits; the closest:")
        for pair in record.near_duplicates[:5]:
            console.print(
                f"  {pair.filename} ({pair.split}) and {pair.other_filename} ({pair.other_split}): "
                f"{pair.distance} bits apart"
            )
    else:
        console.print("no images look alike across splits")
    for note in record.notes:
        console.print(f"note: {note}")

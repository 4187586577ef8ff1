"""``python -m train data describe``: the command."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console

from train.data.description.describe import PAGE_NAME, DescribeOptions, describe

__all__ = ["describe_command"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("describe")
@click.option("--data", type=_FOLDER, required=True, help="Data set folder.")
@click.option("--out", type=_FOLDER, required=True, help="Folder for the page, the JSON and the tables.")
@click.option("--run", type=_FOLDER, help="Also lay out this run's embeddings (t-SNE) and say what it calls right.")
@click.option("--cache", type=_FOLDER, help="Folder for decoded images.  [default: DATA/cache; only with --run]")
@click.option("--points", type=click.IntRange(10), default=2500, show_default=True, help="Most radiographs to lay out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of t-SNE and of the draw.")
@click.option("--thumbnails/--no-thumbnails", default=True, help="Put small images of the radiographs on the page.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Readers of images.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print description.json.")
def describe_command(
    data: Path,
    out: Path,
    run: Path | None,
    cache: Path | None,
    points: int,
    seed: int,
    thumbnails: bool,
    workers: int,
    device: str,
    as_json: bool,
) -> None:
    """Describe a data set: one page that works without a network, a JSON file and tables.

    Classes, sources, views, sizes, ages and sexes by split; how far source and class are confounded; leakage
    between the splits, checked anew; with --run, a map of the run's embeddings. See docs/describe.md.
    """
    options = DescribeOptions(run, cache, points, seed, thumbnails, workers, device)
    description = describe(data, out, options)
    if as_json:
        click.echo(msgspec.json.encode(description).decode())
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    counts = ", ".join(f"{split} {count}" for split, count in description.images.items())
    console.print(f"{sum(description.images.values())} images ({counts})")
    for finding in description.findings:
        console.print(f"- {finding}")
    console.print(f"open {out / PAGE_NAME}")

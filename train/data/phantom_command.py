"""``python -m train data phantom``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edge_runtime.reading.limits import DEFAULT_LIMITS
from train.data.phantom import MAXIMUM_SIZE
from train.data.phantom_dataset import DICOM_NAME, MINIMUM_COUNT, build_phantom_dataset
from train.data.rows import SPLITS, Dataset

__all__ = ["phantom"]


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@click.option(
    "--count",
    default=100,
    show_default=True,
    type=click.IntRange(min=MINIMUM_COUNT),
    help=f"Radiographs of each class; {MINIMUM_COUNT} or more, one for each split.",
)
@click.option(
    "--size",
    default=384,
    show_default=True,
    type=click.IntRange(DEFAULT_LIMITS.min_edge, MAXIMUM_SIZE),
    help="Shorter side in pixels.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="The same seed, the same bytes.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; as many as there are CPUs.")
@click.option("--overwrite", is_flag=True, help="Replace a dataset of other phantoms at --out.")
def phantom(out: Path, count: int, size: int, seed: int, workers: int | None, overwrite: bool) -> None:
    """Draw SYNTHETIC chest radiographs: DICOM files and a dataset to train on.

    Normal, pneumonia (lobar consolidation) and COVID-19 (ground glass in the periphery of both lungs). For
    demonstrations and tests: what a model learns from them says nothing about patients.
    """
    dataset = build_phantom_dataset(out, count, size, seed, workers=workers, overwrite=overwrite)
    console = Console(stderr=True)
    console.print(_counts(dataset))
    line = f"SYNTHETIC radiographs: {out} (DICOM in {out / DICOM_NAME})"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _counts(dataset: Dataset) -> Table:
    table = Table("split", *dataset.labels, "patients")
    for split in SPLITS:
        rows = dataset.splits[split]
        of_label = [str(sum(row.label == label for row in rows)) for label in dataset.labels]
        table.add_row(split, *of_label, str(len({row.patient for row in rows})))
    return table

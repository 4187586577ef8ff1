"""``python -m train data batches``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from train.recipe import load_recipe, recipe_names

__all__ = ["batches"]


@click.command("batches")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data set folder.")
@click.option("--recipe", "recipe_name", required=True, metavar="NAME", help=f"{', '.join(recipe_names())}, or a file.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Figure: .png, .svg, .pdf.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a recipe field; repeatable.")
@click.option("--stage", "stage_number", default=1, show_default=True, type=click.IntRange(1), help="Of the recipe.")
@click.option("--seed", default=0, show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for decoded images.  [default: DATA/cache]")
@click.option("--workers", default=2, show_default=True, help="Processes that decode images.")
@click.option("--json", "as_json", is_flag=True, help="Print the class counts as JSON.")
def batches(
    data: Path,
    recipe_name: str,
    out: Path,
    overrides: tuple[str, ...],
    stage_number: int,
    seed: int,
    cache: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Draw training batches before and after resampling.

    Class counts of the training split and of one epoch, the first batch drawn evenly, and the first batch that fit
    would train on, augmented.
    """
    recipe = load_recipe(recipe_name, overrides)
    if stage_number > len(recipe.stages):
        raise click.BadParameter(f"recipe {recipe.name} has {len(recipe.stages)} stages", param_hint="--stage")
    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"{out.name} ends neither in .png nor in .svg or .pdf", param_hint="--out")
    from train.batch_figure import draw_batches, sample_batches
    from train.data.tables import check_dataset, load_dataset
    from train.loading import ImageStore

    dataset = load_dataset(data)
    check_dataset(dataset, splits=("train",))
    size = recipe.stages[stage_number - 1].size
    store = ImageStore(dataset, cache or dataset.root / "cache", workers)
    sampled = sample_batches(store, recipe, size, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    kind = ", SYNTHETIC radiographs" if dataset.synthetic else ""
    draw_batches(sampled, out, f"recipe {recipe.name}, {size} px, seed {seed}{kind}")
    table = {
        label: {"radiographs": count, "drawn": drawn, "distinct": distinct}
        for label, count, drawn, distinct in zip(
            sampled.labels, sampled.counts, sampled.drawn, sampled.distinct, strict=True
        )
    }
    if as_json:
        click.echo(json.dumps({"figure": str(out), "size": size, "classes": table}))
        return
    for label, row in table.items():
        click.echo(
            f"{label}: {row['radiographs']} radiographs, drawn {row['drawn']} times an epoch "
            f"({row['distinct']} different ones)"
        )
    click.echo(str(out))

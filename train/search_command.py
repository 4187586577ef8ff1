"""``python -m train search``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from train.recipe import load_recipe, recipe_names

__all__ = ["search_command"]


@click.command("search")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data set folder.")
@click.option("--recipe", "recipe_name", required=True, metavar="NAME", help=f"{', '.join(recipe_names())}, or a file.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="For the results.")
@click.option(
    "--wd",
    "weight_decays",
    multiple=True,
    type=click.FloatRange(0),
    default=(2e-4, 2e-3, 2e-2, 2e-1),
    show_default=True,
    help="Weight decay; repeatable.",
)
@click.option("--stage", "stage_number", default=1, show_default=True, type=click.IntRange(1), help="Of the recipe.")
@click.option("--iterations", default=100, show_default=True, type=click.IntRange(20), help="Steps of each curve.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a recipe field; repeatable.")
@click.option("--weights", metavar="SOURCE", help="Starting weights: imagenet, none, a file, or a run folder.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for decoded images.  [default: DATA/cache]")
@click.option("--workers", default=2, show_default=True, help="Processes that decode images.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def search_command(
    data: Path,
    recipe_name: str,
    out: Path,
    weight_decays: tuple[float, ...],
    stage_number: int,
    iterations: int,
    overrides: tuple[str, ...],
    weights: str | None,
    seed: int,
    device: str,
    cache: Path | None,
    workers: int,
    as_json: bool,
) -> None:
    """Search learning rate and weight decay.

    One learning-rate curve for each weight decay, each from the same weights over the same batches. Leaves search.json
    and search.png in OUT.
    """
    recipe = load_recipe(recipe_name, overrides)
    if stage_number > len(recipe.stages):
        raise click.BadParameter(f"recipe {recipe.name} has {len(recipe.stages)} stages", param_hint="--stage")
    import msgspec
    import torch

    from train.data.tables import check_dataset, load_dataset
    from train.loading import ImageStore
    from train.model import build_classifier
    from train.processes import Processes, choose_device
    from train.progress import track
    from train.search import Search, draw_search, save_search, search_learning_rates, suggest
    from train.weights import load_starting_weights

    dataset = load_dataset(data)
    check_dataset(dataset, splits=("train", "valid"))
    torch.manual_seed(seed)
    model = build_classifier(recipe.architecture, len(dataset.labels), recipe.head_dropout)
    starting = load_starting_weights(model, weights or recipe.starting_weights, recipe.architecture)
    out.mkdir(parents=True, exist_ok=True)
    store = ImageStore(dataset, cache or dataset.root / "cache", workers, Processes(device=choose_device(device)))
    stage = recipe.stages[stage_number - 1]
    decays = sorted(set(weight_decays))
    found = search_learning_rates(store, model, recipe, stage, decays, iterations, seed)
    curves = tuple(track(found, "searching", len(decays)))
    search = Search(
        recipe=recipe.name,
        stage=stage_number,
        size=stage.size,
        seed=seed,
        iterations=iterations,
        starting_weights=starting,
        synthetic=dataset.synthetic,
        curves=curves,
        suggestion=suggest(curves),
    )
    save_search(search, out / "search.json")
    draw_search(search, out / "search.png")
    best = search.suggestion
    if as_json:
        short = replace(search, curves=tuple(replace(c, learning_rates=(), losses=()) for c in curves))
        click.echo(msgspec.json.encode(short).decode())
        return
    click.echo("weight decay   valley (learning rate)   lowest loss")
    for curve in curves:
        rate = f"{curve.valley:.2e}" if curve.valley is not None else "none found"
        click.echo(f"{curve.weight_decay:12g}   {rate:>22}   {curve.lowest_loss:11.4f}")
    if best is None:
        click.echo("No suggestion: no curve has a valley; give more --iterations.")
    else:
        place = f"stages.{stage_number - 1}"
        if len(curves) > 1 and max(c.lowest_loss for c in curves) < 1.01 * min(c.lowest_loss for c in curves):
            click.echo("The curves fall equally low, to 1 %: this search does not tell the weight decays apart.")
        click.echo(f"Suggested: --set {place}.lr={best.learning_rate:.2e} --set {place}.wd={best.weight_decay:g}")
    click.echo(f"{out / 'search.png'}, {out / 'search.json'}")

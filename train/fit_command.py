"""``python -m train fit``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from train.recipe import load_recipe, recipe_names

__all__ = ["fit_command"]


@click.command("fit")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Data set folder.")
@click.option(
    "--recipe",
    "recipe_name",
    required=True,
    metavar="NAME",
    help=f"{', '.join(recipe_names())}, or a .toml file.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Run folder.")
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Override a recipe field; repeatable.")
@click.option("--weights", metavar="SOURCE", help="Starting weights: imagenet, none, a file, or a run folder.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for decoded images.  [default: DATA/cache]")
@click.option("--workers", default=2, show_default=True, help="Processes that decode images.")
@click.option("--restart", is_flag=True, help="Throw away the run that OUT holds.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit_command(
    data: Path,
    recipe_name: str,
    out: Path,
    overrides: tuple[str, ...],
    weights: str | None,
    seed: int,
    device: str,
    cache: Path | None,
    workers: int,
    restart: bool,
    as_json: bool,
) -> None:
    """Train a classifier.

    Killed at any moment and started again with the same command, it goes on from its last finished epoch. On several
    GPUs or machines: torchrun --nproc_per_node=N -m train fit ...
    """
    recipe = load_recipe(recipe_name, overrides)
    from train.fit import FitOptions, fit

    options = FitOptions(weights=weights, seed=seed, device=device, cache=cache, workers=workers, restart=restart)
    run = fit(data, recipe, out, options)
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun the first process speaks for all
    last = run.spec.history[-1]
    if as_json:
        summary = {
            "run": str(out),
            "epochs": run.spec.epochs,
            "temperature": run.spec.temperature,
            "last": last,
        }
        click.echo(json.dumps(summary))
        return
    kind = " on SYNTHETIC radiographs" if run.spec.synthetic else ""
    click.echo(
        f"{out}: {run.spec.epochs} epochs of recipe {run.spec.recipe['name']}{kind}, validation accuracy "
        f"{last['accuracy']:.3f}, temperature {run.spec.temperature:.2f}"
    )

"""``python -m train count``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

__all__ = ["count_command"]

_EXPLANATION = """\
The seed's figures count more than multiply-adds: batch norm as two operations for each element (at inference it is part
of the convolution before it), squeeze-excite products and pooling, and residual additions. They leave its custom
swish out. Counted by the same rules, the difference is gone."""


@click.command("count")
@click.option("--architecture", default="efficientnet_b1", show_default=True, help="pytorchcv's name.")
@click.option("--classes", default=3, show_default=True, type=click.IntRange(2))
@click.option("--sizes", multiple=True, type=click.IntRange(32), metavar="SIZE...", help="[default: 240 450 600]")
@click.argument("more_sizes", nargs=-1, type=click.IntRange(32), metavar="")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def count_command(
    architecture: str, classes: int, sizes: tuple[int, ...], more_sizes: tuple[int, ...], as_json: bool
) -> None:
    """Count parameters, and multiply-adds by input size, beside the seed's."""
    from train.counting import SEED_MULTIPLY_ADDS, count_classifier

    counting = count_classifier(architecture, classes, (*sizes, *more_sizes) or (240, 450, 600))
    seed = SEED_MULTIPLY_ADDS if architecture == "efficientnet_b1" else {}
    if as_json:
        counts = [
            {**asdict(c), "by_the_seeds_rules": c.by_the_seeds_rules, "seed": seed.get(c.size)} for c in counting.counts
        ]
        click.echo(json.dumps({**asdict(counting), "counts": counts}))
        return
    click.echo(f"{architecture}, {classes} classes: {counting.parameters:,} parameters\n")
    click.echo("  size   multiply-adds   by the seed's rules   the seed   difference")
    for c in counting.counts:
        known = seed.get(c.size)
        beside = f"{known / 1e9:7.3f} G   {c.by_the_seeds_rules / known - 1:+9.2%}" if known else "      -            -"
        click.echo(f"{c.size:6d}   {c.multiply_adds / 1e9:11.3f} G   {c.by_the_seeds_rules / 1e9:17.3f} G  {beside}")
    click.echo("\nBy the seed's rules, in 10^6 operations:")
    kinds = list(counting.counts[0].operations)
    width = max(map(len, kinds))
    for kind in kinds:
        figures = "".join(f"{c.operations[kind] / 1e6:12.3f}" for c in counting.counts)
        click.echo(f"  {kind:<{width}}{figures}")
    if seed:
        click.echo(f"\n{_EXPLANATION}")

"""``python -m mobile_demo.operators BUNDLE OUT``: what a smaller libtorch must hold, from a bundle's manifest.

PyTorch's own Android and iOS builds take the file as ``SELECTED_OP_LIST``. Exit code 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from edge_runtime.bundle import open_bundle
from edge_runtime.errors import BundleError, UsageError
from edge_runtime.exit_codes import exit_code
from edge_runtime.manifest import Artifact, Manifest

__all__ = ["selected_operators", "write_operators"]


def selected_operators(manifest: Manifest, names: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the operators of each lite artifact, sorted, by its name: of all, or of those in ``names``.

    Raises
    ------
    UsageError
        No lite artifact of that name.
    BundleError
        The bundle has none at all.
    """
    lite: dict[str, Artifact] = {a.name: a for a in manifest.artifacts if a.format == "lite"}
    if not lite:
        raise BundleError(
            f"bundle {manifest.name} has no artifact for the lite interpreter",
            got=", ".join(a.name for a in manifest.artifacts),
            expected="lite-fp32 or lite-int8",
            remedy="build the bundle with --formats lite,...",
        )
    for name in names:
        if name not in lite:
            raise UsageError(f"the bundle has no lite artifact {name}", expected=", ".join(lite))
    found = {}
    for name, artifact in lite.items():
        if names and name not in names:
            continue
        assert artifact.lite is not None, "the manifest's schema has it for every lite artifact"
        found[name] = tuple(sorted(artifact.lite.operators))
    return found


def write_operators(operators: dict[str, tuple[str, ...]], out: Path) -> int:
    """Write the union as a YAML list, in a temporary file and then in place; return how many operators it has."""
    union = sorted({operator for artifact in operators.values() for operator in artifact})
    part = out.with_name(f".{out.name}.part")
    # names of operators hold no character that YAML would read otherwise ("aten::add.Tensor")
    part.write_text("".join(f"- {operator}\n" for operator in union), encoding="utf-8")
    part.replace(out)
    return len(union)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle_path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--artifact", "artifacts", metavar="NAME", multiple=True, help="Only this lite artifact; repeatable.")
def command(bundle_path: Path, out: Path, artifacts: tuple[str, ...]) -> None:
    """Write OUT (selected_operators.yaml): the operators of BUNDLE's lite artifacts, for a smaller libtorch."""
    with open_bundle(bundle_path) as bundle:
        operators = selected_operators(bundle.manifest, artifacts)
    count = write_operators(operators, out)
    click.echo(f"{out}: {count} operators ({', '.join(f'{name} {len(ops)}' for name, ops in operators.items())})")


def main() -> None:
    """Run the command line; every failure ends in one message and an exit code."""
    sys.exit(exit_code(lambda: command(standalone_mode=False)))


if __name__ == "__main__":
    main()

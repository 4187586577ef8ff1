"""``edge-runtime info``: what is in a bundle, and what of it this device can open."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge_runtime.answer import DISCLAIMER
from edge_runtime.backends import backend_for_format, why_unavailable
from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.commands.options import bundle_argument
from edge_runtime.manifest import Artifact, Manifest

__all__ = ["command"]


@click.command("info", short_help="Show what a bundle holds and what this device can open.")
@bundle_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(bundle_path: Path, as_json: bool) -> int:
    """Show what BUNDLE holds: labels, artifacts, parity, where it comes from, what it is for.

    Reads the manifest only; `selftest` checks the files.
    """
    with open_bundle(bundle_path) as bundle:
        if as_json:
            from edge_runtime.answer_lines import json_line

            sys.stdout.buffer.write(json_line(_describe(bundle)))
        else:
            _show(bundle.manifest)
    return 0


def _describe(bundle: Bundle) -> dict[str, Any]:
    from msgspec import to_builtins

    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "path": str(bundle.source),
        "schema_version": manifest.schema_version,
        "labels": manifest.labels,
        "image_size": manifest.input.preprocessing_in_graph.size,
        "temperature": manifest.calibration.temperature,
        "recommended": manifest.recommended,
        "artifacts": [_describe_artifact(a, manifest) for a in manifest.artifacts],
        "golden": {"vectors": len(manifest.golden.inputs), "synthetic": manifest.golden.synthetic},
        "provenance": to_builtins(manifest.provenance),
        "licence": manifest.licence,
        "intended_use": manifest.intended_use,
        "limitations": manifest.limitations,
        "disclaimer": DISCLAIMER,
    }


def _describe_artifact(artifact: Artifact, manifest: Manifest) -> dict[str, Any]:
    from msgspec import to_builtins

    kind = backend_for_format(artifact.format)
    unavailable = why_unavailable(kind)
    return {
        "name": artifact.name,
        "format": artifact.format,
        "precision": artifact.precision,
        "bytes": sum(f.bytes for f in artifact.files),
        "files": [f.path for f in artifact.files],
        "backend": kind.name,
        "available": unavailable is None,
        "why_unavailable": unavailable,
        "recommended_for": [d for d, name in manifest.recommended.items() if name == artifact.name],
        "parity": to_builtins(artifact.parity),
        "validated_on": to_builtins(artifact.validated_on),
    }


def _show(manifest: Manifest) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edge_runtime.terminal import console, printable

    out = console(sys.stdout)
    source = manifest.provenance
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("bundle", printable(manifest.name))
    facts.add_row("labels", ", ".join(map(printable, manifest.labels)))
    facts.add_row("network", f"{source.architecture} at {manifest.input.preprocessing_in_graph.size} px")
    facts.add_row("recipe", printable(source.recipe))
    facts.add_row("trained on", "synthetic images" if source.trained_on_synthetic_data else "radiographs")
    facts.add_row("checkpoint", source.checkpoint_sha256[:16])
    facts.add_row("created", printable(source.created))
    facts.add_row("licence", printable(manifest.licence))
    facts.add_row("intended use", printable(manifest.intended_use))
    for limitation in manifest.limitations:
        facts.add_row("limitation", printable(limitation))
    out.print(facts)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("artifact", "MB", "runs here", "parity", "max |Δp|", "decisions that differ"):
        table.add_column(name, justify="right" if name in ("MB", "max |Δp|", "decisions that differ") else "left")
    for artifact in manifest.artifacts:
        kind = backend_for_format(artifact.format)
        parity = artifact.parity
        star = " (recommended)" if artifact.name in manifest.recommended.values() else ""
        table.add_row(
            artifact.name + star,
            f"{sum(f.bytes for f in artifact.files) / 1e6:.1f}",
            f"no: {missing}" if (missing := why_unavailable(kind)) else f"on {kind.name}",
            "not measured" if parity is None else f"{parity.verdict} on {printable(parity.split)}",
            "" if parity is None else f"{parity.max_abs_probability_difference:.1e}",
            "" if parity is None else f"{parity.differing_decisions} of {parity.radiographs}",
        )
    out.print(table)
    out.print(Text(DISCLAIMER, style="dim"))

"""``edge-runtime selftest``: does this device answer as the full model does?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_runtime.bundle import open_bundle
from edge_runtime.commands.options import bundle_argument, threads_option

if TYPE_CHECKING:
    from edge_runtime.selftest import SelfTest

__all__ = ["command"]


@click.command("selftest", short_help="Check every artifact on this device against the golden vectors.")
@bundle_argument
@click.option("--artifact", "artifacts", multiple=True, metavar="NAME", help="Only this artifact; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@threads_option
def command(bundle_path: Path, artifacts: tuple[str, ...], as_json: bool, threads: int | None) -> int:
    """Run every artifact of BUNDLE that this device can open against the bundle's golden vectors.

    "agrees": every decision is the full model's. "as built": a quantized artifact decides some vectors otherwise,
    and no more than where it was built. An artifact that was validated on another kind of CPU is named: here the
    golden vectors alone vouch for it.

    Exit code 0 when at least one can be opened and none of those that can be opened differs; otherwise 1.
    """
    from edge_runtime.selftest import run_selftest

    with open_bundle(bundle_path) as bundle:
        if sys.stderr.isatty():
            from edge_runtime.terminal import console

            with console(sys.stderr).status("opening") as status:
                result = run_selftest(bundle, threads, lambda name: status.update(f"testing {name}"), artifacts)
        else:
            result = run_selftest(bundle, threads, artifacts=artifacts)
    if as_json:
        from edge_runtime.answer_lines import json_line

        sys.stdout.buffer.write(json_line({"passed": result.passed, **asdict(result)}))
    else:
        _show(result)
    return 0 if result.passed else 1


def _show(result: SelfTest) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edge_runtime.answer import DISCLAIMER
    from edge_runtime.terminal import console, printable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("artifact", "backend", "verdict"):
        table.add_column(name)
    for name in ("max |Δp|", "allowed", "decisions that differ", "p50 ms"):
        table.add_column(name, justify="right")
    styles = {"agrees": "green", "as_built": "yellow", "not_installed": "dim"}
    for test in result.artifacts:
        verdict = Text(test.status.replace("_", " "), style=styles.get(test.status, "red"))
        if test.max_abs_probability_difference is None or test.p50_ms is None:
            table.add_row(test.artifact, test.backend, verdict, "", "", "", "")
            continue
        table.add_row(
            test.artifact,
            test.backend,
            verdict,
            f"{test.max_abs_probability_difference:.1e}",
            f"{test.allowed_probability_difference:.1e}",
            f"{test.differing_decisions} of {result.vectors}",
            f"{test.p50_ms:.1f}",
        )
    out = console(sys.stdout)
    out.print(table)
    for test in result.artifacts:
        if test.why is not None:
            out.print(Text(f"{test.artifact}: {printable(test.why)}"))
    as_built = [test.artifact for test in result.artifacts if test.status == "as_built"]
    if as_built:
        out.print(Text(f"As built: {', '.join(as_built)} decides some golden vectors otherwise than the full model,"
                       " here as where it was built."))  # fmt: skip
    elsewhere = [test for test in result.artifacts if test.not_validated_here is not None]
    for test in elsewhere:
        out.print(Text(f"{test.artifact}: not validated here ({test.not_validated_here})", style="yellow"))
    if elsewhere:
        out.print(
            Text("Where an artifact was not validated, the golden vectors alone vouch for it; `parity` judges it.")
        )
    inputs = f"{result.vectors} {'synthetic ' if result.synthetic_inputs else ''}golden vectors"
    verdict = Text("passed", style="bold green") if result.passed else Text("failed", style="bold red")
    out.print(Text.assemble(f"Bundle {printable(result.bundle)}, {inputs}: ", verdict))
    out.print(Text(DISCLAIMER, style="dim"))

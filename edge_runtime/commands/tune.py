"""``edge-runtime tune``: measure once what is quickest here."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_runtime.bundle import open_bundle
from edge_runtime.commands.options import bundle_argument, threads_option

if TYPE_CHECKING:
    from edge_runtime.tuning import Tuning

__all__ = ["command"]

_NOTHING_AGREES = 10


@click.command("tune", short_help="Find the quickest artifact and backend that agree, on this device.")
@bundle_argument
@click.option("--forget", is_flag=True, help="Go back to the bundle's recommendation.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@threads_option
def command(bundle_path: Path, forget: bool, as_json: bool, threads: int | None) -> int:
    """Measure every artifact of BUNDLE on every backend that is installed here, against the golden vectors.

    The quickest that agrees is what `--backend auto` takes from now on, on this device, with this bundle, until the
    CPU, the GPU, a backend's version or ours changes. Measured twice: with as many threads as the backend likes, for a
    file at a time, and with one, for folders, where each core has a file of its own; or once, with --threads.
    Exit code 0; 10 where nothing agrees.
    """
    from edge_runtime.batch import usable_cores
    from edge_runtime.choice import candidates
    from edge_runtime.tuned import tuning_file
    from edge_runtime.tuning import tune

    settings = [threads] if threads is not None or usable_cores() == 1 else [None, 1]
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(bundle_path))
        if forget:
            path = tuning_file(bundle.manifest)
            for kept in path.parent.glob(f"{path.name.partition('-')[0]}-threads-*.json"):
                kept.unlink(missing_ok=True)
            click.echo("Forgotten: the bundle's recommendation answers.")
            return 0
        show = lambda _, __: None  # noqa: E731
        if sys.stderr.isatty():
            from edge_runtime.terminal import console

            total, done = len(settings) * len(candidates(bundle.manifest)), [0]
            status = stack.enter_context(console(sys.stderr).status("opening"))

            def show(artifact: str, backend: str) -> None:
                done[0] += 1
                status.update(f"{done[0]} of {total}: {artifact} on {backend}")

        results = [(setting, tune(bundle, setting, show)) for setting in settings]
        paths = [tuning_file(bundle.manifest, setting) for setting in settings]
    if as_json:
        from edge_runtime.answer_lines import json_line

        first, *more = [_body(setting, result, path) for (setting, result), path in zip(results, paths, strict=True)]
        sys.stdout.buffer.write(json_line({**first, "one_thread": more[0] if more else None}))
    else:
        for (setting, result), path in zip(results, paths, strict=True):
            if len(settings) > 1:
                click.echo("One thread, for folders:" if setting else "A file at a time:")
            _show(result, path)
    return 0 if all(result.winner is not None for _, result in results) else _NOTHING_AGREES


def _body(threads: int | None, result: Tuning, path: Path) -> dict[str, object]:
    winner = None if result.winner is None else {"artifact": result.winner.artifact, "backend": result.winner.backend}
    tests = [asdict(test) for test in result.tests]
    return {"threads": threads, "winner": winner, "kept_in": str(path), "candidates": tests}


def _show(result: Tuning, path: Path) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edge_runtime.terminal import console, printable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("artifact", "backend", "verdict"):
        table.add_column(name)
    for name in ("max |Δp|", "p50 ms"):
        table.add_column(name, justify="right")
    for test in sorted(result.tests, key=lambda t: t.p50_ms or float("inf")):
        style = "bold green" if test is result.winner else "" if test.status == "agrees" else "dim"
        difference = test.max_abs_probability_difference
        table.add_row(
            test.artifact,
            test.backend,
            test.status.replace("_", " "),
            "" if difference is None else f"{difference:.1e}",
            "" if test.p50_ms is None else f"{test.p50_ms:.1f}",
            style=style,
        )
    out = console(sys.stdout)
    out.print(table)
    for test in result.tests:
        if test.why is not None:
            out.print(Text(f"{test.artifact} on {test.backend}: {printable(test.why)}"))
    if result.winner is None:
        out.print(Text("Nothing that opens here agrees with the golden vectors.", style="bold red"))
    else:
        words = f"{result.winner.artifact} on {result.winner.backend} answers from now on (kept in {path})."
        out.print(Text(words))

"""``edge-runtime watch``: a hot folder."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from edge_runtime.backends.footprint import use_low_memory
from edge_runtime.bundle import open_bundle
from edge_runtime.commands.options import (
    artifact_option,
    backend_option,
    bundle_argument,
    low_memory_option,
    require_signature_option,
    threads_option,
)
from edge_runtime.commands.site import refuse_forgotten_site, site_option

__all__ = ["command"]


@click.command("watch", short_help="Answer what is dropped into a folder.")
@bundle_argument
@click.argument("inbox", metavar="INBOX", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Gets done/, refused/, failed/."
)
@site_option
@click.option("--settle", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds without a change.")
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Files at once.")
@click.option("--once", is_flag=True, help="Deal with what is there, then end.")
@click.option("--again", is_flag=True, help="Answer anew what another bundle has answered.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
@artifact_option
@backend_option
@threads_option
@low_memory_option
@require_signature_option
def command(
    bundle_path: Path,
    inbox: Path,
    out: Path,
    site: Path,
    settle: float,
    interval: float,
    jobs: int,
    once: bool,
    again: bool,
    as_json: bool,
    artifact: str | None,
    backend: str,
    threads: int | None,
    low_memory: bool,
    require_signature: bool,
) -> int:
    """Answer radiographs that are dropped into INBOX, each once, until Ctrl-C.

    A file is taken when it has stopped growing, and moved to done/, refused/ or failed/ of --out with its result beside
    it. The records of --site remember what was answered, across restarts; the page shows them. With --once the exit
    code is 1 where a file could not be taken.

    For research and demonstration only. Not a medical device.
    """
    from edge_runtime.commands.stopping import stop_on_signals
    from edge_runtime.decoding import DecodingPool
    from edge_runtime.errors import UsageError
    from edge_runtime.hot_folder import HotFolder
    from edge_runtime.intake import Filed, Intake
    from edge_runtime.predictor import Predictor
    from edge_runtime.records import Records

    if out.resolve() == inbox.resolve() or inbox.resolve() in out.resolve().parents:
        raise UsageError("--out may not be INBOX or lie in it", got=str(out), remedy="name a folder beside it")
    refuse_forgotten_site(site, out)
    if low_memory:
        use_low_memory()
        jobs, threads = 1, threads or 1
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(bundle_path, require_signature=require_signature))
        predictor = stack.enter_context(Predictor.open(bundle, artifact, backend, threads))
        records = stack.enter_context(Records(site))
        pool = stack.enter_context(DecodingPool(jobs))
        intake = Intake(predictor, pool, records, out, "watch", again=again)

        def filed(item: Filed) -> None:
            from edge_runtime.answer_lines import json_line
            from edge_runtime.terminal import printable

            if as_json:
                sys.stdout.buffer.write(
                    json_line({**item.study.answer, "study": item.study.key, "path": str(item.path)})
                )
                sys.stdout.buffer.flush()
                return
            before = " (answered before)" if item.again else ""
            click.echo(f"{printable(item.study.file_name)}: {item.study.word}{before}")

        def trouble(path: Path, error: Exception) -> None:
            click.echo(f"{path.name}: not dealt with yet: {error}", err=True)

        for note in predictor.opening_remarks:
            click.echo(note, err=True)
        click.echo(f"Watching {inbox}; Ctrl-C ends it.", err=True)
        folder = HotFolder(
            inbox, intake, settle=settle, interval=interval, jobs=jobs, on_filed=filed, on_trouble=trouble
        )
        with stop_on_signals() as stop:
            untaken = folder.run(stop, once=once)
    return 1 if once and untaken else 0

"""``edge-runtime receive``: a DICOM node."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from edge_runtime.answer import Outcome
    from edge_runtime.receiving.peer import Peer
    from edge_runtime.records import Records, Study

__all__ = ["command"]


@click.command("receive", short_help="A DICOM node: answer what is sent to it.")
@bundle_argument
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Gets done/, refused/, failed/."
)
@site_option
@click.option("--title", default="EDGE_RUNTIME", show_default=True, help="Our application entity title.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: all.")
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="Port; 0: a free one.")
@click.option("--allow", "allowed", metavar="TITLE", multiple=True, help="A calling title that may send; repeat it.")
@click.option("--allow-any", is_flag=True, help="Let every calling title in.")
@click.option("--results/--no-results", default=True, show_default=True, help="Write report and heat map as DICOM.")
@click.option("--send-to", metavar="TITLE@HOST:PORT", help="Also send the results to this peer.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Objects answered at once.")
@click.option("--again", is_flag=True, help="Answer anew what another bundle has answered.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an answer on stdout.")
@artifact_option
@backend_option
@threads_option
@low_memory_option
@require_signature_option
def command(
    bundle_path: Path,
    out: Path,
    site: Path,
    title: str,
    host: str,
    port: int,
    allowed: tuple[str, ...],
    allow_any: bool,
    results: bool,
    send_to: str | None,
    jobs: int,
    again: bool,
    as_json: bool,
    artifact: str | None,
    backend: str,
    threads: int | None,
    low_memory: bool,
    require_signature: bool,
) -> int:
    """Take radiographs by C-STORE and answer them with BUNDLE, each once, until Ctrl-C.

    An object is acknowledged when it is safe on disk. Results: a structured report and a secondary capture with the
    heat map, in results/ of --out, unverified and not for clinical use.

    For research and demonstration only. Not a medical device.
    """
    from edge_runtime.commands.stopping import stop_on_signals
    from edge_runtime.decoding import DecodingPool
    from edge_runtime.errors import UsageError
    from edge_runtime.hot_folder import HotFolder
    from edge_runtime.intake import Filed, Intake
    from edge_runtime.predictor import Predictor
    from edge_runtime.receiving.node import NodeSettings, StorageNode
    from edge_runtime.receiving.peer import Peer
    from edge_runtime.records import Records

    if not allowed and not allow_any:
        raise UsageError("nobody may send yet", expected="--allow TITLE for each sender, or --allow-any")
    peer = None if send_to is None else Peer.parse(send_to)
    if peer is not None and not results:
        raise UsageError("--send-to sends the results, and --no-results writes none")
    refuse_forgotten_site(site, out)
    if low_memory:
        use_low_memory()
        jobs, threads = 1, threads or 1

    def complain(text: str) -> None:
        click.echo(text, err=True)

    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(bundle_path, require_signature=require_signature))
        predictor = stack.enter_context(Predictor.open(bundle, artifact, backend, threads))
        records = stack.enter_context(Records(site))
        pool = stack.enter_context(DecodingPool(jobs))
        writer = _result_writer(stack, records, out, peer, title, complain) if results else None
        intake = Intake(predictor, pool, records, out, "receive", writer, again=again)

        def filed(item: Filed) -> None:
            from edge_runtime.answer_lines import json_line

            if item.problem is not None:
                complain(f"{item.study.key}: no DICOM result: {item.problem}")
            if as_json:
                line = {**item.study.answer, "study": item.study.key, "path": str(item.path)}
                sys.stdout.buffer.write(json_line(line))
                sys.stdout.buffer.flush()
                return
            click.echo(f"{item.study.key}: {item.study.word}{' (answered before)' if item.again else ''}")

        def trouble(path: Path, error: Exception) -> None:
            complain(f"{path.name}: not dealt with yet: {error}")

        folder = HotFolder(None, intake, interval=1.0, jobs=jobs, on_filed=filed, on_trouble=trouble)
        settings = NodeSettings(title=title, host=host, port=port, allowed=None if allow_any else allowed)
        for note in predictor.opening_remarks:
            complain(note)
        with (
            stop_on_signals() as stop,
            StorageNode(settings, intake, lambda _: folder.wake.set(), lambda t: complain(f"Refused: {t}")) as node,
        ):
            complain(f"{title} listens on {host}:{node.port}; Ctrl-C ends it.")
            folder.run(stop)
    return 0


def _result_writer(
    stack: ExitStack, records: Records, out: Path, peer: Peer | None, title: str, complain: Callable[[str], None]
) -> Callable[[Study, Path, Outcome | None], None]:
    from edge_runtime.receiving.results import result_files, write_results
    from edge_runtime.records.database import make_private_folder

    folder = out / "results"
    make_private_folder(folder)
    sender = None
    if peer is not None:
        from edge_runtime.receiving.sending import ResultSender

        sender = stack.enter_context(ResultSender(peer, title, out / "outgoing", on_trouble=complain))

    def write(study: Study, path: Path, _: Outcome | None) -> None:
        if study.answer["status"] == "ok":
            # noted before they are written: whatever is on disk is deleted with its study
            places = list(result_files(folder, study).values())
            copies = () if sender is None else (copy for place in places for copy in sender.places(place))
            records.note_files(study.key, [*places, *copies])
        # a result that was written before was queued then, unless the process was killed in between: queued again, it
        # has the same UIDs, and the peer keeps one
        for result in write_results(records, study, path, folder):
            if sender is not None:
                sender.queue(result)

    return write

"""``edge-runtime serve``: the page, on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.bundle import open_bundle
from edge_runtime.commands.options import artifact_option, backend_option, bundle_argument, threads_option

__all__ = ["command"]


@click.command("serve", short_help="Open the page: drop a radiograph, see the answer.")
@bundle_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0: a free one.")
@click.option(
    "--allow-remote", is_flag=True, help="Let other machines in: the page has no login and no encryption yet."
)
@artifact_option
@backend_option
@threads_option
def command(
    bundle_path: Path,
    host: str,
    port: int,
    allow_remote: bool,
    artifact: str | None,
    backend: str,
    threads: int | None,
) -> int:
    """Serve the page of BUNDLE until Ctrl-C.

    For research and demonstration only. Not a medical device.
    """
    from edge_runtime.predictor import Predictor
    from edge_runtime.web.server import serve

    with open_bundle(bundle_path) as bundle, Predictor.open(bundle, artifact, backend, threads) as predictor:
        for note in predictor.notes:
            click.echo(note, err=True)
        serve(bundle, predictor, host, port, allow_remote=allow_remote)
    return 0

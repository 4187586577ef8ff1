"""``edge-runtime serve``: the page, on this machine or for the devices of a local network."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from edge_runtime.errors import UsageError

__all__ = ["command", "default_site", "site_option"]


def default_site() -> Path:
    """Return where a site's records rest if nobody says otherwise."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "edge-runtime"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edge-runtime"


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Take a TOML file's keys as defaults: named as the options, without the dashes in front."""
    if path is None:
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as TOML", got=str(error)) from error
    known = {option.lstrip("-"): p.name for p in ctx.command.params for option in p.opts if option.startswith("--")}
    strange = sorted(set(values) - set(known))
    if strange:
        raise UsageError(f"{path} has keys that `serve` does not know", got=", ".join(strange))
    ctx.default_map = {**(ctx.default_map or {}), **{known[key]: value for key, value in values.items()}}
    return path


site_option = click.option(
    "--site",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_site,
    envvar="EDGE_RUNTIME_SITE",
    show_envvar=True,
    help="Folder of this site's records, people and certificates; else one in the user's own data folder.",
)


@click.command(
    "serve",
    short_help="Open the page: drop a radiograph, see the answer.",
    context_settings={"auto_envvar_prefix": "EDGE_RUNTIME_SERVE"},
)
@bundle_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0: a free one.")
@site_option
@click.option("--no-login", is_flag=True, help="No people, no passphrases; on loopback addresses only.")
@click.option("--keep-nothing", is_flag=True, help="No records: answers are shown and forgotten, without a worklist.")
@click.option("--no-originals", is_flag=True, help="Records keep the judged pixels, not the file as it came.")
@click.option("--tls-certificate", type=click.Path(path_type=Path, dir_okay=False), help="PEM file, with its chain.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="PEM file of its key.")
@click.option(
    "--without-tls", is_flag=True, help="Let other machines in unencrypted: everybody on the way reads along."
)
@click.option("--lock-after", type=click.FloatRange(1, 24 * 60), default=15, show_default=True, metavar="MINUTES",
              help="Lock a page that nobody uses.")  # fmt: skip
@click.option("--max-upload", type=click.IntRange(1, 1024), default=64, show_default=True, metavar="MIB",
              help="Largest file.")  # fmt: skip
@click.option("--places", type=click.IntRange(1, 200), default=8, show_default=True,
              help="How many files may wait for the model.")  # fmt: skip
@click.option("--mobile", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Also serve the phone's page at /mobile/, as `python -m mobile_demo.web` wrote it.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), is_eager=True, callback=_read_config,
              expose_value=False, help="TOML file with these options as keys (without --); options win.")  # fmt: skip
@artifact_option
@backend_option
@threads_option
@low_memory_option
@require_signature_option
def command(
    bundle_path: Path,
    host: str,
    port: int,
    site: Path,
    no_login: bool,
    keep_nothing: bool,
    no_originals: bool,
    tls_certificate: Path | None,
    tls_key: Path | None,
    without_tls: bool,
    lock_after: float,
    max_upload: int,
    places: int,
    mobile: Path | None,
    artifact: str | None,
    backend: str,
    threads: int | None,
    low_memory: bool,
    require_signature: bool,
) -> int:
    """Serve the page of BUNDLE until Ctrl-C.

    Every option can also stand in the environment, such as EDGE_RUNTIME_SERVE_PORT, or in a --config file.

    For research and demonstration only. Not a medical device.
    """
    from contextlib import ExitStack, closing

    from edge_runtime.predictor import Predictor
    from edge_runtime.records import Records
    from edge_runtime.web.accounts import Accounts
    from edge_runtime.web.config import WebConfig
    from edge_runtime.web.server import is_loopback, serve
    from edge_runtime.web.tls import TlsFiles

    if (tls_certificate is None) != (tls_key is None):
        raise UsageError("a certificate and its key belong together", expected="both --tls-certificate and --tls-key")
    if no_login and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines, so the page needs its login", got="--no-login",
            remedy="leave --no-login out, or --host",
        )  # fmt: skip
    given = None if tls_certificate is None or tls_key is None else TlsFiles(tls_certificate, tls_key)
    tls = given or TlsFiles.of_site(site)
    config = WebConfig(
        max_upload_bytes=max_upload * 1024 * 1024,
        waiting_places=places,
        idle_minutes=lock_after,
        keep_originals=not no_originals,
        mobile=mobile,
    )
    if low_memory:
        use_low_memory()
        threads = threads or 1
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(bundle_path, require_signature=require_signature))
        predictor = stack.enter_context(Predictor.open(bundle, artifact, backend, threads))
        records = None if keep_nothing else stack.enter_context(Records(site))
        accounts = None if no_login else stack.enter_context(closing(Accounts(site)))
        for note in predictor.opening_remarks:
            click.echo(note, err=True)
        # a site's own certificate is used where others can come in; on loopback only if it was asked for
        use_tls = not without_tls and (given is not None or (tls.there and not is_loopback(host)))
        serve(
            bundle, predictor, host, port, records=records, accounts=accounts, tls=tls if use_tls else None,
            without_tls=without_tls, config=replace(config, encrypted=use_tls),
        )  # fmt: skip
    return 0

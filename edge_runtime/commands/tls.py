"""``edge-runtime tls init``: a certificate of the site's own, so that other machines can use the page encrypted."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from edge_runtime.commands.serve import site_option

__all__ = ["command"]


@click.group("tls", short_help="Make a local certificate for the page.")
def command() -> None:
    """Encryption of the page."""


@command.command("init")
@site_option
@click.option(
    "--name", "names", multiple=True, metavar="HOST",
    help="Host name or address that people will type; may be given again. Else: this machine's own.",
)  # fmt: skip
def init(site: Path, names: tuple[str, ...]) -> int:
    """Make or renew the certificate, signed by the site's own local authority."""
    from edge_runtime.web.tls import SERVER_DAYS, init_tls

    names = names or own_names()
    files = init_tls(site, names)
    click.echo(
        f"Certificate for {', '.join(names)}: {files.certificate} ({SERVER_DAYS} days; the same command renews it)"
    )
    click.echo(
        f"Install {files.authority} on each device, once, as an authority that it trusts; then no browser warns."
    )
    click.echo(f"Keep {files.authority.with_suffix('.key') if files.authority else ''} to yourself.")
    return 0


def own_names() -> tuple[str, ...]:
    """Return this machine's host name (plain and .local) and addresses, without asking any network."""
    host = socket.gethostname().split(".")[0] or "localhost"
    found = [host, f"{host}.local", "localhost", "127.0.0.1"]
    # A datagram socket that is connected sends nothing; it only learns which address would be used.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found.append(probe.getsockname()[0])
        except OSError:
            pass
    return tuple(dict.fromkeys(name for name in found if name.isascii()))

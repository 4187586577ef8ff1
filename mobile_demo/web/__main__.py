"""``python -m mobile_demo.web BUNDLE OUT``: exit code 0 done, 1 something failed, 2 wrong usage."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge_runtime.bundle import open_bundle
from edge_runtime.exit_codes import exit_code
from edge_runtime.terminal import console


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle_path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--artifact", "artifacts", metavar="NAME", multiple=True, help="ONNX artifact to offer; else all.")
@click.option("--default", metavar="NAME", help="Artifact that answers first; else the one recommended for a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(bundle_path: Path, out: Path, artifacts: tuple[str, ...], default: str | None, as_json: bool) -> None:
    """Write the phone's page of BUNDLE into the folder OUT: static files for any server that speaks https.

    For research and demonstration only. Not a medical device.
    """
    from mobile_demo.web.site import write_site

    with open_bundle(bundle_path) as bundle, console(sys.stderr).status("opening") as status:
        site = write_site(bundle, out, artifacts, default, lambda what: status.update(what))
    if as_json:
        result = {
            "folder": str(site.folder), "artifacts": site.artifacts, "default": site.default,
            "default_because": site.default_because, "bytes": site.bytes, "wire_bytes": site.wire_bytes,
        }  # fmt: skip
        click.echo(json.dumps(result))
        return
    click.echo(f"{site.folder}: a page with {', '.join(site.artifacts)}")
    click.echo(f"{site.default} answers first: {site.default_because}")
    click.echo(f"A first visit transfers {site.wire_bytes / 1e6:.1f} MB where the server sends the .gz files")
    click.echo(f"Try it here:  edge-runtime serve {bundle_path} --mobile {site.folder}   then open /mobile/")


def main() -> None:
    """Run the command line; every failure ends in one message and an exit code."""
    sys.exit(exit_code(lambda: command(standalone_mode=False)))


if __name__ == "__main__":
    main()

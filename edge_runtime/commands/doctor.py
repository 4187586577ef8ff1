"""``edge-runtime doctor``: is this device fit to answer?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

__all__ = ["command"]

_BAD = 10


@click.command("doctor", short_help="Look for what could keep this device from answering.")
@click.argument("bundle_path", metavar="[BUNDLE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--site",
    metavar="DIR",
    type=click.Path(path_type=Path),
    envvar="EDGE_RUNTIME_SITE",
    show_envvar=True,
    help="Look at a site's records; else at those in the user's own data folder, if there are any.",
)
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="Also look at a hot folder's or node's folder."
)
@click.option("--no-selftest", is_flag=True, help="Leave the bundle's self-test out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(bundle_path: Path | None, site: Path | None, out: Path | None, no_selftest: bool, as_json: bool) -> int:
    """Look at CPU, memory, disk, clock, backends, trusted keys, and at what is named: BUNDLE, a site, and the folder of
    `watch` or `receive`.

    Exit code 0 when nothing is bad, 10 when something is.
    """
    from edge_runtime.answer_lines import json_line
    from edge_runtime.doctor import examine
    from edge_runtime.terminal import printable

    findings = []
    for finding in examine(bundle_path, site, out, selftest=not no_selftest):
        findings.append(finding)
        if not as_json:
            style = {"good": "green", "look": "yellow", "bad": "red"}[finding.word]
            click.echo(f"{click.style(f'{finding.word:<5}', fg=style)}{finding.about:<11}{printable(finding.found)}")
            if finding.remedy is not None and finding.word != "good":
                click.echo(f"{'':<16}{printable(finding.remedy)}")
    bad = sum(finding.word == "bad" for finding in findings)
    if as_json:
        sys.stdout.buffer.write(json_line({"fit": not bad, "findings": [asdict(f) for f in findings]}))
    else:
        click.echo("Fit to answer." if not bad else f"{bad} thing(s) to repair.")
    return _BAD if bad else 0

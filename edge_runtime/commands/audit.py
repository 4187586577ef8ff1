"""``edge-runtime audit``: who did what, and whether the log still holds."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from edge_runtime.commands.site import existing_site_option

__all__ = ["command"]

_BROKEN = 10


@click.group("audit", short_help="Show and check a site's audit log.")
def command() -> None:
    """Show a site's audit log, and check that nobody changed it."""


@command.command("verify")
@existing_site_option
@click.option("--head", metavar="N:HASH", help="A head noted earlier: the log must still contain it.")
@click.option("--files", "with_files", is_flag=True, help="Also read every study's files and compare their hashes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def verify(site: Path, head: str | None, with_files: bool, as_json: bool) -> int:
    """Check the chain of hashes, and the records against it: studies, answers, verdicts, notes, settings.

    Prints the head: note it elsewhere, on paper for instance. Only with it can a log be told from one that was cut off
    or written anew. Exit code 0 when all is well, 10 when not.
    """
    from edge_runtime.answer_lines import json_line
    from edge_runtime.records import Records

    with Records(site) as records:
        report = records.verify_audit(head, with_files=with_files)
        problems = [*report.problems, *records.database.check_integrity()]
    if as_json:
        sys.stdout.buffer.write(json_line({**asdict(report), "problems": problems}))
    else:
        for problem in problems:
            click.echo(problem)
        click.echo(f"{report.entries} entries, {len(problems) or 'no'} problems. Head: {report.head}")
    return _BROKEN if problems else 0


@command.command("show")
@existing_site_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--subject", help="A study's key or a setting's name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an entry on stdout.")
def show(site: Path, limit: int, subject: str | None, as_json: bool) -> int:
    """Show the newest entries."""
    from edge_runtime.answer_lines import json_line
    from edge_runtime.records import Records
    from edge_runtime.terminal import printable

    with Records(site) as records:
        entries = records.audit_entries(subject, limit)
    for entry in entries:
        if as_json:
            sys.stdout.buffer.write(json_line(asdict(entry)))
        else:
            about = entry.subject or ""
            click.echo(
                f"{entry.seq:>6}  {entry.at[:19]}  {printable(entry.actor):<16} {entry.action:<22} {printable(about)}"
            )
    return 0

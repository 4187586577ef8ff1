"""``edge-runtime records``: a site's records from the command line."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import click

from edge_runtime.commands.site import existing_site_option

__all__ = ["command"]

_actor_option = click.option("--actor", metavar="NAME", help="Who does it, for the audit log; else the login name.")


@click.group("records", short_help="List, export, back up, restore, delete a site's studies.")
def command() -> None:
    """Look after a site's records: studies, answers, verdicts, settings."""


@command.command("list")
@existing_site_option
@click.option("--search", help="Words that must all occur.")
@click.option("--status", type=click.Choice(["ok", "refused", "error"]))
@click.option("--label")
@click.option("--verdict", type=click.Choice(["agree", "disagree", "other", "none"]))
@click.option("--sort", default="received", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--names", is_flag=True, help="Show patients' names and identifiers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a study on stdout.")
def list_studies(
    site: Path,
    search: str | None,
    status: str | None,
    label: str | None,
    verdict: str | None,
    sort: str,
    limit: int,
    names: bool,
    as_json: bool,
) -> int:
    """List studies, newest first."""
    from edge_runtime.answer_lines import json_line
    from edge_runtime.records import Records, StudyQuery
    from edge_runtime.terminal import printable

    query = StudyQuery(search=search, status=status, label=label, verdict=verdict, sort=sort, limit=limit)  # type: ignore[arg-type]
    with Records(site) as records:
        page = records.studies(query)
    for study in page.studies:
        if as_json:
            sys.stdout.buffer.write(json_line(study.to_json_object(with_identity=names)))
            continue
        said = study.verdict.verdict if study.verdict else ""
        shown = f"  {printable(study.patient_name or study.facts.patient_id or study.file_name)}" if names else ""
        click.echo(f"{study.key}  {study.received[:16]}  {study.source:<8} {study.word:<24} {said}{shown}")
    if not as_json:
        click.echo(f"{len(page.studies)} of {page.total} studies.", err=True)
    return 0


@command.command("export")
@existing_site_option
@click.argument("out", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--no-images", is_flag=True, help="The table alone.")
@_actor_option
def export(site: Path, out: Path, no_images: bool, actor: str | None) -> int:
    """Write a de-identified table and images to DIR (DICOM PS3.15, basic profile)."""
    from edge_runtime.records import Records
    from edge_runtime.records.deidentified import export_deidentified

    with Records(site) as records:
        count = export_deidentified(records, out, actor=actor or _login(), with_images=not no_images)
    click.echo(f"{count.studies} studies, {count.images} images; {count.burned_in} left out for burned-in text.")
    click.echo("Nobody has looked for text inside the images: look at each before you pass it on.")
    return 0


_passphrase_option = click.option(
    "--passphrase-file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The passphrase is its first line; else you are asked.",
)  # fmt: skip


@command.command("backup")
@existing_site_option
@click.argument("out", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--encrypt", is_flag=True, help="Only a passphrase opens it. Without it nobody can, you neither.")
@_passphrase_option
@_actor_option
def backup(site: Path, out: Path, encrypt: bool, passphrase_file: Path | None, actor: str | None) -> int:
    """Write the whole site into one file, while it is in use. It holds patient data.

    Not in it: the folders of hot folder and node (--out), whose content the records have or can make again; the page's
    accounts and certificates.
    """
    from edge_runtime.errors import UsageError
    from edge_runtime.records import Records
    from edge_runtime.records.backup import back_up

    if passphrase_file is not None and not encrypt:
        raise UsageError("a passphrase is for an encrypted backup", remedy="add --encrypt")
    passphrase = _passphrase(passphrase_file, new=True) if encrypt else None
    with Records(site) as records:
        count = back_up(records, out, actor=actor or _login(), passphrase=passphrase)
    click.echo(f"{count.studies} studies to {out}{', encrypted' if encrypt else ''}.")
    return 0


@command.command("restore")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--site", required=True, metavar="DIR", type=click.Path(path_type=Path), help="A new or empty folder.")
@_passphrase_option
@_actor_option
def restore(source: Path, site: Path, passphrase_file: Path | None, actor: str | None) -> int:
    """Unpack a backup to a new site, checked before it is put in place."""
    from edge_runtime.records.backup import is_encrypted
    from edge_runtime.records.backup import restore as unpack

    passphrase = _passphrase(passphrase_file, new=False) if is_encrypted(source) else None
    count = unpack(source, site, actor=actor or _login(), passphrase=passphrase)
    click.echo(f"{count.studies} studies in {site}; files of {count.missing} were not in the backup.")
    return 0


@command.command("delete")
@existing_site_option
@click.argument("key", metavar="STUDY", required=False)
@click.option("--older-than", type=click.IntRange(1), metavar="DAYS", help="Retention: every study of that age.")
@click.option("--reason", required=True, help="For the audit log; no patient data.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_actor_option
def delete(site: Path, key: str | None, older_than: int | None, reason: str, yes: bool, actor: str | None) -> int:
    """Delete a study, or every study older than DAYS, with its files, in done/, results/ and outgoing/ too.

    The audit log keeps that it was, and why. Not reached: backups, exports, what a peer was sent. Exit code 1 where a
    file could not be removed.
    """
    from edge_runtime.errors import UsageError
    from edge_runtime.records import Records, StudyQuery

    if (key is None) == (older_than is None):
        raise UsageError("name one study, or --older-than DAYS")
    with Records(site) as records:
        if key is not None:
            records.study(key)
            if not yes:
                click.confirm(f"Delete study {key} for good?", abort=True)
            done = records.delete(key, actor=actor or _login(), reason=reason)
        else:
            assert older_than is not None
            moment = (datetime.now(timezone.utc) - timedelta(days=older_than)).isoformat(timespec="milliseconds")
            count = records.studies(StudyQuery(received_until=moment, limit=1)).total
            if not yes:
                click.confirm(f"Delete {count} studies for good?", abort=True)
            done = records.delete_received_before(moment, actor=actor or _login(), reason=reason)
    click.echo(f"{done.studies} deleted.")
    for path in done.left:
        click.echo(f"Not removed: {path}. It is tried again at the next deletion or start; else remove it.", err=True)
    if not done.cleared:
        click.echo(
            "Another program kept the database busy: its write-ahead log may still hold what was deleted. "
            "Delete anything again later, or end that program.",
            err=True,
        )
    return 0 if not done.left and done.cleared else 1


def _passphrase(file: Path | None, *, new: bool) -> str:
    if file is None:
        return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True))
    return file.read_text("utf-8").partition("\n")[0].rstrip("\r")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "command line"

"""Which site's records a command works on: the same for all, so that the page shows what the hot folder answered."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.commands.serve import default_site, site_option
from edge_runtime.errors import UsageError

__all__ = ["existing_site_option", "refuse_forgotten_site", "site_option"]


def _must_hold_records(_: click.Context, __: click.Parameter, site: Path) -> Path:
    from edge_runtime.records.database import DATABASE_NAME

    if not (site / DATABASE_NAME).is_file():
        raise UsageError(f"{site} holds no records", remedy="name the site's folder with --site or EDGE_RUNTIME_SITE")
    return site


existing_site_option = click.option(
    "--site",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_site,
    envvar="EDGE_RUNTIME_SITE",
    show_envvar=True,
    callback=_must_hold_records,
    help="The site's folder; else the one in the user's own data folder.",
)


def refuse_forgotten_site(site: Path, out: Path) -> None:
    """Refuse to begin a second site beside the one that earlier versions kept in ``out``.

    Raises
    ------
    UsageError
        ``out`` holds records and ``site`` is another folder that holds none.
    """
    from edge_runtime.records.database import DATABASE_NAME

    earlier = out / "site"
    if (earlier / DATABASE_NAME).is_file() and not (site / DATABASE_NAME).is_file():
        raise UsageError(
            f"{earlier} holds the records of what was answered before", got=f"no records in {site}",
            remedy=f"go on with --site {earlier}, or move that folder to {site}",
        )  # fmt: skip

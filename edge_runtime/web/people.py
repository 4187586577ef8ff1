"""The administrator's pages: people, tokens, and the audit log."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, make_response, render_template, request
from flask_login import current_user
from werkzeug.exceptions import NotFound

from edge_runtime.web.access import administrators_only
from edge_runtime.web.accounts import SHORTEST_PASSPHRASE, Accounts, AccountsError, Role
from edge_runtime.web.sign_in import account_message
from edge_runtime.web.station import Station, current_station

__all__ = ["blueprint"]

blueprint = Blueprint("people", __name__)
LOG_PAGE = 100


@blueprint.route("/people", methods=["GET", "POST"])
@administrators_only
def people() -> Any:
    """Show, add and remove people and tokens."""
    station = current_station()
    if station.accounts is None:
        raise NotFound
    message, key = None, None
    if request.method == "POST":
        try:
            key = _change(station, station.accounts, request.form.get("change", ""))
        except AccountsError as error:
            message = account_message(error)
    page = render_template(
        "people.html", people=station.accounts.people, tokens=station.accounts.tokens, message=message, key=key,
        shortest=SHORTEST_PASSPHRASE,
    )  # fmt: skip
    return make_response(page, 400 if message else 200)


@blueprint.get("/log")
@administrators_only
def log() -> str:
    """Show the audit log, newest first, and whether its chain holds."""
    records = current_station().records
    if records is None:
        raise NotFound
    before = request.args.get("before", type=int)
    entries = records.audit_entries(limit=LOG_PAGE, before=before)
    report = records.verify_audit() if request.args.get("check") else None
    older = entries[-1].seq if len(entries) == LOG_PAGE else None
    return render_template("log.html", entries=entries, report=report, older=older)


def _change(station: Station, accounts: Accounts, change: str) -> str | None:
    form = request.form
    name = form.get("name", "").strip()
    role = cast(Role, form.get("role", ""))
    if change == "add":
        person = accounts.add(name, role, form.get("passphrase", ""))
        _log(station, "person added", person.name, {"role": person.role})
    elif change == "passphrase":
        accounts.set_passphrase(name, form.get("passphrase", ""))
        station.sessions.end_all(name)
        _log(station, "passphrase changed", name)
    elif change == "remove":
        accounts.remove(name)
        station.sessions.end_all(name)
        _log(station, "person removed", name)
    elif change == "token":
        token, key = accounts.add_token(form.get("purpose", ""), role, current_user.name)
        _log(station, "token added", token.id, {"role": token.role, "purpose": token.purpose})
        return key
    elif change == "withdraw":
        accounts.remove_token(form.get("id", ""))
        _log(station, "token withdrawn", form.get("id", "")[:40])
    return None


def _log(station: Station, action: str, subject: str, details: dict[str, Any] | None = None) -> None:
    if station.records is not None:
        station.records.log(action, actor=current_user.name, subject=subject, details=details)

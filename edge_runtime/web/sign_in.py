"""Logging in and out, the first administrator, one's own passphrase, and how the page looks and speaks."""

from __future__ import annotations

import hmac
from typing import Any

from flask import Blueprint, Response, g, make_response, redirect, render_template, request, session, url_for
from flask_login import current_user, login_user, logout_user
from flask_wtf.csrf import generate_csrf
from werkzeug.exceptions import NotFound

from edge_runtime.web.access import Visitor, local_path, public
from edge_runtime.web.accounts import SHORTEST_PASSPHRASE, Accounts, AccountsError, Person
from edge_runtime.web.language import LANGUAGES, SCHEMES, gettext
from edge_runtime.web.station import Station, current_station

__all__ = ["blueprint"]

blueprint = Blueprint("sign_in", __name__)
for _name in ("login", "logout", "setup", "appearance"):
    public(f"sign_in.{_name}")

YEAR_SECONDS = 365 * 24 * 3600


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """Ask for name and passphrase."""
    station, accounts = _with_accounts()
    if not accounts.people:
        return redirect(url_for("sign_in.setup"), 303)
    message, code, wait = None, 200, 0
    if request.method == "POST":
        name, sender = request.form.get("name", "")[:100].strip(), request.remote_addr or ""
        wait = station.login_limit.wait_seconds(name, sender)
        person = None if wait else accounts.check(name, request.form.get("passphrase", ""))
        if person is not None:
            station.login_limit.succeeded(name, sender)
            _begin(station, person)
            return redirect(local_path(request.args.get("next")), 303)
        if wait:
            minutes = -(-wait // 60)
            message = gettext("Too many wrong passphrases. Try again in %(minutes)s min.", minutes=minutes)
            code = 429
        else:
            station.login_limit.failed(name, sender)
            station.metrics.failed_logins.inc()
            _log(station, "login failed", "page", {"sender": sender})
            message, code = gettext("Name and passphrase do not belong together."), 401
    elif "stale" in request.args:
        message = gettext("The page was open for too long. Log in again.")
    page = render_template(
        "login.html", message=message, locked="locked" in request.args, name=request.form.get("name", "")
    )
    response = make_response(page, code)
    if code == 429:
        response.headers["Retry-After"] = str(wait)
    return response


@blueprint.route("/setup", methods=["GET", "POST"])
def setup() -> Any:
    """Take the first administrator's passphrase, once, from whoever has seen the terminal."""
    station, accounts = _with_accounts()
    if accounts.people:
        return redirect(url_for("sign_in.login"), 303)
    message = None
    if request.method == "POST":
        form = request.form
        sender, expected = request.remote_addr or "", station.config.setup_code
        if station.login_limit.wait_seconds("setup", sender):
            message = gettext("Too many wrong codes. Try again later.")
        elif expected is not None and not hmac.compare_digest(form.get("code", "").strip().encode(), expected.encode()):
            station.login_limit.failed("setup", sender)
            message = gettext("This is not the code on the terminal.")
        else:
            message = _different(form.get("passphrase", ""), form.get("again", ""))
        if message is None:
            try:
                person = accounts.add(form.get("name", ""), "administrator", form["passphrase"], only_first=True)
            except AccountsError as error:
                message = account_message(error)
            else:
                _log(station, "person added", person.name, {"role": "administrator"}, subject=person.name)
                _begin(station, person)
                return redirect(url_for("pages.read"), 303)
    page = render_template(
        "setup.html", message=message, shortest=SHORTEST_PASSPHRASE, code=request.values.get("code", ""),
        name=request.form.get("name", ""), needs_code=station.config.setup_code is not None,
    )  # fmt: skip
    return make_response(page, 200 if message is None else 400)


@blueprint.post("/logout")
def logout() -> Any:
    """End the session; the page's own lock comes here too."""
    station, _ = _with_accounts()
    locked = request.form.get("locked") == "1"
    # a session that ended by itself meanwhile has nobody to log out
    if current_user.is_authenticated and current_user.session_token:
        station.sessions.end(current_user.session_token)
        _log(station, "locked" if locked else "logged out", current_user.name)
    logout_user()
    session.clear()
    wanted = local_path(request.form.get("next")) if locked else None
    response: Response = redirect(url_for("sign_in.login", locked=1 if locked else None, next=wanted), 303)  # type: ignore[assignment]
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@blueprint.route("/account", methods=["GET", "POST"])
def account() -> Any:
    """Change one's own passphrase."""
    station, accounts = _with_accounts()
    message, done = None, False
    if request.method == "POST":
        form, sender = request.form, request.remote_addr or ""
        if station.login_limit.wait_seconds(current_user.name, sender):
            message = gettext("Too many wrong passphrases. Try again later.")
        elif accounts.check(current_user.name, form.get("present", "")) is None:
            station.login_limit.failed(current_user.name, sender)
            message = gettext("The present passphrase is not right.")
        else:
            message = _different(form.get("passphrase", ""), form.get("again", ""))
        if message is None:
            try:
                accounts.set_passphrase(current_user.name, form["passphrase"])
            except AccountsError as error:
                message = account_message(error)
            else:
                station.sessions.end_all(current_user.name, but=current_user.session_token)
                _log(station, "passphrase changed", current_user.name, subject=current_user.name)
                done = True
    page = render_template("account.html", message=message, done=done, shortest=SHORTEST_PASSPHRASE)
    return make_response(page, 400 if message else 200)


@blueprint.post("/appearance")
def appearance() -> Any:
    """Keep the chosen language and colours in this browser."""
    response: Response = redirect(local_path(request.form.get("next")), 303)  # type: ignore[assignment]
    for name, allowed in (("language", tuple(LANGUAGES)), ("scheme", SCHEMES)):
        value = request.form.get(name)
        if value in allowed:
            secure = current_station().config.encrypted
            response.set_cookie(name, value, YEAR_SECONDS, secure=secure, httponly=True, samesite="Strict")
    return response


def account_message(error: AccountsError) -> str:
    """Return what is wrong with a name or a passphrase, in the page's language."""
    known = {
        "This name is taken.": gettext("This name is taken."),
        "The name is empty or too long.": gettext("The name is empty or too long."),
        "The last administrator cannot be removed.": gettext("The last administrator cannot be removed."),
    }
    if "passphrase needs" in error.what:
        return gettext("The passphrase needs at least %(shortest)s characters.", shortest=SHORTEST_PASSPHRASE)
    return known.get(error.what, error.what)


def _different(passphrase: str, again: str) -> str | None:
    return None if passphrase == again else gettext("The two passphrases differ.")


def _begin(station: Station, person: Person) -> None:
    session.clear()  # nothing that was known before the login stays
    token = station.sessions.start(person.name)
    login_user(Visitor(person.name, person.role, token))
    # Into this very cookie: two pages that are asked for at once would each make a token, and one of them be refused.
    g.pop("csrf_token", None)
    generate_csrf()
    _log(station, "logged in", person.name)


def _with_accounts() -> tuple[Station, Accounts]:
    station = current_station()
    if station.accounts is None:
        raise NotFound
    return station, station.accounts


def _log(
    station: Station, action: str, actor: str, details: dict[str, Any] | None = None, subject: str | None = None
) -> None:
    if station.records is not None:
        station.records.log(action, actor=actor, subject=subject, details=details)

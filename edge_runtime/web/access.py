"""Who may do what: sessions of people, tokens of programs, roles, and protection against forged requests."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import Flask, Request, Response, jsonify, redirect, request, url_for
from flask_login import LoginManager, UserMixin, current_user
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import Forbidden

from edge_runtime.web.accounts import Role
from edge_runtime.web.language import gettext
from edge_runtime.web.station import current_station

__all__ = ["Visitor", "administrators_only", "current_actor", "install", "is_administrator", "local_path", "public"]

P = ParamSpec("P")
R = TypeVar("R")

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
BACKGROUND_HEADER = "X-Background"
"""Set by the page on what it asks by itself: no sign that somebody is there."""

_public: set[str] = {"static"}


class Visitor(UserMixin):  # type: ignore[misc]  # the library has no types
    """Whoever sent this request: a person with a session, or a program with a token."""

    def __init__(self, name: str, role: Role, session_token: str | None) -> None:
        self.name = name
        self.role = role
        self.session_token = session_token

    def get_id(self) -> str:
        """What the cookie holds: the session's token, which is worth nothing once the session has ended."""
        return self.session_token or ""


def public(endpoint: str) -> None:
    """Let everybody in: the login page and what belongs to it."""
    _public.add(endpoint)


def current_actor(said: str | None = None) -> str:
    """Name for the audit log. Without accounts it is what the one person there ``said``, marked as nobody's login."""
    if current_station().accounts is not None:
        return str(current_user.name)
    return "local" if said is None else f"{said} (no login)"


def is_administrator() -> bool:
    """Tell whether this request may do everything; without accounts the one person there may."""
    if current_station().accounts is None:
        return True
    return bool(current_user.is_authenticated and current_user.role == "administrator")


def administrators_only(view: Callable[P, R]) -> Callable[P, R]:
    """Refuse (403) a view to readers."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not is_administrator():
            raise Forbidden(gettext("Only an administrator may do this."))
        return view(*args, **kwargs)

    return guarded


def local_path(wanted: str | None) -> str:
    """Return a path of this page to go on to, never another site's."""
    if wanted and wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable():
        return wanted
    return url_for("pages.read")


def install(app: Flask) -> None:
    """Guard every endpoint of ``app`` that is not public, if the station has accounts."""
    manager = LoginManager()
    manager.session_protection = None  # phones change their address; the token itself is the protection
    manager.init_app(app)
    csrf = CSRFProtect()
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # called below, after who it is is known
    app.config["WTF_CSRF_SSL_STRICT"] = False  # cross_site.py checks the origin
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # as long as the session
    csrf.init_app(app)

    @manager.user_loader  # type: ignore[untyped-decorator]  # the library has no types
    def from_session(token: str) -> Visitor | None:
        station = current_station()
        if station.accounts is None:
            return None
        name = station.sessions.find(token, use=BACKGROUND_HEADER not in request.headers)
        person = None if name is None else station.accounts.person(name)
        return None if person is None else Visitor(person.name, person.role, token)

    @manager.request_loader  # type: ignore[untyped-decorator]  # the library has no types
    def from_token(sent: Request) -> Visitor | None:
        accounts = current_station().accounts
        scheme, _, key = sent.headers.get("Authorization", "").partition(" ")
        if accounts is None or scheme.lower() != "bearer" or not key:
            return None
        token = accounts.token(key.strip())
        return None if token is None else Visitor(f"{token.owner} (token {token.purpose})", token.role, None)

    @app.before_request
    def guard() -> Any:
        station = current_station()
        if station.accounts is None or request.endpoint is None:
            return None
        if request.endpoint not in _public and not current_user.is_authenticated:
            return _please_log_in()
        by_token = current_user.is_authenticated and current_user.session_token is None
        if request.method not in SAFE_METHODS and not by_token:
            csrf.protect()
        return None

    @app.errorhandler(CSRFError)
    def forged(_error: CSRFError) -> Any:
        if request.path.startswith("/api/"):
            message, remedy = gettext("This page is too old."), gettext("Load it again.")
            return jsonify({"status": "error", "reason": "csrf", "message": message, "remedy": remedy}), 400
        return redirect(url_for("sign_in.login", stale=1), 303)


def _please_log_in() -> Response | Any:
    if request.path.startswith("/api/") or request.path == "/metrics":
        response = jsonify(
            {
                "status": "error",
                "reason": "login",
                "message": gettext("This needs a login or a token."),
                "remedy": gettext("Log in on the page, or send the header 'Authorization: Bearer TOKEN'."),
            }
        )
        response.status_code = 401
        response.headers["WWW-Authenticate"] = 'Bearer realm="edge-runtime"'
        return response
    accounts = current_station().accounts
    if accounts is not None and not accounts.people:
        return redirect(url_for("sign_in.setup"), 303)
    wanted = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("sign_in.login", next=wanted if wanted != "/" else None), 303)

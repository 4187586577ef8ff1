"""Other web sites cannot make the user's browser send files here.

A session's cookie is SameSite=Strict, and changes need a token; but without a login there is neither, and no foreign
page may occupy the model. Browsers say in ``Sec-Fetch-Site`` (W3C Fetch Metadata) or ``Origin`` where a request comes
from; programs that are no browsers send neither and pass.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, request
from werkzeug.exceptions import Forbidden

from edge_runtime.web.language import gettext

__all__ = ["install"]

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def install(app: Flask) -> None:
    """Refuse (403) requests that change or cost something when another site sent them."""

    @app.before_request
    def refuse_foreign_senders() -> None:
        if request.method in SAFE_METHODS:
            return
        site = request.headers.get("Sec-Fetch-Site", "none")
        origin = request.headers.get("Origin")
        foreign_origin = origin is not None and urlsplit(origin).netloc != request.host
        if site not in ("same-origin", "none") or foreign_origin:
            raise Forbidden(gettext("This request was sent by another web site."))

"""The clinic's page and its JSON API: a Flask application around one open predictor.

``create_app`` is the only entrance. Each blueprint is a module of its own; what they share is the ``Station``.
Nothing here opens an outbound connection.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from edge_runtime.bundle import Bundle
from edge_runtime.predictor import Predictor
from edge_runtime.radiograph import Radiograph
from edge_runtime.reading import read_radiograph
from edge_runtime.records import Records
from edge_runtime.web import (
    access,
    api,
    cross_site,
    failures,
    language,
    mobile,
    pages,
    people,
    pwa,
    security_headers,
    sign_in,
    studies_api,
)
from edge_runtime.web.accounts import Accounts
from edge_runtime.web.config import WebConfig
from edge_runtime.web.station import Station
from edge_runtime.web.upload import UploadRequest

__all__ = ["WebConfig", "create_app"]

FORM_OVERHEAD_BYTES = 64 * 1024
"""Room for the multipart boundaries and part headers around the largest file."""

FORM_MEMORY_BYTES = 512 * 1024
"""What a form may hold in memory. Werkzeug counts the unparsed rest of a file part too: 2 x 64 KiB."""


def create_app(
    bundle: Bundle,
    predictor: Predictor,
    config: WebConfig | None = None,
    records: Records | None = None,
    accounts: Accounts | None = None,
    read: Callable[[str | Path], Radiograph] = read_radiograph,
) -> Flask:
    """Build the application.

    Parameters
    ----------
    bundle
        The open bundle; its manifest is shown on the page.
    predictor
        Answers the uploads, one at a time: it need not be thread-safe.
    config
        Limits and addresses; the defaults suit one person on this machine.
    records
        Where studies are written down; None keeps nothing, and there is no worklist.
    accounts
        Who may come in; None lets everybody who reaches the page do everything.
    read
        Reads an uploaded file, such as :meth:`edge_runtime.decoding.DecodingPool.read`.
    """
    config = config or WebConfig()
    app = Flask(__name__, static_folder=None)
    app.static_folder = "static"
    # Their content is part of the static files' addresses: a browser keeps them for good and never an old one.
    app.static_url_path = f"/static/{pwa.static_version(app)}"
    app.add_url_rule(f"{app.static_url_path}/<path:filename>", endpoint="static", view_func=app.send_static_file)
    # Sessions are in memory too: a key that outlives the process would serve nobody.
    app.secret_key = secrets.token_bytes(32)
    app.request_class = UploadRequest
    app.config.update(
        MAX_CONTENT_LENGTH=config.max_upload_bytes + FORM_OVERHEAD_BYTES,
        MAX_FORM_MEMORY_SIZE=FORM_MEMORY_BYTES,
        MAX_FORM_PARTS=8,
        MAX_COOKIE_SIZE=4093,
        SESSION_COOKIE_NAME="__Host-edge-runtime" if config.encrypted else "edge-runtime",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=config.encrypted,
        TRUSTED_HOSTS=None if config.trusted_hosts is None else list(config.trusted_hosts),
    )
    # The order of the classes and of the keys carries meaning.
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's default provider
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions[Station.KEY] = Station.create(bundle, predictor, config, records, accounts, read)
    mobile.install(app, config.mobile)  # first: what is registered first has the last word on its headers
    for part in (language, security_headers, cross_site, access, failures):
        part.install(app)
    for views in (pages, api, studies_api, sign_in, people, pwa):
        app.register_blueprint(views.blueprint)
    return app

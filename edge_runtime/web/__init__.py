"""The clinic's page and its JSON API: a Flask application around one open predictor.

``create_app`` is the only entrance. Each blueprint is a module of its own: ``pages`` (HTML) and ``api``
(``/api/v1``). What they share is the ``Station``. Nothing here opens an outbound connection.
"""

from __future__ import annotations

from flask import Flask

from edge_runtime.bundle import Bundle
from edge_runtime.predictor import Predictor
from edge_runtime.web import api, cross_site, failures, pages, security_headers
from edge_runtime.web.config import WebConfig
from edge_runtime.web.station import Station
from edge_runtime.web.upload import UploadRequest

__all__ = ["WebConfig", "create_app"]

FORM_OVERHEAD_BYTES = 64 * 1024
"""Room for the multipart boundaries and part headers around the largest file."""

FORM_MEMORY_BYTES = 512 * 1024
"""What a form may hold in memory. Werkzeug counts the unparsed rest of a file part too: 2 x 64 KiB."""


def create_app(bundle: Bundle, predictor: Predictor, config: WebConfig | None = None) -> Flask:
    """Build the application.

    Parameters
    ----------
    bundle
        The open bundle; its manifest is shown on the page.
    predictor
        Answers the uploads, one at a time: it need not be thread-safe.
    config
        Limits and addresses; the defaults suit one person on this machine.
    """
    config = config or WebConfig()
    app = Flask(__name__)
    app.request_class = UploadRequest
    app.config.update(
        MAX_CONTENT_LENGTH=config.max_upload_bytes + FORM_OVERHEAD_BYTES,
        MAX_FORM_MEMORY_SIZE=FORM_MEMORY_BYTES,
        MAX_FORM_PARTS=8,
        TRUSTED_HOSTS=None if config.trusted_hosts is None else list(config.trusted_hosts),
    )
    # The order of the classes and of the keys carries meaning.
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's default provider
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions[Station.KEY] = Station.create(bundle, predictor, config)
    security_headers.install(app)
    cross_site.install(app)
    failures.install(app)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(api.blueprint)
    return app

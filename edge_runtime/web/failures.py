"""What a request gets that could not be served: JSON like an answer under ``/api``, else a short page."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException, SecurityError

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.web.language import current_language, gettext
from edge_runtime.web.model_queue import ModelBusy
from edge_runtime.web.slow_clients import NO_SLOT
from edge_runtime.web.station import current_station

__all__ = ["install", "records_failed"]

LOG = logging.getLogger(__name__)
MIB = 1024 * 1024


def install(app: Flask) -> None:
    """Register the handlers for what ``app`` could not serve."""

    @app.before_request
    def no_slot() -> None:
        # before anything reads the body: all slots for uploads are taken
        if request.environ.get(NO_SLOT):
            raise current_station().queue.busy()

    @app.errorhandler(EdgeRuntimeError)
    def ours(error: EdgeRuntimeError) -> Response:
        LOG.error("%s", error)
        return _failure(500, "records", *records_failed(error))

    @app.errorhandler(ModelBusy)
    def busy(error: ModelBusy) -> Response:
        response = _failure(
            503,
            "busy",
            gettext("The model is busy with other radiographs."),
            gettext("Send this file again in %(seconds)s s.", seconds=error.retry_after),
        )
        response.headers["Retry-After"] = str(error.retry_after)
        current_station().metrics.busy.inc()
        return response

    @app.errorhandler(413)
    def too_large(_: HTTPException) -> Response:
        limit = current_station().config.max_upload_bytes / MIB
        return _failure(
            413,
            "too_large",
            gettext("The file is larger than %(limit)s MiB.", limit=f"{limit:.0f}"),
            gettext("Send one radiograph without other series or attachments."),
        )

    @app.errorhandler(SecurityError)
    def foreign_name(_: SecurityError) -> Response:
        # Without a trusted host name Flask builds no addresses, so there is no page to show.
        return Response("This page does not answer to that host name.\n", 400, mimetype="text/plain")

    @app.errorhandler(HTTPException)
    def other(error: HTTPException) -> Response:
        code = error.code or 500
        # 5xx says nothing of the inside; the log has it.
        given = error.description if code < 500 and error.description != type(error).description else None
        response = _failure(code, error.name.lower().replace(" ", "_"), given or _general(code), None)
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response


def records_failed(error: EdgeRuntimeError) -> tuple[str, str | None]:
    """Return message and remedy of a failure of the records: the runtime's own in English, else one in general."""
    if current_language() == "en":
        return error.what, error.remedy
    return gettext("The records of this site cannot be used."), gettext("Tell who looks after this computer.")


def _general(code: int) -> str:
    """Return what is said of a status where nothing more is known, instead of the library's English."""
    if code == 404:
        return gettext("There is no such page. It may have been moved or deleted.")
    if code in (401, 403):
        return gettext("This is not allowed.")
    if code == 405:
        return gettext("This address does not take that kind of request.")
    return (
        gettext("The request cannot be understood.") if code < 500 else gettext("The runtime failed on this request.")
    )


def _failure(code: int, reason: str, message: str, remedy: str | None) -> Response:
    if request.path.startswith("/api/"):
        response = jsonify({"status": "error", "reason": reason, "message": message, "remedy": remedy})
    else:
        response = Response(render_template("failure.html", code=code, message=message, remedy=remedy))
    response.status_code = code
    return response

"""What a request gets that could not be served: JSON like an answer under ``/api``, else a short page."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException, SecurityError

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.web.model_queue import ModelBusy
from edge_runtime.web.slow_clients import NO_SLOT
from edge_runtime.web.station import current_station

__all__ = ["install"]

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
        return _failure(500, "records", error.what, error.remedy)

    @app.errorhandler(ModelBusy)
    def busy(error: ModelBusy) -> Response:
        response = _failure(
            503,
            "busy",
            "The model is busy with other radiographs.",
            f"Send this file again in {error.retry_after} s.",
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
            f"The file is larger than {limit:.0f} MiB.",
            "Send one radiograph without other series or attachments.",
        )

    @app.errorhandler(SecurityError)
    def foreign_name(_: SecurityError) -> Response:
        # Without a trusted host name Flask builds no addresses, so there is no page to show.
        return Response("This page does not answer to that host name.\n", 400, mimetype="text/plain")

    @app.errorhandler(HTTPException)
    def other(error: HTTPException) -> Response:
        code = error.code or 500
        # 5xx says nothing of the inside; the log has it.
        known = code < 500 and error.description is not None
        message = str(error.description) if known else "The runtime failed on this request."
        response = _failure(code, error.name.lower().replace(" ", "_"), message, None)
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response


def _failure(code: int, reason: str, message: str, remedy: str | None) -> Response:
    if request.path.startswith("/api/"):
        response = jsonify({"status": "error", "reason": reason, "message": message, "remedy": remedy})
    else:
        response = Response(render_template("failure.html", code=code, message=message, remedy=remedy))
    response.status_code = code
    return response

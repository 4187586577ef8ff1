"""The JSON API under ``/api/v1``; the page itself uses it. Described in docs/page.md."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from edge_runtime.answer import answer_file
from edge_runtime.web.answer_body import answer_body
from edge_runtime.web.station import current_station
from edge_runtime.web.upload import received_file

__all__ = ["blueprint"]

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.post("/predict")
def predict() -> Response:
    """Answer one uploaded radiograph (form field ``file``).

    200 for an answer, also when the file was refused as unsuitable: the request was served, ``status`` tells.
    500 when the runtime failed on the file, 400 without exactly one file, 413 too large, 503 with Retry-After
    when all places are taken.
    """
    station = current_station()
    path, name = received_file(request.files, station.config.max_upload_bytes)
    with station.queue.turn() as waited_ms:
        outcome = answer_file(station.predictor, path, name=name)
    body = answer_body(outcome, station.bundle.manifest.labels, station.config.display_edge, waited_ms)
    for key in ("message", "remedy"):
        if body[key] is not None:  # the sender knows the file by its own name, not by ours
            body[key] = body[key].replace(str(path), name).replace(path.name, name)
    response = jsonify(body)
    response.status_code = 500 if outcome.answer.status == "error" else 200
    return response


@blueprint.get("/health")
def health() -> Response:
    """Say that the page answers, with what, and how busy it is."""
    station = current_station()
    return jsonify(
        {
            "status": "ok",
            "bundle": station.bundle.manifest.name,
            "artifact": station.predictor.artifact.name,
            "backend": station.predictor.backend_name,
            "precision": station.predictor.artifact.precision,
            "present": station.queue.present,
            "places": station.queue.places + 1,
        }
    )

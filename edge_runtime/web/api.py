"""The JSON API under ``/api/v1``; the page itself uses it. Described in docs/page.md."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path

from flask import Blueprint, Response, jsonify, request
from flask_login import current_user
from werkzeug.exceptions import Unauthorized

from edge_runtime.answer import Outcome, answer_file
from edge_runtime.records import RecordsError
from edge_runtime.web.access import current_actor, public
from edge_runtime.web.answer_body import answer_body
from edge_runtime.web.explanations import explained
from edge_runtime.web.operating import point_in_force
from edge_runtime.web.station import Station, current_station
from edge_runtime.web.upload import received_file

__all__ = ["blueprint"]

blueprint = Blueprint("api", __name__)
for _name in ("health", "metrics", "openapi"):
    public(f"api.{_name}")

LOG = logging.getLogger(__name__)


@blueprint.post("/api/v1/predict")
def predict() -> Response:
    """Answer one uploaded radiograph (form field ``file``).

    200 for an answer, also when the file was refused as unsuitable: the request was served, ``status`` tells.
    500 when the runtime failed on the file, 400 without exactly one file, 413 too large, 503 with Retry-After
    when all places are taken. The patient's identifiers are null; ``identity=1`` shows them where the records' log
    can keep that they were shown.
    """
    station = current_station()
    path, name = received_file(request.files, station.config.max_upload_bytes)
    with station.queue.turn() as waited_ms:
        outcome = _named(answer_file(station.predictor, path, name=name, read=station.read), path, name)
    shown = request.args.get("identity") == "1" and station.records is not None
    labels, edge = station.bundle.manifest.labels, station.config.display_edge
    with ThreadPoolExecutor(1) as beside:  # the image is packed while the disk takes the files
        drawn = beside.submit(answer_body, outcome, labels, edge, waited_ms, identity=shown)
        study, unwritten = _write_down(station, outcome, path, name)
        body = drawn.result()
    body["explanation"] = explained(body)
    point = point_in_force(station.records, station.bundle.manifest)
    body["operating_point"] = None if point is None else point.mark(outcome.answer.probabilities)
    body["study"] = study
    body["notes"] += unwritten
    if shown and station.records is not None:
        station.records.log("identity shown", actor=current_actor(), subject=body["study"])
    station.metrics.answers.labels(outcome.answer.status, outcome.answer.reason or "").inc()
    for step, milliseconds in body["timings_ms"].items():
        station.metrics.step_seconds.labels(step).observe(milliseconds / 1000)
    response = jsonify(body)
    response.status_code = 500 if outcome.answer.status == "error" else 200
    return response


@blueprint.get("/api/v1/health")
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


@blueprint.get("/api/v1/openapi.json")
def openapi() -> Response:
    """Describe the API (OpenAPI 3.1)."""
    return jsonify(json.loads(files("edge_runtime.web").joinpath("openapi.json").read_text("utf-8")))


@blueprint.get("/metrics")
def metrics() -> Response:
    """Give counters and times to Prometheus: on this machine to everybody, elsewhere for a login or a token."""
    station = current_station()
    local = ip_address(request.remote_addr or "0.0.0.0").is_loopback
    if station.accounts is not None and not local and not current_user.is_authenticated:
        raise Unauthorized("This needs a login or a token.")
    station.metrics.present.set(station.queue.present)
    return Response(station.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _named(outcome: Outcome, path: Path, name: str) -> Outcome:
    """Call the file what its sender calls it, wherever the runtime's sentences name it."""

    def own(text: str | None) -> str | None:
        return None if text is None else text.replace(str(path), name).replace(path.name, name)

    answer = outcome.answer
    return replace(outcome, answer=replace(answer, message=own(answer.message), remedy=own(answer.remedy)))


def _write_down(station: Station, outcome: Outcome, path: Path, name: str) -> tuple[str | None, list[str]]:
    """Put the answer into the records; an answer that could not be written is given all the same, and says so."""
    if station.records is None:
        return None, []
    try:
        study = station.records.add(
            outcome, station.bundle.manifest, source="upload", actor=current_actor(), file=path, file_name=name,
            keep_original=station.config.keep_originals,
        )  # fmt: skip
    except RecordsError:
        LOG.exception("an answer could not be written down")
        return None, ["This answer could not be written into the records: it is not in the worklist."]
    return study.key, []

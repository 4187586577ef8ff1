"""The JSON API of the records: worklist, one study, verdicts, notes, similar cases, export, operating point."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest, NotFound

from edge_runtime.errors import UsageError
from edge_runtime.grey_png import grey_png
from edge_runtime.records import SORT_KEYS, Records, RecordsError, Study, StudyQuery
from edge_runtime.records.study import VerdictWord
from edge_runtime.web import operating
from edge_runtime.web.access import administrators_only, current_actor
from edge_runtime.web.accounts import LONGEST_NAME
from edge_runtime.web.explanations import explained
from edge_runtime.web.failures import records_failed
from edge_runtime.web.language import gettext
from edge_runtime.web.operating import OperatingPoint, point_in_force, wilson
from edge_runtime.web.station import current_station
from edge_runtime.web.studies_csv import studies_csv

__all__ = [
    "blueprint",
    "confusion_body",
    "present_study",
    "query_of_request",
    "records_or_404",
    "without_file_name",
]

blueprint = Blueprint("studies", __name__, url_prefix="/api/v1")

KEY = "<string(length=32):key>"
LONGEST_TEXT = 4000
LARGEST_EDGE = 4096


@blueprint.get("/revision")
def revision() -> Response:
    """Say how new the records are; a page asks this every few seconds, and no worker is held."""
    return jsonify({"revision": records_or_404().revision})


@blueprint.get("/studies")
def studies() -> Response:
    """Return a part of the worklist."""
    station = current_station()
    records = records_or_404()
    page = records.studies(query_of_request(paged=True))
    point = point_in_force(records, station.bundle.manifest)
    shown = _identity_wanted(records)
    found = [_study_body(study, point, shown) for study in page.studies]
    return jsonify({"studies": found, "total": page.total, "revision": page.revision})


@blueprint.get(f"/studies/{KEY}")
def study(key: str) -> Response:
    """Return one study with its verdicts, notes, and the other studies of the same patient."""
    station = current_station()
    records = records_or_404()
    found = present_study(records, key)
    point = point_in_force(records, station.bundle.manifest)
    shown = _identity_wanted(records, key)
    body = _study_body(found, point, shown)
    body["verdicts"] = [asdict(verdict) for verdict in records.verdicts(key)]
    body["note_texts"] = [asdict(note) for note in records.notes(key)]
    patient = found.facts.patient_id
    others = records.studies(StudyQuery(patient_id=patient, limit=20)).studies if patient else ()
    body["same_patient"] = [_study_body(other, point, shown) for other in others if other.key != key]
    return jsonify(body)


@blueprint.delete(f"/studies/{KEY}")
@administrators_only
def delete(key: str) -> tuple[Response | str, int]:
    """Delete a study; the log keeps that it was, and why. 200 instead of 204 where something of it is still there."""
    records = records_or_404()
    present_study(records, key)
    done = records.delete(key, actor=current_actor(), reason=_text(_body(), "reason", 300))
    if done.left or not done.cleared:
        return jsonify({"left": [str(path) for path in done.left], "cleared": done.cleared}), 200
    return "", 204


@blueprint.get(f"/studies/{KEY}/image")
def image(key: str) -> Response:
    """Return the pixels that were judged, as PNG, at most ``edge`` pixels a side."""
    from PIL import Image

    records = records_or_404()
    present_study(records, key)
    path = records.files.pixels_file(key)
    if path is None:
        raise NotFound(gettext("Nothing could be read of this file."))
    default = current_station().config.display_edge
    edge = min(LARGEST_EDGE, max(32, request.args.get("edge", default, type=int)))
    with Image.open(path, formats=["PNG"]) as picture:
        if max(picture.size) <= edge:
            return Response(path.read_bytes(), mimetype="image/png")
        picture.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
        content = grey_png(np.asarray(picture))
    return Response(content, mimetype="image/png")


@blueprint.get(f"/studies/{KEY}/heatmap")
def heatmap(key: str) -> Response:
    """Return the newest answer's heat maps, values from 0 to 1 over the whole image."""
    records = records_or_404()
    found = present_study(records, key)
    values = records.heatmap(key)
    if values is None:
        raise NotFound(gettext("There is no heat map of this study."))
    labels = list(found.answer["probabilities"] or ())
    return jsonify({"labels": labels, "values": [[[round(float(v), 3) for v in row] for row in m] for m in values]})


@blueprint.post(f"/studies/{KEY}/verdict")
def verdict(key: str) -> Response:
    """Take a reader's verdict on the newest answer."""
    records = records_or_404()
    present_study(records, key)
    body = _body()
    word: Any = body.get("verdict")
    if word not in get_args(VerdictWord):
        raise BadRequest(f"There is no such verdict; one of {', '.join(get_args(VerdictWord))}.")
    label = _text(body, "label", 60, needed=False)
    comment = _text(body, "comment", LONGEST_TEXT, needed=False)
    records.set_verdict(key, word, reader=current_actor(), label=label, comment=comment)
    return study(key)


@blueprint.post(f"/studies/{KEY}/notes")
def note(key: str) -> Response:
    """Add a note."""
    records = records_or_404()
    present_study(records, key)
    records.add_note(key, _text(_body(), "text", LONGEST_TEXT) or "", author=current_actor())
    return study(key)


@blueprint.get(f"/studies/{KEY}/similar")
def similar(key: str) -> Response:
    """Return the nearest of this site's own confirmed studies."""
    records = records_or_404()
    present_study(records, key)
    count = min(20, max(1, request.args.get("count", 5, type=int)))
    shown = _identity_wanted(records, key)
    return jsonify(
        {
            "similar": [
                {
                    "study": _study_body(near.study, None, shown),
                    "similarity": round(near.similarity, 4),
                    "label": near.label,
                }
                for near in records.similar(key, count)
            ]
        }
    )


@blueprint.get("/confusion")
def confusion() -> Response:
    """Return how the model does here: confirmed studies by the model's and the reader's class."""
    return jsonify(confusion_body(records_or_404()))


@blueprint.get("/studies.csv")
def export() -> Response:
    """Return every study of a question as CSV; ``deidentified=1`` leaves out what names or dates a patient."""
    records = records_or_404()
    bare = request.args.get("deidentified") == "1"
    query = query_of_request(paged=False)
    records.log("worklist exported", actor=current_actor(), details={"deidentified": bare})
    rows = studies_csv(records, current_station().bundle.manifest, query, deidentified=bare)
    response = Response(rows, mimetype="text/csv")
    name = "studies-deidentified.csv" if bare else "studies.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@blueprint.get("/operating-point")
def operating_point() -> Response:
    """Return the site's operating point, its history, and the bundle's curve."""
    station = current_station()
    records = records_or_404()
    manifest = station.bundle.manifest
    curve = operating.curve_of(manifest)
    return jsonify(
        {
            "point": operating.to_json(point_in_force(records, manifest)),
            "curve": None if curve is None else operating.described(curve),
            "history": [asdict(setting) for setting in records.setting_history(operating.SETTING)],
        }
    )


@blueprint.put("/operating-point")
@administrators_only
def set_operating_point() -> Response:
    """Choose an operating point, or take it back (``{"label": null}``); without a login the body has a ``name``."""
    records, body = records_or_404(), _body()
    actor = current_actor(None if current_station().accounts is not None else _text(body, "name", LONGEST_NAME))
    if body.get("label") is None and "label" in body:
        operating.clear(records, actor)
    else:
        manifest = current_station().bundle.manifest
        operating.choose(records, manifest, body.get("label"), body.get("threshold"), body.get("reason"), actor)
    return operating_point()


@blueprint.errorhandler(UsageError)
def misused(error: UsageError) -> tuple[Response, int]:
    """Say what the records would not take."""
    return _error(400, "bad_request", error)


@blueprint.errorhandler(RecordsError)
def unusable(error: RecordsError) -> tuple[Response, int]:
    """Say that the records cannot be used."""
    return _error(500, "records", error)


def records_or_404() -> Records:
    """Return the site's records; 404 where the page keeps none."""
    records = current_station().records
    if records is None:
        raise NotFound(gettext("This page keeps no records."))
    return records


def present_study(records: Records, key: str) -> Study:
    """Return a study; 404 where there is none of this key."""
    try:
        return records.study(key)
    except RecordsError as error:
        raise NotFound(gettext("There is no such study; it may have been deleted.")) from error


def query_of_request(*, paged: bool) -> StudyQuery:
    """Read a worklist's question from the address.

    Raises
    ------
    BadRequest
        A value that is none of those allowed.
    """
    args = request.args

    def one_of(name: str, allowed: tuple[str, ...]) -> str | None:
        value = args.get(name) or None
        if value is not None and value not in allowed:
            raise BadRequest(f"'{name}' is one of {', '.join(allowed)}.")
        return value

    def number(name: str, default: int, least: int, most: int) -> int:
        text = args.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:12]) <= most:
            raise BadRequest(f"'{name}' is a whole number from {least} to {most}.")
        return int(text)

    return StudyQuery(
        search="".join(c if c.isprintable() else " " for c in args.get("search") or "")[:200] or None,
        status=one_of("status", ("ok", "refused", "error")),
        label=args.get("label") or None,
        source=one_of("source", ("upload", "watch", "receive", "batch")),
        verdict=one_of("verdict", ("agree", "disagree", "other", "none")),  # type: ignore[arg-type]
        received_from=args.get("from") or None,
        received_until=args.get("until") or None,
        sort=one_of("sort", tuple(SORT_KEYS)) or "received",
        descending=one_of("order", ("ascending", "descending")) != "ascending",
        limit=number("limit", 50, 1, 200) if paged else 50,
        offset=number("offset", 0, 0, 10**9) if paged else 0,
    )


def confusion_body(records: Records) -> dict[str, Any]:
    """Return the confusion table with each class's sensitivity and specificity among the confirmed studies."""
    labels = current_station().bundle.manifest.labels
    counts = records.confusion()
    columns = (*labels, "other")
    rows = {model: {reader: counts.get((model, reader), 0) for reader in columns} for model in labels}
    total = sum(sum(row.values()) for row in rows.values())
    measures = {}
    for label in labels:
        sick = sum(rows[model][label] for model in labels)
        hits, called = rows[label][label], sum(rows[label].values())
        measures[label] = {
            "confirmed": sick,
            "sensitivity": wilson(hits, sick),
            "specificity": wilson(total - sick - called + hits, total - sick),
        }
    agreed = sum(rows[label][label] for label in labels)
    return {"labels": list(labels), "rows": rows, "total": total, "agreement": wilson(agreed, total), "of": measures}


def _study_body(study: Study, point: OperatingPoint | None, shown: bool) -> dict[str, Any]:
    body = study.to_json_object(with_identity=shown)
    body["identity_hidden"] = not shown
    if not shown:
        body["answer"] = without_file_name(study)
    body["answer"]["explanation"] = explained(body["answer"])
    body["operating_point"] = None if point is None else point.mark(study.answer["probabilities"])
    return body


def without_file_name(study: Study) -> dict[str, Any]:
    """Return the answer without the sender's name for the file, which often is the patient's."""
    answer = {**study.answer, "file": None}
    for key in ("message", "remedy"):
        if answer[key]:
            answer[key] = answer[key].replace(study.file_name, gettext("the file"))
    return answer


def _identity_wanted(records: Records, key: str | None = None) -> bool:
    """True where names were asked for; the log keeps who asked, once a request."""
    if request.args.get("identity") != "1":
        return False
    records.log("identity shown", actor=current_actor(), subject=key)
    return True


def _body() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise BadRequest(gettext("The body is no JSON object."))
    return body


def _text(body: dict[str, Any], name: str, longest: int, *, needed: bool = True) -> Any:
    value = body.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or (needed and not value.strip()) or len(value) > longest:
        raise BadRequest(gettext("'%(name)s' is a text of 1 to %(longest)s characters.", name=name, longest=longest))
    if not all(c.isprintable() or c in "\n\t" for c in value):
        raise BadRequest(gettext("'%(name)s' holds characters that cannot be printed.", name=name))
    return value.strip() or None


def _error(code: int, reason: str, error: UsageError | RecordsError) -> tuple[Response, int]:
    message, remedy = records_failed(error) if code >= 500 else (error.what, error.remedy)
    if code < 500 and error.got is not None:
        message = f"{message} ({error.got})"
    return jsonify({"status": "error", "reason": reason, "message": message, "remedy": remedy}), code

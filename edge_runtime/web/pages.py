"""The pages that people see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for
from flask_login import current_user
from werkzeug.exceptions import NotFound

from edge_runtime.heatmap import PALETTE, overlay_png
from edge_runtime.manifest import ParityResult
from edge_runtime.web import operating
from edge_runtime.web.access import current_actor, is_administrator
from edge_runtime.web.explanations import explained
from edge_runtime.web.language import gettext
from edge_runtime.web.station import Station, current_station
from edge_runtime.web.studies_api import (
    KEY,
    confusion_body,
    present_study,
    query_of_request,
    records_or_404,
    without_file_name,
)
from edge_runtime.web.studies_csv import years_of

__all__ = ["ModelFacts", "blueprint", "model_facts"]

blueprint = Blueprint("pages", __name__)
SUMMARY_ROWS = 200


@dataclass(frozen=True)
class ModelFacts:
    """What the page says about the model that answers."""

    bundle: str
    artifact: str
    precision: str
    backend: str
    labels: tuple[str, ...]
    input_size: int
    calibrated_on: str | None
    parity: str
    architecture: str
    recipe: str
    created: str
    synthetic: bool
    checkpoint: str
    licence: str
    intended_use: str
    limitations: tuple[str, ...]


def model_facts(station: Station) -> ModelFacts:
    """Collect the facts from the manifest and from what was opened of it."""
    manifest = station.bundle.manifest
    artifact = station.predictor.artifact
    return ModelFacts(
        bundle=manifest.name,
        artifact=artifact.name,
        precision=artifact.precision,
        backend=station.predictor.backend_name,
        labels=manifest.labels,
        input_size=manifest.input.preprocessing_in_graph.size,
        calibrated_on=manifest.calibration.fitted_on,
        parity=_parity_sentence(artifact.parity),
        architecture=manifest.provenance.architecture,
        recipe=manifest.provenance.recipe,
        created=manifest.provenance.created[:10],
        synthetic=manifest.provenance.trained_on_synthetic_data,
        checkpoint=manifest.provenance.checkpoint_sha256[:12],
        licence=manifest.licence,
        intended_use=manifest.intended_use,
        limitations=manifest.limitations,
    )


def _parity_sentence(parity: ParityResult | None) -> str:
    if parity is None:
        return "not measured"
    verdict = parity.verdict.replace("_", " ")
    return (
        f"{verdict}: {parity.differing_decisions} of {parity.radiographs} decisions differ from the "
        f"full model, largest probability difference {parity.max_abs_probability_difference:.1g}"
    )


@blueprint.app_context_processor
def for_every_page() -> dict[str, Any]:
    """What the frame of each page needs: who is there, and what there is."""
    station = current_station()
    here = station.accounts is not None and current_user.is_authenticated and bool(current_user.session_token)
    return {
        "with_accounts": station.accounts is not None,
        "with_records": station.records is not None,
        "person": current_user if here else None,
        "inside": here or station.accounts is None,
        "administrator": is_administrator(),
        "idle_minutes": station.config.idle_minutes,
    }


@blueprint.get("/")
def read() -> str:
    """The page that reads radiographs."""
    config = current_station().config
    return render_template("read.html", **_common(), max_upload_bytes=config.max_upload_bytes)


@blueprint.get("/model")
def model() -> str:
    """What the model is and is not."""
    return render_template("model.html", **_common())


@blueprint.get("/worklist")
def worklist() -> str:
    """All studies of the site."""
    records_or_404()
    return render_template("worklist.html", **_common())


@blueprint.get(f"/studies/{KEY}")
def study(key: str) -> str:
    """One study."""
    present_study(records_or_404(), key)
    return render_template("study.html", key=key, **_common())


@blueprint.get("/compare")
def compare() -> str:
    """Two studies side by side."""
    records = records_or_404()
    keys = [present_study(records, request.args.get(name, "")).key for name in ("first", "second")]
    return render_template("compare.html", keys=keys, **_common())


@blueprint.get("/here")
def here() -> str:
    """How the model does here."""
    return render_template("here.html", table=confusion_body(records_or_404()), **_common())


@blueprint.get("/operating-point")
def operating_point() -> str:
    """Choose from which probability on a study is marked."""
    station, records = current_station(), records_or_404()
    manifest = station.bundle.manifest
    point = operating.point_in_force(records, manifest)
    history = records.setting_history(operating.SETTING)
    curve = operating.curve_of(manifest)
    without = [gettext(label) for label in manifest.labels if curve is not None and label not in curve.curves]
    void = point is None and bool(history) and history[0].value is not None
    return render_template(
        "operating_point.html", point=point, void=void, history=history, curve=curve, without=without,
        strange=operating.strange_curve(manifest), actor=current_actor(),
        suggested=manifest.operating_thresholds or {}, **_common(),
    )  # fmt: skip


@blueprint.get(f"/studies/{KEY}/report")
def report(key: str) -> str:
    """One study on one printable page."""
    station, records = current_station(), records_or_404()
    found = present_study(records, key)
    shown = request.args.get("identity") == "1"
    if shown:
        records.log("identity shown", actor=current_actor(), subject=key)
    facts = found.facts
    years = years_of(facts.age)
    sexes = {"F": gettext("Female"), "M": gettext("Male"), "O": gettext("Other")}
    age = facts.age if not years else gettext("%(years)s years", years=years)
    header = (
        (gettext("View"), facts.view),
        (gettext("Age"), age),
        (gettext("Sex"), sexes.get(facts.sex or "", facts.sex)),
    )
    dated = ((gettext("Study date"), facts.study_date),) if shown else ()
    point = operating.point_in_force(records, station.bundle.manifest)
    return render_template(
        "report.html", study=found, shown=shown, header_facts=[pair for pair in (*header, *dated) if pair[1]],
        has_image=records.files.pixels_file(key) is not None, has_heatmap=records.heatmap(key) is not None,
        answer=found.answer, explanation=explained(found.answer if shown else without_file_name(found)),
        mark=None if point is None else point.mark(found.answer["probabilities"]),
        set_sentence=_set_sentence(found.answer), notes=records.notes(key),
        verdict_word=found.verdict and _verdict_words()[found.verdict.verdict], **_common(),
    )  # fmt: skip


@blueprint.get(f"/studies/{KEY}/overlay.png")
def overlay(key: str) -> Response:
    """The radiograph with the heat map of its answer, for the report."""
    records = records_or_404()
    found = present_study(records, key)
    pixels, maps = records.files.pixels(key), records.heatmap(key)
    if pixels is None or maps is None:
        raise NotFound(gettext("There is no heat map of this study."))
    index = list(found.answer["probabilities"]).index(found.answer["label"])
    picture = overlay_png(pixels, maps[index], current_station().config.display_edge)
    return Response(picture, mimetype="image/png")


@blueprint.get("/summary")
def summary() -> str:
    """The studies of a question, printable."""
    records = records_or_404()
    page = records.studies(replace(query_of_request(paged=False), limit=SUMMARY_ROWS))
    counts: dict[str, int] = {}
    for each in page.studies:
        label = each.answer["label"]
        word = gettext(label) if label else gettext("Not judged")
        counts[word] = counts.get(word, 0) + 1
    return render_template(
        "summary.html", studies=page.studies, more=page.total > len(page.studies), counts=counts.items(),
        words_of_verdicts=_verdict_words(), **_common(),
    )  # fmt: skip


def _common() -> dict[str, Any]:
    facts = model_facts(current_station())
    return {
        "facts": facts,
        "translated_labels": [gettext(label) for label in facts.labels],
        "palette": PALETTE,
        "study_address": url_for("pages.study", key="0" * 32).replace("0" * 32, "{key}"),
        "api_address": url_for("studies.study", key="0" * 32).replace("0" * 32, "{key}"),
    }


def _verdict_words() -> dict[str, str]:
    return {"agree": gettext("Agrees"), "disagree": gettext("Disagrees"), "other": gettext("Other")}


def _set_sentence(answer: dict[str, Any]) -> str | None:
    labels = answer.get("prediction_set")
    if labels is None:
        return None
    if not labels:
        return gettext("No class is likely enough. Refer to a reader.")
    named = ", ".join(gettext(label) for label in labels)
    if answer.get("refer"):
        return gettext("Cannot be ruled out: %(labels)s. Refer to a reader.", labels=named)
    return gettext("Cannot be ruled out: %(labels)s.", labels=named)

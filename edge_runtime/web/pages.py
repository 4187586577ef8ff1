"""The pages that people see."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template

from edge_runtime.heatmap import PALETTE
from edge_runtime.manifest import ParityResult
from edge_runtime.web.station import Station, current_station

__all__ = ["ModelFacts", "blueprint", "model_facts"]

blueprint = Blueprint("pages", __name__)


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
    return (
        f"{parity.verdict}: {parity.differing_decisions} of {parity.radiographs} decisions differ from the "
        f"full model, largest probability difference {parity.max_abs_probability_difference:.1g}"
    )


@blueprint.get("/")
def read() -> str:
    """The page that reads radiographs."""
    station = current_station()
    return render_template(
        "read.html",
        facts=model_facts(station),
        max_upload_bytes=station.config.max_upload_bytes,
        palette=PALETTE,
    )

"""The JSON body of an answer: what ``edge-runtime predict --json`` writes, and what the page draws."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.answer import Outcome
from edge_runtime.grey_png import grey_png
from edge_runtime.radiograph import Radiograph

__all__ = ["answer_body", "display_image"]

IDENTITY = ("patient_id", "sop_instance_uid")
"""Header facts that name the patient or the image."""


def answer_body(
    outcome: Outcome, labels: Sequence[str], display_edge: int, waited_ms: float, *, identity: bool = False
) -> dict[str, Any]:
    """Return the answer as a JSON object.

    The keys of ``Answer.to_json_object`` and, each null where there is none:

    ``facts``, ``identity_hidden``
        Header facts; those that name the patient are null unless ``identity``, and the second says whether any is.
    ``image``
        ``{"url", "width", "height", "source_width", "source_height", "source_format"}``: the grey pixels that
        were judged, as a PNG data URL of at most ``display_edge`` pixels a side.
    ``heatmap``
        ``{"labels": [C], "values": [C][h][w]}``, values in [0, 1] with three decimals, over the whole image.
    """
    body = outcome.answer.to_json_object()
    body["timings_ms"] = {**(body.get("timings_ms") or {}), "wait": round(waited_ms, 1)}
    facts = outcome.answer.facts
    named = facts is not None and any(getattr(facts, key) for key in IDENTITY)
    if facts is not None and not identity:
        facts = replace(facts, **dict.fromkeys(IDENTITY))
    body["facts"] = None if facts is None else asdict(facts)
    body["identity_hidden"] = named and not identity
    body["image"] = None if outcome.radiograph is None else display_image(outcome.radiograph, display_edge)
    if outcome.prediction is None:
        body["heatmap"] = None
    else:
        values = np.round(outcome.prediction.heatmap.astype(np.float64), 3)
        body["heatmap"] = {"labels": list(labels), "values": values.tolist()}
    return body


def display_image(radiograph: Radiograph, edge: int) -> dict[str, Any]:
    """Return the radiograph for display: a PNG data URL, no side longer than ``edge`` pixels."""
    height, width = radiograph.pixels.shape
    image = Image.fromarray(radiograph.pixels)
    # BOX inside `reduce` is far quicker than filtering a 12-megapixel image, and no eye sees the difference.
    image.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return {
        "url": "data:image/png;base64," + base64.b64encode(grey_png(np.asarray(image))).decode("ascii"),
        "width": image.width,
        "height": image.height,
        "source_width": width,
        "source_height": height,
        "source_format": radiograph.source_format,
    }

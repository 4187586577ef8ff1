"""The explanation for people: one self-contained HTML page, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from pathlib import Path

from markupsafe import Markup, escape

from edge_runtime.bundle import Bundle
from edge_runtime.reading import read_radiograph
from export.errors import ExportError
from export.explain import SHOWS_LAYERS, Explanation, compare_layers
from export.layers import LayerError
from export.pages import render
from export.parity_page import FlippedPictures, flips_of
from export.parity_result import ParityReport
from train.data.rows import IMAGES_NAME
from train.run import load_run

__all__ = ["layer_chart", "layer_charts", "render_explanation"]

_TEMPLATE = "explain.html.jinja"
_HIGHEST_DB = 60.0
_SHOWN = 15
_CHART_IMAGES = 4


def render_explanation(explanation: Explanation, pictures: FlippedPictures) -> str:
    """Return the page; ``pictures`` as :func:`export.parity_report.read_pictures` draws them."""
    judged = explanation.report.artifacts[0]
    return render(
        _TEMPLATE,
        {"db": decibels, "short": short_name},
        e=explanation,
        a=judged,
        r=explanation.report,
        chart=layer_chart(explanation.layers) if explanation.layers else None,
        worst=explanation.worst_layers(_SHOWN),
        cuts=explanation.worst_cuts(_SHOWN),
        flips=flips_of(explanation.report, judged, pictures),
    )


def layer_charts(bundle: Bundle, run: str | Path, data: str | Path, report: ParityReport) -> dict[str, Markup]:
    """Draw the layers of the quantized artifacts of a parity check, by name.

    A few radiographs suffice for a picture: those that flip first. Of an artifact whose layers cannot be matched with
    float's there is the reason in place of a chart.
    """
    charts = {}
    loaded = load_run(run)
    for judged in report.artifacts:
        entry = bundle.manifest.artifact(judged.name)
        if entry is None or judged.question == "conversion":
            continue  # another backend's row: the file is the one judged above it
        if entry.format not in SHOWS_LAYERS:
            charts[judged.name] = escape(f"A file of the format {entry.format} does not show its layers.")
            continue
        others = (n for n in judged.case_numbers if n not in judged.differing)
        numbers = [*judged.differing, *others][:_CHART_IMAGES]
        files = [report.cases[number].file for number in numbers]
        pixels = [read_radiograph(Path(data) / IMAGES_NAME / file).pixels for file in files]
        try:
            layers, _, _ = compare_layers(bundle, loaded, entry, pixels)
            charts[judged.name] = layer_chart(layers)
        except ExportError as error:
            charts[judged.name] = escape(str(error))
    return charts


def layer_chart(layers: Sequence[LayerError]) -> Markup:
    """Draw the layers' signal to noise in the graph's order, the ten lowest marked.

    A dot is the tensor's own rounding.
    """
    left, top, height = 44, 12, 220
    step = max(4.0, min(26.0, 860 / len(layers)))
    width = step * len(layers)
    worst = {layer.name for layer in sorted(layers, key=lambda one: one.sqnr_db)[:10]}

    def y(decibel: float) -> float:
        return top + height * (1 - max(0.0, min(decibel, _HIGHEST_DB)) / _HIGHEST_DB)

    parts = []
    for tick in range(0, 61, 10):
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width:.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for n, layer in enumerate(layers):
        x = left + n * step
        value = y(layer.sqnr_db)
        kind = "worst" if layer.name in worst else "other"
        parts.append(
            f'<rect class="{kind}" x="{x + 0.5:.1f}" y="{value:.1f}" width="{max(1.0, step - 1.5):.1f}" '
            f'height="{max(1.0, y(0) - value):.1f}"><title>{n + 1}. {escape(layer.name)} ({escape(layer.op)}): '
            f"{decibels(layer.sqnr_db)} dB, cosine {layer.cosine:.4f}</title></rect>"
        )
        if layer.own_sqnr_db is not None:
            parts.append(f'<circle class="own" cx="{x + step / 2:.1f}" cy="{y(layer.own_sqnr_db):.1f}" r="2"/>')
    parts.append(
        f'<text x="{left + width / 2:.1f}" y="{top + height + 24}" text-anchor="middle">'
        f"{len(layers)} layers, input to output; dB against float</text>"
    )
    return Markup(  # every text in it is escaped above
        f'<svg class="plot" role="img" aria-label="Signal to noise of each layer" '
        f'viewBox="0 0 {left + width + 10:.0f} {top + height + 34}" style="max-width:{left + width + 10:.0f}px">'
        f"{''.join(parts)}</svg>"
    )


def decibels(value: float | None) -> str:
    """Write decibels; nothing differs where they are infinite."""
    if value is None:
        return "–"
    return "no difference" if isinf(value) else f"{value:.1f}"


def short_name(name: str, most: int = 60) -> str:
    """Keep a long tensor's name readable: its end tells most."""
    return name if len(name) <= most else "…" + name[-most:]

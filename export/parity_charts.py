"""Inline SVG of the parity page, in the page's colours: intervals against their margins, and the Pareto chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10, sqrt

from markupsafe import Markup, escape

from export.parity_result import ArtifactParity, PairedShare

__all__ = ["Trade", "interval_chart", "pareto_chart", "pareto_front", "trades_of"]


@dataclass(frozen=True)
class Trade:
    """What an artifact costs and gives: accuracy 0..1, median latency in ms, size in MB."""

    key: str
    name: str
    accuracy: float
    p50_ms: float
    megabytes: float
    on_front: bool


def pareto_front(points: Sequence[tuple[float, float, float]]) -> list[bool]:
    """Say of each (accuracy, latency, size) whether no other is at least as good in all three and better in one."""

    def beats(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
        as_good = a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2]
        return as_good and a != b

    return [not any(beats(other, point) for other in points) for point in points]


def trades_of(artifacts: Sequence[ArtifactParity]) -> list[Trade]:
    """Return the artifacts that were run here, the quickest first."""
    timed = sorted((a for a in artifacts if a.p50_ms is not None and a.bytes), key=lambda a: a.p50_ms or 0.0)
    figures = [(a.accuracy, a.p50_ms or 0.0, a.bytes / 1e6) for a in timed]
    front = pareto_front(figures)
    return [
        Trade(chr(ord("A") + n % 26), a.name, *figure, on_front=best)
        for n, (a, figure, best) in enumerate(zip(timed, figures, front, strict=True))
    ]


def interval_chart(rows: Sequence[tuple[str, PairedShare]]) -> Markup:
    """Draw Tango's intervals of (artifact - full model) in points, each with its margin.

    Parameters
    ----------
    rows
        (name of the artifact, share) with a margin each.
    """
    left, width, row_height, top = 250, 460, 34, 26
    ends = [value * 100 for _, share in rows for value in (*share.tango, -(share.margin or 0.0))]
    low, high = _round_out(min([*ends, -1.0]), max([*ends, 1.0]))

    def x(points: float) -> float:
        return left + width * (points - low) / (high - low)

    height = top + row_height * len(rows) + 34
    parts = []
    step = next(s for s in (1, 2, 5, 10, 20, 50) if (high - low) / s <= 9)
    tick = -(-low // step) * step
    while tick <= high:
        kind = "axis" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 8}" y2="{height - 30}"/>')
        label = f"{tick:+g}".replace("-", "−") if tick else "0"
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{height - 14}" text-anchor="middle">{label}</text>')
        tick += step
    parts.append(
        f'<text class="tick" x="{left + width}" y="12" text-anchor="end">points, artifact minus full model</text>'
    )
    for n, (name, share) in enumerate(rows):
        y = top + row_height * n + row_height / 2
        kind = {"not inferior": "good", "inferior": "bad"}.get(share.verdict or "", "open")
        margin = x(-100 * (share.margin or 0))
        parts.append(
            f'<text x="0" y="{y - 1:.1f}">{escape(name)}</text>'
            f'<text class="tick" x="0" y="{y + 12:.1f}">{escape(share.name)}, {share.cases} cases: '
            f"{escape(share.verdict or '')}</text>"
            f'<line class="margin" x1="{margin:.1f}" x2="{margin:.1f}" y1="{y - 12:.1f}" y2="{y + 12:.1f}"/>'
            f'<line class="interval {kind}" x1="{x(100 * share.tango[0]):.1f}" x2="{x(100 * share.tango[1]):.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if share.difference is not None:
            parts.append(f'<circle class="point {kind}" cx="{x(100 * share.difference):.1f}" cy="{y:.1f}" r="4.5"/>')
    return _svg(parts, left + width + 14, height, "Intervals of the differences and their margins")


def pareto_chart(trades: Sequence[Trade], full_accuracy: float) -> Markup:
    """Draw accuracy over latency (logarithmic); a circle's area is the file's size, a filled one is on the front."""
    left, top, width, height = 54, 14, 520, 260
    logs = [log10(max(t.p50_ms, 0.01)) for t in trades]
    low, high = min(logs) - 0.08, max(logs) + 0.08
    below, above = (
        min([t.accuracy for t in trades] + [full_accuracy]),
        max([t.accuracy for t in trades] + [full_accuracy]),
    )
    room = max(0.01, (above - below) * 0.2)
    below, above = below - room, min(1.0 + room / 2, above + room)
    largest = max(t.megabytes for t in trades)

    def x(ms: float) -> float:
        return left + width * (log10(max(ms, 0.01)) - low) / (high - low)

    def y(accuracy: float) -> float:
        return top + height * (above - accuracy) / (above - below)

    full = y(full_accuracy)
    parts = []
    for n in range(5):
        value = below + (above - below) * n / 4
        if value > 1:
            continue  # room for a circle at 100 %, and no accuracy
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1%}</text>')
    for value in _log_ticks(10**low, 10**high):
        parts.append(
            f'<text class="tick" x="{x(value):.1f}" y="{top + height + 18}" text-anchor="middle">{value:g}</text>'
        )
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top}" y2="{top + height}"/>')
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 38}" text-anchor="middle">median ms a radiograph</text>'
    )
    parts.append(
        f'<line class="margin" x1="{left}" x2="{left + width}" y1="{full:.1f}" y2="{full:.1f}"/>'
        f'<text class="tick" x="{left + 4}" y="{full - 5:.1f}">full model</text>'
    )
    for trade in sorted(trades, key=lambda t: -t.megabytes):
        radius = 7 + 15 * sqrt(trade.megabytes / largest)
        kind = "front" if trade.on_front else "behind"
        parts.append(
            f'<circle class="bubble {kind}" cx="{x(trade.p50_ms):.1f}" cy="{y(trade.accuracy):.1f}" r="{radius:.1f}">'
            f"<title>{escape(trade.name)}: {trade.accuracy:.1%}, {trade.p50_ms:.1f} ms, "
            f"{trade.megabytes:.1f} MB</title>"
            "</circle>"
        )
    for column in _columns([(x(t.p50_ms), y(t.accuracy), t.key) for t in trades]):
        for n, (cx, cy, key) in enumerate(column):
            parts.append(f'<text class="key" x="{cx + 11 * n:.1f}" y="{cy + 4:.1f}" text-anchor="middle">{key}</text>')
    return _svg(parts, left + width + 20, top + height + 46, "Accuracy, latency and size of each artifact")


def _columns(points: Sequence[tuple[float, float, str]]) -> list[list[tuple[float, float, str]]]:
    """Letters that would lie on one another, together: they are then written side by side."""
    groups: list[list[tuple[float, float, str]]] = []
    for point in points:
        for group in groups:
            if abs(group[0][0] - point[0]) < 9 and abs(group[0][1] - point[1]) < 9:
                group.append((group[0][0], group[0][1], point[2]))
                break
        else:
            groups.append([point])
    return groups


def _log_ticks(low: float, high: float) -> list[float]:
    candidates = [base * 10**power for power in range(-2, 5) for base in (1, 2, 5)]
    return [value for value in candidates if low <= value <= high]


def _round_out(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06
    return low - room, high + room


def _svg(parts: Sequence[str], width: float, height: float, title: str) -> Markup:
    return Markup(  # every text in it is escaped above
        f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:{width:.0f}px">{"".join(parts)}</svg>'
    )

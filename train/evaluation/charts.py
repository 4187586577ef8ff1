"""Inline SVG that follows the page's colours: reliability diagram, ROC curves, shortcut bars, masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from train.evaluation.calibrating import Calibration
from train.evaluation.estimates import Estimate
from train.evaluation.shortcuts import Mask

__all__ = ["mask_sketch", "reliability_diagram", "roc_curves", "share_bars"]

_EDGE, _LEFT, _TOP = 240, 44, 12  # the square plots: edge, and the room for labels beside it


def reliability_diagram(calibration: Calibration, title: str) -> Markup:
    """Draw accuracy over confidence, with Wilson intervals and the share of radiographs as bars below."""
    total = sum(found.count for found in calibration.bins)
    parts = [_frame("confidence", "share right"), _line(0, 0, 1, 1, "guide")]
    for found in calibration.bins:
        assert found.accuracy.value is not None and found.accuracy.interval is not None
        low, high = found.accuracy.interval
        x, y = found.confidence, found.accuracy.value
        width = _EDGE * (found.high - found.low) - 2
        height = 0.25 * _EDGE * found.count / total
        parts.append(
            f'<rect class="mass" x="{_x(found.low) + 1:.1f}" y="{_y(0) - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/>'
        )
        parts.append(_line(x, low, x, high, "whisker"))
        parts.append(
            f'<circle class="dot" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="4"><title>{found.count} radiographs: '
            f"confidence {x:.2f}, right {y:.2f}</title></circle>"
        )
    return _svg("".join(parts), f"Reliability diagram, {title}")


def roc_curves(labels: Sequence[str], targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Markup:
    """Draw each class's ROC curve against the rest; a class without cases or without others is left out."""
    parts = [_frame("1 - specificity", "sensitivity"), _line(0, 0, 1, 1, "guide")]
    for c in range(len(labels)):
        positive = targets == c
        if not positive.any() or positive.all():
            continue
        order = np.argsort(-probabilities[:, c], kind="stable")
        scores = probabilities[order, c]
        last = np.r_[scores[1:] != scores[:-1], True]
        tpr = np.r_[0, np.cumsum(positive[order])[last] / positive.sum()]
        fpr = np.r_[0, np.cumsum(~positive[order])[last] / (~positive).sum()]
        points = " ".join(f"{_x(f):.1f},{_y(t):.1f}" for f, t in zip(fpr, tpr, strict=True))
        parts.append(f'<polyline class="curve c{c % 3}" points="{points}"/>')
    for c, label in enumerate(labels):
        y = _y(0) - 12 - 16 * (len(labels) - 1 - c)
        parts.append(f'<line class="curve c{c % 3}" x1="{_x(0.5)}" x2="{_x(0.6)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_x(0.63):.1f}" y="{y + 4}">{escape(label)}</text>')
    return _svg("".join(parts), "ROC curves, one class against the rest")


def share_bars(rows: Sequence[tuple[str, Estimate, float | None]], title: str) -> Markup:
    """Draw shares as horizontal bars with intervals, each with its own chance level as a tick.

    Parameters
    ----------
    rows
        (name, share, chance or None). A share without a value is written as ``n/a``.
    title
        For those who cannot see it.
    """
    width, step = 320, 46
    parts = []
    for index, (name, estimate, chance) in enumerate(rows):
        y = index * step
        parts.append(f'<text x="0" y="{y + 13}">{escape(name)}</text>')
        written = "n/a" if estimate.value is None else f"{100 * estimate.value:.1f} %"
        parts.append(f'<text class="figure" x="{width}" y="{y + 13}" text-anchor="end">{written}</text>')
        parts.append(f'<rect class="track" x="0" y="{y + 20}" width="{width}" height="10" rx="2"/>')
        if estimate.value is not None:
            bar = width * estimate.value
            parts.append(f'<rect class="bar" x="0" y="{y + 20}" width="{bar:.1f}" height="10" rx="2"/>')
        if estimate.interval is not None:
            low, high = (width * edge for edge in estimate.interval)
            parts.append(f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 25}" y2="{y + 25}"/>')
        if chance is not None:
            x = width * chance
            parts.append(f'<line class="chance" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 16}" y2="{y + 34}"/>')
    return Markup(  # every text in it is escaped above
        f'<svg class="bars" role="img" aria-label="{escape(title)}" viewBox="-2 0 {width + 4} {step * len(rows) - 8}">'
        f"{''.join(parts)}</svg>"
    )


def mask_sketch(mask: Mask) -> Markup:
    """Draw which part of the radiograph a mask blacks."""
    left, top, right, bottom = (60 * edge for edge in mask.box)
    inner = f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" class="%s"/>'
    outer = '<rect width="60" height="60" class="%s"/>'
    classes = ("left", "gone") if mask.inside_black else ("gone", "left")
    return Markup(  # numbers only
        f'<svg class="sketch" aria-hidden="true" viewBox="0 0 60 60">{outer % classes[0]}{inner % classes[1]}</svg>'
    )


def _x(value: float) -> float:
    return _LEFT + _EDGE * value


def _y(value: float) -> float:
    return _TOP + _EDGE * (1 - value)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_x(x1):.1f}" y1="{_y(y1):.1f}" x2="{_x(x2):.1f}" y2="{_y(y2):.1f}"/>'


def _frame(across: str, up: str) -> str:
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(0, tick, 1, tick, "grid"))
        parts.append(f'<text class="tick" x="{_x(0) - 6}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{_x(tick):.1f}" y="{_y(0) + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_x(0.5)}" y="{_y(0) + 34}" text-anchor="middle">{across}</text>')
    middle = _y(0.5)
    parts.append(f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">{up}</text>')
    return "".join(parts)


def _svg(body: str, title: str) -> Markup:
    width, height = _LEFT + _EDGE + 12, _TOP + _EDGE + 42
    return Markup(  # every text in it is escaped above
        f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}">{body}</svg>'
    )

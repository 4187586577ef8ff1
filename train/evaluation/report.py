"""The report: one HTML file without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.heatmap import overlay
from train.evaluation import charts
from train.evaluation.comparison import SEED_SPECIFICITIES
from train.evaluation.estimates import Estimate
from train.evaluation.record import Evaluation
from train.evaluation.shortcuts import MASKS
from train.evaluation.summary import percent, with_interval

__all__ = ["Pictures", "draw_pictures", "render_report"]

_LONGEST_SIDE = 260
_TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Pictures:
    """A radiograph and two heat maps, as data URLs."""

    radiograph: str
    for_label: str
    for_called: str


def draw_pictures(pixels: NDArray[np.uint8], maps: NDArray[np.float32]) -> Pictures:
    """Draw a radiograph, uint8 [H, W], with the heat maps of its true and its called class, float32 [2, h, w]."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    small = np.asarray(image)
    return Pictures(_data_url(small), *(_data_url(overlay(small, heat)) for heat in maps))


def render_report(
    evaluation: Evaluation,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    pictures: Sequence[Pictures | None],
) -> str:
    """Render the page.

    Parameters
    ----------
    evaluation
        Every figure of it.
    targets, probabilities
        int [N] and calibrated float [N, C], for the curves.
    pictures
        One for each of ``evaluation.top_losses``; None: the page holds no radiographs.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, interval=with_interval, number=_number, span=_span, span3=_span3)
    environment.globals.update(mask_sketch=charts.mask_sketch)
    probe = evaluation.source_probe
    source_bars = [("all radiographs (tick: from the class alone)", probe.accuracy, probe.from_label)]
    source_bars += [
        (f"{found.label} only, balanced (tick: chance)", found.balanced_accuracy, found.chance)
        for found in probe.within_class
    ]
    mask_bars = [("unmasked", evaluation.result.accuracy, evaluation.commonest_class)]
    for found in evaluation.masked:
        mask_bars.append((found.title.lower(), found.accuracy, evaluation.commonest_class))
        mask_bars.append(("… last layer fitted anew", found.refitted_accuracy, evaluation.commonest_class))
    page = environment.get_template(_TEMPLATE).render(
        e=evaluation,
        pictures=pictures,
        roc=charts.roc_curves(evaluation.labels, targets, probabilities),
        reliability_before=charts.reliability_diagram(evaluation.uncalibrated, "before temperature"),
        reliability_after=charts.reliability_diagram(evaluation.calibration, "after temperature"),
        source_bars=charts.share_bars(source_bars, "How often the source can be told from the embedding"),
        mask_bars=charts.share_bars(mask_bars, "Accuracy on masked radiographs"),
        masks=list(zip(MASKS, evaluation.masked, strict=True)),
        seed_specificities=SEED_SPECIFICITIES,
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def _data_url(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _span(estimate: Estimate) -> str:
    """The interval of a share, in percent."""
    return "" if estimate.interval is None else f"{100 * estimate.interval[0]:.1f}–{100 * estimate.interval[1]:.1f}"


def _span3(estimate: Estimate) -> str:
    """The interval of a figure in 0..1."""
    return "" if estimate.interval is None else f"{estimate.interval[0]:.3f}–{estimate.interval[1]:.3f}"

"""The operating curve: sensitivity and specificity of each class at every threshold, on the validation split.

A site chooses its operating point on it (``edge_runtime/web/operating.py``), so it is counted on the full model's
calibrated probabilities, and on radiographs that the run was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import Refusal
from edge_runtime.reading import read_radiograph
from export.graph import DeployableGraph
from train.data.rows import Dataset
from train.preprocessing import squish

__all__ = ["FEWEST", "learn_operating_curve", "operating_curve"]

FEWEST = 20
"""Radiographs of a class, and of all others, without which the class has no curve: with fewer a sensitivity of 100 %
is compatible with one below 84 % (95 % Wilson interval)."""
_SPLIT = "valid"
_STEPS = (1000, 500, 200, 100)
"""Steps of the threshold from 0 to 1, the finest first; the page's slider has 1000."""
_MOST_POINTS = 200
_BATCH = 4  # of larger ones the feature maps no longer fit into a CPU's cache


def learn_operating_curve(
    graph: DeployableGraph,
    dataset: Dataset,
    notes: list[str],
    on_radiograph: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any] | None:
    """Run the full model on the validation split and return the manifest's ``operating_curve``.

    Parameters
    ----------
    graph
        The eager graph, temperature inside.
    dataset
        The data set that the run was trained on. What the reader refuses is left out; what the gate would refuse
        is not: the gate's limits were set on the same radiographs.
    notes
        Gets a sentence where a class has no curve.
    on_radiograph
        Progress.

    Returns
    -------
    dict or None
        Of the form that :class:`edge_runtime.web.operating.OperatingCurve` describes; None where no class has
        enough radiographs.
    """
    rows = dataset.splits[_SPLIT]
    targets: list[int] = []

    def grey() -> Iterator[Tensor]:
        for number, row in enumerate(rows, start=1):
            on_radiograph(number, len(rows))
            try:
                pixels = read_radiograph(dataset.image_path(row)).pixels
            except Refusal:
                continue
            targets.append(dataset.labels.index(row.label))
            yield squish(torch.from_numpy(pixels.copy())[None, None], graph.size)

    found: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for batch in _batches(grey()):
            found.append(graph.answer_grey(batch).probabilities.double().numpy())
    probabilities = np.concatenate(found) if found else np.empty((0, len(dataset.labels)))
    curve = operating_curve(probabilities, np.asarray(targets, np.intp), dataset.labels)
    curves = {} if curve is None else curve["curves"]
    if without := [label for label in dataset.labels if label not in curves]:
        notes.append(
            f"No operating curve of {', '.join(without)}: it needs {FEWEST} validation radiographs of the class and "
            f"{FEWEST} of others."
        )
    return curve


def operating_curve(
    probabilities: NDArray[np.float64], targets: NDArray[np.intp], labels: Sequence[str]
) -> dict[str, Any] | None:
    """Count hits and false alarms of each class against the rest, where it is called from a threshold on.

    Thresholds are 0, 1, and the multiples of a thousandth at which the counts change: the last point at or below a
    threshold says what holds there. Where a class would have more than 200 points, coarser steps are taken.

    Parameters
    ----------
    probabilities
        float [N, C], calibrated.
    targets
        int [N], indices of classes.
    labels
        Names of the classes, in order.

    Returns
    -------
    dict or None
        ``split``, ``radiographs`` and ``curves``: label -> points of ``threshold``, ``true_positives``,
        ``false_negatives``, ``false_positives``, ``true_negatives``. None where no class has :data:`FEWEST`
        radiographs of its own and as many others.
    """
    curves = {}
    for index, label in enumerate(labels):
        sick = targets == index
        if min(int(sick.sum()), int((~sick).sum())) >= FEWEST:
            curves[label] = _points(probabilities[:, index], sick)
    if not curves:
        return None
    return {"split": _SPLIT, "radiographs": len(targets), "curves": curves}


def _points(scores: NDArray[np.float64], sick: NDArray[np.bool_]) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    for steps in _STEPS:
        points = []
        for step in range(steps + 1):
            threshold = step / steps
            called = scores >= threshold
            hits, alarms = int((called & sick).sum()), int((called & ~sick).sum())
            last = points[-1] if points else None
            changed = last is None or (last["true_positives"], last["false_positives"]) != (hits, alarms)
            if changed or step == steps:
                points.append(
                    {
                        "threshold": threshold,
                        "true_positives": hits,
                        "false_negatives": int(sick.sum()) - hits,
                        "false_positives": alarms,
                        "true_negatives": int((~sick).sum()) - alarms,
                    }
                )
        if len(points) <= _MOST_POINTS:
            break
    return points


def _batches(grey: Iterator[Tensor]) -> Iterator[Tensor]:
    waiting: list[Tensor] = []
    for image in grey:
        waiting.append(image)
        if len(waiting) == _BATCH:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)

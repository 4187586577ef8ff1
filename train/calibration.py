"""Calibration on the validation split: temperature, calibration error, operating points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["brier_score", "expected_calibration_error", "fit_temperature", "operating_points", "softmax"]


def softmax(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax over the last axis of logits [N, C] divided by ``temperature``."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def fit_temperature(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Return the temperature T > 0 that minimises the negative log-likelihood of softmax(logits / T).

    Guo et al. 2017, "On calibration of modern neural networks". One number, so decisions do not change. Searched in
    [0.05, 20] by bounded scalar minimisation of log T.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(targets))

    def loss(log_t: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_t)))[rows, targets]
        return float(-np.log(np.maximum(probabilities, 1e-12)).mean())

    result = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(result.x))


def expected_calibration_error(probabilities: NDArray[np.float64], targets: NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error of the top label, equal-width bins, in 0..1."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == targets
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(error)


def brier_score(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Multi-class Brier score, sum over classes of the squared error, mean over radiographs: 0..2."""
    truth = np.eye(probabilities.shape[1])[targets]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def operating_points(
    probabilities: NDArray[np.float64],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    wanted_sensitivity: float = 0.95,
) -> dict[str, Any]:
    """For each class the highest threshold that keeps a wanted sensitivity, with what it costs.

    Parameters
    ----------
    probabilities
        float [N, C], calibrated.
    targets
        int [N].
    labels
        Class names in order.
    wanted_sensitivity
        0..1, one class against the rest.

    Returns
    -------
    dict
        label -> ``threshold``, ``wanted_sensitivity``, ``sensitivity``, ``specificity`` (each with its 95 % Wilson
        interval and counts). A class without cases is left out.
    """
    from train.intervals import wilson_interval

    points: dict[str, Any] = {}
    for c, label in enumerate(labels):
        positive = targets == c
        if not positive.any() or positive.all():
            continue
        scores = np.sort(probabilities[positive, c])
        # Keep the k highest positives, k the smallest count that reaches the wanted sensitivity.
        keep = int(np.ceil(wanted_sensitivity * len(scores) - 1e-9))
        threshold = float(scores[len(scores) - keep])
        called = probabilities[:, c] >= threshold
        tp, fn = int((called & positive).sum()), int((~called & positive).sum())
        tn, fp = int((~called & ~positive).sum()), int((called & ~positive).sum())
        points[label] = {
            "threshold": threshold,
            "wanted_sensitivity": wanted_sensitivity,
            "sensitivity": {
                "value": tp / (tp + fn),
                "interval": wilson_interval(tp, tp + fn),
                "cases": tp + fn,
            },
            "specificity": {
                "value": tn / (tn + fp),
                "interval": wilson_interval(tn, tn + fp),
                "cases": tn + fp,
            },
        }
    return points

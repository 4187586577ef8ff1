"""How far probabilities can be believed, before and after temperature, and thresholds carried over from validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.calibration import brier_score, expected_calibration_error, softmax
from train.evaluation.estimates import Estimate, share

__all__ = ["Bin", "Calibration", "CarriedThreshold", "carry_thresholds", "judge_calibration"]

_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Radiographs whose largest probability lies in [low, high)."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean of the largest probability."""
    accuracy: Estimate


@dataclass(frozen=True)
class Calibration:
    """Calibration of the called class at one temperature."""

    temperature: float
    ece: float
    """Expected calibration error, 15 equal bins, 0..1."""
    brier: float
    """Multi-class Brier score, 0..2."""
    nll: float
    """Mean negative log-likelihood, nats."""
    mean_confidence: float
    bins: list[Bin]
    """The reliability diagram: ten equal bins, empty ones left out."""


@dataclass(frozen=True)
class CarriedThreshold:
    """A threshold chosen on the validation split, applied to this one. One class against the rest."""

    label: str
    threshold: float
    wanted_sensitivity: float | None
    valid_sensitivity: float | None
    valid_specificity: float | None
    sensitivity: Estimate
    specificity: Estimate


def judge_calibration(logits: NDArray[np.float64], targets: NDArray[np.int64], temperature: float) -> Calibration:
    """Compute calibration figures of softmax(logits / temperature).

    Parameters
    ----------
    logits
        float64 [N, C].
    targets
        int [N].
    temperature
        Greater than 0.
    """
    probabilities = softmax(logits, temperature)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    index = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins = []
    for b in range(_BINS):
        inside = index == b
        if inside.any():
            accuracy = share(int(right[inside].sum()), int(inside.sum()), "")
            bins.append(Bin(b / _BINS, (b + 1) / _BINS, int(inside.sum()), float(confidence[inside].mean()), accuracy))
    true = probabilities[np.arange(len(targets)), targets]
    return Calibration(
        temperature=temperature,
        ece=expected_calibration_error(probabilities, targets),
        brier=brier_score(probabilities, targets),
        nll=float(-np.log(np.maximum(true, 1e-12)).mean()),
        mean_confidence=float(confidence.mean()),
        bins=bins,
    )


def carry_thresholds(
    points: Mapping[str, Any] | None,
    labels: Sequence[str],
    probabilities: NDArray[np.float64],
    targets: NDArray[np.int64],
) -> list[CarriedThreshold]:
    """Apply a run's operating points to calibrated probabilities, float [N, C].

    Parameters
    ----------
    points
        ``operating_points`` of ``run.json``: label -> threshold, sensitivity, specificity; None: there are none.
    labels, probabilities, targets
        Of the split.
    """
    carried = []
    for c, label in enumerate(labels):
        point = (points or {}).get(label)
        if point is None:
            continue
        positive = targets == c
        above = probabilities[:, c] >= point["threshold"]
        carried.append(
            CarriedThreshold(
                label=label,
                threshold=float(point["threshold"]),
                wanted_sensitivity=point.get("wanted_sensitivity"),
                valid_sensitivity=(point.get("sensitivity") or {}).get("value"),
                valid_specificity=(point.get("specificity") or {}).get("value"),
                sensitivity=share(int((above & positive).sum()), int(positive.sum()), f"no radiograph is {label}"),
                specificity=share(int((~above & ~positive).sum()), int((~positive).sum()), f"all are {label}"),
            )
        )
    return carried

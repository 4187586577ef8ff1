"""How far an artifact's probabilities and heat maps moved from the full model's, beyond its decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.calibration import brier_score, expected_calibration_error

__all__ = [
    "HeatmapAgreement",
    "ProbabilityDrift",
    "ThresholdShift",
    "cohen_kappa",
    "heatmap_iou",
    "measure_drift",
    "shift_thresholds",
    "summarize_iou",
]

_SMALLEST = 1e-12


@dataclass(frozen=True)
class ProbabilityDrift:
    """Probabilities of an artifact beside the full model's, over all radiographs.

    Attributes
    ----------
    kl_mean, kl_max
        Kullback-Leibler divergence of the artifact's from the full model's probabilities, in nats.
    ece_full, ece_artifact
        Expected calibration error of the called class, 15 equal bins, 0..1.
    brier_full, brier_artifact
        Multi-class Brier score, 0..2.
    kappa
        Cohen's kappa of the two models' decisions; None where both call one and the same class throughout.
    """

    kl_mean: float
    kl_max: float
    ece_full: float
    ece_artifact: float
    brier_full: float
    brier_artifact: float
    kappa: float | None


@dataclass(frozen=True)
class ThresholdShift:
    """One class at the bundle's operating threshold, one class against the rest.

    Attributes
    ----------
    crossed
        Radiographs that lie on the other side of the threshold.
    sensitivity_full, sensitivity_artifact, specificity_full, specificity_artifact
        At the threshold; None where there is no such radiograph.
    keeps_sensitivity
        The highest threshold at which the artifact is as sensitive as the full model at its own; None without a
        radiograph of the class.
    """

    label: str
    threshold: float
    crossed: int
    sensitivity_full: float | None
    sensitivity_artifact: float | None
    specificity_full: float | None
    specificity_artifact: float | None
    keeps_sensitivity: float | None


@dataclass(frozen=True)
class HeatmapAgreement:
    """Intersection over union of the hottest tenth of two heat maps, over radiographs: 1 is the same place."""

    mean: float
    median: float
    lowest: float
    below_half: int
    """Radiographs with less than 0.5."""
    compared: int
    flat: int
    """Radiographs whose heat map shows nothing in one of the two, and that are not compared."""


def measure_drift(
    full: NDArray[np.float64], artifact: NDArray[np.float64], truth: NDArray[np.int64]
) -> ProbabilityDrift:
    """Measure what happened to probabilities, float [N, C]; ``truth`` int [N]."""
    from scipy.special import rel_entr

    divergence = rel_entr(np.maximum(full, _SMALLEST), np.maximum(artifact, _SMALLEST)).sum(axis=1)
    divergence = np.maximum(divergence, 0.0)  # rounding can leave it a little below
    return ProbabilityDrift(
        kl_mean=float(divergence.mean()),
        kl_max=float(divergence.max()),
        ece_full=expected_calibration_error(full, truth),
        ece_artifact=expected_calibration_error(artifact, truth),
        brier_full=brier_score(full, truth),
        brier_artifact=brier_score(artifact, truth),
        kappa=cohen_kappa(full.argmax(1), artifact.argmax(1)),
    )


def cohen_kappa(first: NDArray[np.int64], second: NDArray[np.int64]) -> float | None:
    """Agreement beyond chance (Cohen 1960); None where chance alone would agree always."""
    if len(np.union1d(first, second)) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second))


def shift_thresholds(
    thresholds: Mapping[str, float] | None,
    labels: Sequence[str],
    full: NDArray[np.float64],
    artifact: NDArray[np.float64],
    truth: NDArray[np.int64],
) -> tuple[ThresholdShift, ...]:
    """Carry the bundle's operating thresholds over to an artifact; nothing where it has none."""
    shifts = []
    for c, label in enumerate(labels):
        if label not in (thresholds or {}):
            continue
        assert thresholds is not None
        threshold = thresholds[label]
        positive = truth == c
        above_full, above = full[:, c] >= threshold, artifact[:, c] >= threshold
        keeps = None
        if positive.any():
            wanted = int((above_full & positive).sum())
            scores = np.sort(artifact[positive, c])[::-1]
            keeps = float(scores[wanted - 1]) if wanted else 1.0
        shifts.append(
            ThresholdShift(
                label=label,
                threshold=threshold,
                crossed=int((above_full != above).sum()),
                sensitivity_full=_share(above_full, positive),
                sensitivity_artifact=_share(above, positive),
                specificity_full=_share(~above_full, ~positive),
                specificity_artifact=_share(~above, ~positive),
                keeps_sensitivity=keeps,
            )
        )
    return tuple(shifts)


def heatmap_iou(full: NDArray[np.float32], artifact: NDArray[np.float32]) -> float | None:
    """Intersection over union of the hottest tenth of the cells of two heat maps, float [h, w].

    At least one cell each; None where a map is flat and therefore shows no place.
    """
    if np.ptp(full) == 0 or np.ptp(artifact) == 0:
        return None
    count = max(1, round(full.size / 10))
    hottest = [set(np.argsort(-m.ravel(), kind="stable")[:count].tolist()) for m in (full, artifact)]
    return len(hottest[0] & hottest[1]) / len(hottest[0] | hottest[1])


def summarize_iou(values: Sequence[float | None]) -> HeatmapAgreement | None:
    """Summarize :func:`heatmap_iou` over radiographs; None where no pair could be compared."""
    found = np.asarray([value for value in values if value is not None])
    if not len(found):
        return None
    return HeatmapAgreement(
        mean=float(found.mean()),
        median=float(np.median(found)),
        lowest=float(found.min()),
        below_half=int((found < 0.5).sum()),
        compared=len(found),
        flat=len(values) - len(found),
    )


def _share(chosen: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return float(chosen[among].mean()) if among.any() else None

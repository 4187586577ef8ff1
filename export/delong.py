"""DeLong's comparison of two areas under the ROC curve that were measured on the same radiographs."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = ["AurocComparison", "compare_auroc"]

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class AurocComparison:
    """Two correlated areas: of the full model and of an artifact.

    Attributes
    ----------
    full, artifact
        Areas, 0..1.
    interval
        95 % interval of (artifact - full).
    p
        Two-sided; 1 where the two rank every pair alike.
    positives, negatives
        Radiographs of the class, and of the others.
    """

    full: float
    artifact: float
    interval: tuple[float, float]
    p: float
    positives: int
    negatives: int


def compare_auroc(
    full: NDArray[np.float64], artifact: NDArray[np.float64], positive: NDArray[np.bool_]
) -> AurocComparison | None:
    """Compare two areas (DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837-845).

    Computed by midranks (Sun & Xu 2014, IEEE Signal Processing Letters 21:1389-1393), so that N log N suffices.

    Parameters
    ----------
    full, artifact
        Scores, float [N].
    positive
        bool [N].

    Returns
    -------
    AurocComparison or None
        None where fewer than two radiographs are of the class, or of the others: there is no variance then.
    """
    from scipy.stats import norm, rankdata

    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return None
    scores = np.stack([full, artifact])
    among_all = rankdata(scores, axis=1)  # midranks
    among_positive = rankdata(scores[:, positive], axis=1)
    among_negative = rankdata(scores[:, ~positive], axis=1)
    # The structural components: how often a positive scores above the negatives, and the other way round.
    of_positive = (among_all[:, positive] - among_positive) / n
    of_negative = 1 - (among_all[:, ~positive] - among_negative) / m
    areas = of_positive.mean(axis=1)
    covariance = np.cov(of_positive) / m + np.cov(of_negative) / n
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    error = sqrt(variance)
    difference = float(areas[1] - areas[0])
    # without variance the two rank every pair alike
    p = float(2 * norm.sf(abs(difference) / error)) if error > 1e-12 else 1.0
    return AurocComparison(
        full=float(areas[0]),
        artifact=float(areas[1]),
        interval=(difference - _Z95 * error, difference + _Z95 * error),
        p=p,
        positives=m,
        negatives=n,
    )

"""Split-conformal prediction sets: thresholds from the validation split, one a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["COVERAGE", "conformal_thresholds", "fewest_radiographs"]

COVERAGE = 0.9
"""Of radiographs of each class, so many are to have a set that holds their class."""


def fewest_radiographs(coverage: float) -> int:
    """Radiographs of a class below which no threshold above 0 can promise the coverage."""
    return int(np.ceil(coverage / (1 - coverage) - 1e-9))


def conformal_thresholds(
    probabilities: NDArray[np.float64], targets: NDArray[np.intp], labels: Sequence[str], coverage: float = COVERAGE
) -> dict[str, float]:
    """For each class the threshold that its probability reaches in at least ``coverage`` of its own radiographs.

    The score is 1 - p(class) (Sadinle, Lei and Wasserman, 2019); of n calibration radiographs of a class the
    threshold is the k-th largest p(class), k = ceil((n + 1) coverage): one new radiograph of the class, exchangeable
    with them, reaches it with a probability of at least ``coverage``. Thresholds of each class on its own keep a
    rare class from paying for the others.

    Parameters
    ----------
    probabilities
        float [N, C], calibrated, of radiographs that the model was not trained on.
    targets
        int [N].

    Returns
    -------
    dict
        By label; 0 (always in the set) for a class with fewer than :func:`fewest_radiographs`.
    """
    thresholds = {}
    for index, label in enumerate(labels):
        own = np.sort(probabilities[targets == index, index])[::-1]
        rank = int(np.ceil((len(own) + 1) * coverage - 1e-9))
        thresholds[label] = float(own[rank - 1]) if 0 < rank <= len(own) else 0.0
    return thresholds

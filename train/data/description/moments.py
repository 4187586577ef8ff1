"""Moments of coordinates by class: where a class lies, how widely, how lopsided, how heavy its tails.

The seed listed the moments of its t-SNE coordinates. Read here as: for every axis of every layout, and every class,
mean, variance, skewness and excess kurtosis, all with the usual small-sample corrections; and, since t-SNE's axes mean
nothing by themselves, the same for what does: each embedding's distance to the centre of its class, and each of the
embedding's own dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.data.description.attributes import ALL
from train.data.description.record import Moments

__all__ = ["distances_to_centre", "moments_by_class", "moments_of"]


def moments_of(values: NDArray[np.float64]) -> tuple[float | None, float | None, float | None, float | None]:
    """Mean, unbiased variance, skewness (G1) and excess kurtosis (G2) of float64 [N].

    G1 and G2 as in Joanes and Gill 1998, The Statistician 47:183: scipy's ``skew`` and ``kurtosis`` with
    ``bias=False``, at a small part of their time a call.

    None where they are not defined: fewer than 1, 2, 3, 4 values; the last two also without any spread.
    """
    count = len(values)
    mean = float(values.mean()) if count else None
    variance = float(values.var(ddof=1)) if count > 1 else None
    # Rounding leaves a constant column a variance of about 1e-32 times its square, not 0.
    spread = variance is not None and variance > 1e-20 * max(1.0, float(np.square(values).max()))
    if not spread or count < 3:
        return mean, variance, None, None
    centred = values - values.mean()
    second, third, fourth = (float((centred**power).mean()) for power in (2, 3, 4))
    skewness = third / second**1.5 * np.sqrt(count * (count - 1)) / (count - 2)
    if count < 4:
        return mean, variance, float(skewness), None
    excess = fourth / second**2 - 3
    kurtosis = (count - 1) / ((count - 2) * (count - 3)) * ((count + 1) * excess + 6)
    return mean, variance, float(skewness), kurtosis


def moments_by_class(
    space: str,
    axes: Sequence[str],
    coordinates: NDArray[np.float64],
    classes: Sequence[str],
    splits: Sequence[str],
    labels: Sequence[str],
    by_split: bool = True,
) -> list[Moments]:
    """Moments of each axis over each class, each split, and all.

    Parameters
    ----------
    space
        Name of the coordinates.
    axes
        Names of the columns.
    coordinates
        float64 [N, len(axes)].
    classes, splits
        One entry a row of ``coordinates``.
    labels
        The classes in their order.
    by_split
        Also for each split by itself.
    """
    of_class, of_split = np.asarray(classes), np.asarray(splits)
    groups = [ALL, *dict.fromkeys(splits)] if by_split else [ALL]
    rows = []
    for column, axis in enumerate(axes):
        for split in groups:
            for label in (ALL, *labels):
                chosen = ((of_split == split) | (split == ALL)) & ((of_class == label) | (label == ALL))
                if not chosen.any():
                    continue
                mean, variance, skewness, kurtosis = moments_of(coordinates[chosen, column])
                rows.append(
                    Moments(
                        space=space,
                        axis=axis,
                        split=split,
                        label=label,
                        count=int(chosen.sum()),
                        mean=_rounded(mean),
                        variance=_rounded(variance),
                        skewness=_rounded(skewness),
                        excess_kurtosis=_rounded(kurtosis),
                    )
                )
    return rows


def distances_to_centre(vectors: NDArray[np.float32], classes: Sequence[str]) -> NDArray[np.float64]:
    """Euclidean distance of each embedding [N, D] to the mean of its class: float64 [N]."""
    of_class = np.asarray(classes)
    points = vectors.astype(np.float64)
    distances = np.zeros(len(points))
    for label in set(classes):
        chosen = of_class == label
        distances[chosen] = np.linalg.norm(points[chosen] - points[chosen].mean(0), axis=1)
    return distances


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")

"""Paired comparison of two classifiers on the same radiographs."""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, inf, sqrt
from typing import Literal

__all__ = ["NonInferiority", "judge_non_inferiority", "tango_interval"]

NonInferiority = Literal["not inferior", "inferior", "not shown"]
_Z95 = 1.959963984540054


def tango_interval(gained: int, lost: int, pairs: int, z: float = _Z95) -> tuple[float, float]:
    """Score interval of a difference of paired proportions (Tango 1998, Statistics in Medicine 17:891-908).

    Unlike a bootstrap it keeps a width where no pair differs: no flips in few pairs prove little.

    Parameters
    ----------
    gained, lost
        Pairs in which only the second is right, and in which only the first is.
    pairs
        All pairs.
    z
        Normal quantile; the default gives 95 %.

    Returns
    -------
    tuple of float
        Lower and upper limit of (share right by the second) - (share right by the first), each in -1..1.
        (-1, 1) for no pairs.
    """
    if gained < 0 or lost < 0 or gained + lost > pairs:
        raise ValueError(f"impossible counts: gained {gained}, lost {lost} of {pairs} pairs")
    if pairs == 0:
        return -1.0, 1.0

    def score(difference: float) -> float:
        linear = -gained - lost + (2 * pairs - gained + lost) * difference
        constant = -lost * difference * (1 - difference)
        root = sqrt(max(0.0, linear * linear - 8 * pairs * constant))
        # the smaller discordant share, by maximum likelihood at this difference
        share = (root - linear) / (4 * pairs)
        variance = pairs * (2 * share + difference * (1 - difference))
        distance = gained - lost - pairs * difference
        if variance <= 0:
            return copysign(inf, distance) if distance else 0.0
        return distance / sqrt(variance)

    estimate = (gained - lost) / pairs
    return _solve(score, z, -1.0, estimate), _solve(score, -z, estimate, 1.0)


def judge_non_inferiority(interval: tuple[float, float], margin: float) -> NonInferiority:
    """Judge an interval of (artifact - full model) against a margin, such as 0.01 for one point.

    ``not inferior`` when the whole interval is above ``-margin``, ``inferior`` when it is all below, and
    ``not shown`` when the sample is too small to tell.
    """
    lower, upper = interval
    if lower > -margin:
        return "not inferior"
    return "inferior" if upper < -margin else "not shown"


def _solve(score: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Bisect: the score falls from one end to the other."""
    for _ in range(60):
        middle = (low + high) / 2
        if score(middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2

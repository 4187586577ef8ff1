"""Paired comparison of two classifiers on the same radiographs: tests, intervals, and how many cases would tell."""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, inf, sqrt
from typing import Literal

from train.intervals import wilson_interval

__all__ = [
    "NonInferiority",
    "cases_needed",
    "exact_mcnemar",
    "judge_non_inferiority",
    "newcombe_interval",
    "tango_interval",
]

NonInferiority = Literal["not inferior", "inferior", "not shown"]
_Z95 = 1.959963984540054
_MOST_CASES = 10_000_000


def tango_interval(gained: float, lost: float, pairs: float, z: float = _Z95) -> tuple[float, float]:
    """Score interval of a difference of paired proportions (Tango 1998, Statistics in Medicine 17:891-908).

    Unlike a bootstrap it keeps a width where no pair differs: no flips in few pairs prove little.

    Parameters
    ----------
    gained, lost
        Pairs in which only the second is right, and in which only the first is. Fractions are allowed: expected
        counts, when a study is planned.
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


def newcombe_interval(both: int, gained: int, lost: int, neither: int) -> tuple[float, float]:
    """95 % interval of a difference of paired proportions from two Wilson intervals (Newcombe 1998, method 10).

    Statistics in Medicine 17:2635-2650. Beside Tango's, for readers who know this one; it decides nothing.

    Parameters
    ----------
    both, gained, lost, neither
        Pairs in which both are right, only the second, only the first, none.

    Returns
    -------
    tuple of float
        Lower and upper limit of (share right by the second) - (share right by the first); (-1, 1) for no pairs.
    """
    if min(both, gained, lost, neither) < 0:
        raise ValueError(f"impossible counts: {both}, {gained}, {lost}, {neither}")
    pairs = both + gained + lost + neither
    if pairs == 0:
        return -1.0, 1.0
    first, second = both + lost, both + gained
    p1, p2 = first / pairs, second / pairs
    l1, u1 = wilson_interval(first, pairs)
    l2, u2 = wilson_interval(second, pairs)
    # The correlation of the two, drawn towards 0 where it is positive (his continuity correction).
    product = first * (pairs - first) * second * (pairs - second)
    surplus = both * neither - gained * lost
    numerator = max(surplus - pairs / 2, 0.0) if surplus > 0 else float(surplus)
    phi = numerator / sqrt(product) if product else 0.0

    def half(a: float, b: float) -> float:
        return sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    difference = p2 - p1
    return difference - half(p2 - l2, u1 - p1), difference + half(u2 - p2, p1 - l1)


def exact_mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact McNemar test: the binomial test that discordant pairs fall either way alike; 1 without any."""
    from scipy.stats import binomtest

    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def cases_needed(gained: int, lost: int, pairs: int, margin: float) -> int | None:
    """Number of cases with which Tango's interval would be above ``-margin``, were the shares as found here.

    With no discordant pair that is z² (1 - margin) / margin: 189 for two points, 381 for one. Shares that are
    only estimated here make it a lower bound for planning, not a promise.

    Returns
    -------
    int or None
        None where the difference as found is not above ``-margin``: more cases of the same would not help; or
        there are no pairs to judge by.
    """
    if pairs == 0 or (gained - lost) / pairs <= -margin:
        return None

    def shown(cases: int) -> bool:
        lower, _ = tango_interval(gained * cases / pairs, lost * cases / pairs, cases)
        return lower > -margin

    high = 1
    while not shown(high):
        high *= 2
        if high > _MOST_CASES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


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

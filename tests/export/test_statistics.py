"""Tango's interval: against its definition, its closed form, and simulation."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from export.statistics import judge_non_inferiority, tango_interval

Z = 1.959963984540054


@pytest.mark.parametrize("pairs", [10, 62, 300, 1579])
def test_no_flips_has_the_closed_form_width(pairs: int) -> None:
    lower, upper = tango_interval(0, 0, pairs)
    assert upper == pytest.approx(Z**2 / (pairs + Z**2), abs=1e-9)
    assert lower == pytest.approx(-upper, abs=1e-9)


def test_62_cases_cannot_show_two_points_even_without_a_flip() -> None:
    assert judge_non_inferiority(tango_interval(0, 0, 62), 0.02) == "not shown"
    assert judge_non_inferiority(tango_interval(0, 0, 200), 0.02) == "not inferior"
    assert judge_non_inferiority(tango_interval(0, 30, 300), 0.01) == "inferior"


@pytest.mark.parametrize(("gained", "lost", "pairs"), [(3, 9, 100), (0, 5, 40), (12, 1, 60), (1, 0, 8), (7, 7, 14)])
def test_limits_solve_the_score_equation(gained: int, lost: int, pairs: int) -> None:
    """The score statistic with the restricted likelihood maximised by brute force is z at both limits."""

    def score(difference: float) -> float:
        shares = np.linspace(max(0.0, -difference), (1 - difference) / 2, 400_001)[1:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = (
                (gained * np.log(shares + difference) if gained else 0.0)
                + (lost * np.log(shares) if lost else 0.0)
                + ((pairs - gained - lost) * np.log(1 - 2 * shares - difference) if gained + lost < pairs else 0.0)
            )
        share = shares[int(np.nanargmax(likelihood))]
        variance = pairs * (2 * share + difference * (1 - difference))
        return (gained - lost - pairs * difference) / sqrt(variance)

    lower, upper = tango_interval(gained, lost, pairs)
    assert lower < (gained - lost) / pairs < upper or gained + lost == 0
    assert score(lower) == pytest.approx(Z, abs=2e-3)
    assert score(upper) == pytest.approx(-Z, abs=2e-3)


def test_symmetric_and_covers() -> None:
    lower, upper = tango_interval(2, 11, 90)
    assert tango_interval(11, 2, 90) == pytest.approx((-upper, -lower), abs=1e-9)
    draw = np.random.default_rng(1).multinomial(120, [0.06, 0.10, 0.84], size=2000)
    inside = 0
    for gained, lost, _ in draw:
        low, high = tango_interval(int(gained), int(lost), 120)
        inside += low <= -0.04 <= high
    assert 0.93 <= inside / len(draw) <= 0.97


def test_impossible_counts() -> None:
    with pytest.raises(ValueError, match="impossible"):
        tango_interval(5, 6, 10)
    assert tango_interval(0, 0, 0) == (-1.0, 1.0)

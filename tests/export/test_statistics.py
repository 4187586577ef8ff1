"""Every statistic of the gate: against published worked examples, its definition, a closed form, or simulation."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from export.delong import compare_auroc
from export.drift import cohen_kappa, heatmap_iou, measure_drift, shift_thresholds, summarize_iou
from export.statistics import (
    cases_needed,
    exact_mcnemar,
    judge_non_inferiority,
    newcombe_interval,
    tango_interval,
)

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


# Fagerland, Lydersen & Laake, Statistical Analysis of Contingency Tables (2017), chapter 8: complete response before
# and after consolidation therapy (Cavo 2012: 59, 6, 16, 80), airway hyper-responsiveness before and after stem cell
# transplantation (Bentur 2009: 1, 1, 7, 12). The figures are also those of the authors' R package contingencytables.


def test_tango_of_published_examples() -> None:
    assert tango_interval(6, 16, 161) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_newcombe_of_published_examples() -> None:
    assert newcombe_interval(59, 6, 16, 80) == pytest.approx((-0.1186, -0.0046), abs=5e-5)
    assert newcombe_interval(1, 1, 7, 12) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert newcombe_interval(0, 0, 0, 0) == (-1.0, 1.0)
    lower, upper = newcombe_interval(62, 0, 0, 0)
    assert lower < -0.02 and upper > 0, "no flips in 62 prove no two points by Newcombe either"


def test_exact_mcnemar_of_a_published_example() -> None:
    assert exact_mcnemar(6, 16) == pytest.approx(0.052479, abs=5e-7)
    assert exact_mcnemar(0, 0) == 1.0 == exact_mcnemar(3, 3)


@pytest.mark.parametrize(("margin", "wanted"), [(0.02, 189), (0.01, 381)])
def test_cases_that_would_be_needed_without_a_flip(margin: float, wanted: int) -> None:
    """z squared times (1 - margin) / margin, rounded up."""
    assert cases_needed(0, 0, 62, margin) == wanted == int(Z**2 * (1 - margin) / margin) + 1
    assert judge_non_inferiority(tango_interval(0, 0, wanted), margin) == "not inferior"
    assert judge_non_inferiority(tango_interval(0, 0, wanted - 1), margin) == "not shown"


def test_cases_that_would_be_needed_with_flips() -> None:
    needed = cases_needed(3, 3, 300, 0.01)
    assert needed is not None and needed > 381
    assert tango_interval(needed / 100, needed / 100, needed)[0] > -0.01
    assert cases_needed(0, 5, 62, 0.02) is None, "more of the same would show the opposite"
    assert cases_needed(0, 0, 0, 0.02) is None


def test_delong_of_a_published_example() -> None:
    """Hanley & McNeil 1982, 109 CT images rated 1..5; area 0.8932, DeLong's standard error 0.0307 (Stata's roctab)."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    ratings = np.repeat(np.tile(np.arange(1.0, 6), 2), (*normal, *abnormal))
    positive = np.r_[np.zeros(58, bool), np.ones(51, bool)]
    found = compare_auroc(np.zeros(109), ratings, positive)
    assert found is not None
    assert found.artifact == pytest.approx(0.8932, abs=5e-5) and found.full == 0.5
    assert found.interval == pytest.approx((0.83295 - 0.5, 0.95339 - 0.5), abs=5e-6)
    assert found.p < 1e-6


def test_delong_covariance_is_that_of_the_definition() -> None:
    """The structural components counted pair by pair, as the paper defines them, with ties."""
    draw = np.random.default_rng(3)
    positive = draw.random(60) < 0.4
    scores = np.round(draw.random((2, 60)) + 0.5 * positive, 1)
    scores[1] = np.round(0.7 * scores[0] + 0.3 * scores[1], 1)
    parts = []
    for score in scores:
        x, y = score[positive], score[~positive]
        won = (x[:, None] > y) + 0.5 * (x[:, None] == y)
        parts.append((won.mean(1), won.mean(0), won.mean()))
    cov = np.cov([p[0] for p in parts]) / positive.sum() + np.cov([p[1] for p in parts]) / (~positive).sum()
    error = sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    found = compare_auroc(scores[0], scores[1], positive)
    assert found is not None
    difference = parts[1][2] - parts[0][2]
    assert found.interval == pytest.approx((difference - Z * error, difference + Z * error), abs=1e-12)
    same = compare_auroc(scores[0], scores[0], positive)
    assert same is not None and same.interval == (0.0, 0.0) and same.p == 1.0
    assert compare_auroc(scores[0], scores[1], np.zeros(60, bool)) is None


def test_kappa_of_a_published_example() -> None:
    """Fleiss, Statistical Methods for Rates and Proportions: 100 subjects, kappa 0.68."""
    table = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(table[i][j])]
    first, second = np.array(pairs).T
    assert cohen_kappa(first, second) == pytest.approx(0.23 / 0.34)
    assert cohen_kappa(np.zeros(5, int), np.zeros(5, int)) is None


def test_drift_of_probabilities_by_hand() -> None:
    full = np.array([[0.5, 0.5], [0.9, 0.1]])
    moved = np.array([[0.25, 0.75], [0.9, 0.1]])
    truth = np.array([1, 0])
    drift = measure_drift(full, moved, truth)
    kl = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert drift.kl_max == pytest.approx(kl) and drift.kl_mean == pytest.approx(kl / 2)
    assert drift.brier_full == pytest.approx((0.5 + 0.02) / 2)
    assert drift.brier_artifact == pytest.approx((2 * 0.25**2 + 0.02) / 2)
    assert drift.ece_artifact == pytest.approx((0.25 + 0.1) / 2)


def test_threshold_shift_by_hand() -> None:
    full = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])
    moved = np.array([[0.8, 0.2], [0.45, 0.55], [0.6, 0.4], [0.2, 0.8]])
    (shift,) = shift_thresholds({"a": 0.5, "other": 0.1}, ["a", "b"], full, moved, np.array([0, 0, 1, 1]))
    assert shift.label == "a" and shift.crossed == 2
    assert (shift.sensitivity_full, shift.sensitivity_artifact) == (1.0, 0.5)
    assert (shift.specificity_full, shift.specificity_artifact) == (1.0, 0.5)
    assert shift.keeps_sensitivity == 0.45
    assert shift_thresholds(None, ["a", "b"], full, moved, np.array([0, 0, 1, 1])) == ()


def test_heatmap_agreement() -> None:
    one = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert heatmap_iou(one, one * 0.1) == 1.0
    assert heatmap_iou(one, -one) == 0.0
    shifted = one.copy()
    shifted.ravel()[[90, 0]] = shifted.ravel()[[0, 90]]  # one of the ten hottest cells goes elsewhere
    assert heatmap_iou(one, shifted) == pytest.approx(9 / 11)
    assert heatmap_iou(one, np.zeros_like(one)) is None
    found = summarize_iou([1.0, 0.4, None])
    assert found is not None and (found.mean, found.below_half, found.compared, found.flat) == (0.7, 1, 2, 1)
    assert summarize_iou([None]) is None

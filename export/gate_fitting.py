"""Fitting the gate: a Gaussian and a regression on training radiographs, limits on radiographs not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import ExportError
from export.gate import Gate, GateParameters

__all__ = ["FEWEST_TRAINING", "FEWEST_VALIDATION", "REFUSED_SHARE", "Seen", "fit_gate"]

FEWEST_TRAINING, FEWEST_VALIDATION = 100, 20
"""With fewer radiographs a Gaussian and its limits mean nothing: no gate."""
REFUSED_SHARE = 0.01
"""Share of frontal radiographs that the regression is set to refuse at most."""
_DIRECTIONS = 48
_FOLDS = 5
_STRENGTH = 0.02  # of the regression: scikit-learn's C, the inverse of its ridge
_LEAST_ODDS = 1.0
"""The regression's limit is not below these log odds, however well it tells the training radiographs apart: those of a
hospital that it has not seen lie nearer the border."""
_DISTANCE_MARGIN = 1.25
"""Of the distance's limit over the farthest radiograph, for the same reason."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What the gate sees of N pictures, float64 [N, F], and whose they are: pictures of one group stay together."""

    features: Floats
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.features)


def fit_gate(
    train: Seen, valid: Seen, others: Mapping[str, Seen], refused_share: float = REFUSED_SHARE
) -> GateParameters:
    """Fit on training radiographs and pictures of other kinds; set the limits so that few radiographs are refused.

    The regression's limit is the largest of three: what ``refused_share`` of the validation radiographs exceed
    (conformal quantile; where they are too few to tell, their largest), the same of the training radiographs under a
    regression fitted without them (5-fold, patients kept whole), and log odds of 1. The distance's limit lies a
    quarter above the farthest of both.

    Parameters
    ----------
    train, valid
        Frontal radiographs, of different patients; ``train.groups`` names the patients.
    others
        By reason code; fitted on, so of no validation or test patient. Pictures made from training radiographs carry
        the patient in ``groups`` and are left out with him.

    Raises
    ------
    ExportError
        Too few radiographs.
    """
    if len(train) < FEWEST_TRAINING or len(valid) < FEWEST_VALIDATION:
        raise ExportError(
            "there are too few radiographs for a gate",
            got=f"{len(train)} for training, {len(valid)} for validation",
            expected=f"at least {FEWEST_TRAINING} and {FEWEST_VALIDATION}",
        )
    fitted = _fit(train, others)
    folds = _folds(train.groups or tuple(map(str, range(len(train)))))
    unseen = np.concatenate([_unseen_scores(train, others, fold) for fold in folds])
    validation = _scores(fitted, valid)
    farthest = max(unseen[:, 0].max(), validation[:, 0].max())
    odds = max(*(_limit(scores[:, 1], refused_share) for scores in (unseen, validation)), _LEAST_ODDS)
    return replace(fitted, limits=(_DISTANCE_MARGIN * float(farthest), odds))


def _unseen_scores(train: Seen, others: Mapping[str, Seen], left_out: frozenset[str]) -> Floats:
    """Scores of the training radiographs of some patients, under a gate that was fitted without these."""
    own = train if train.groups else Seen(train.features, tuple(map(str, range(len(train)))))
    rest = {reason: _without(seen, left_out) for reason, seen in others.items()}
    parameters = _fit(_without(own, left_out), {reason: seen for reason, seen in rest.items() if len(seen)})
    inside = np.array([group in left_out for group in own.groups])
    return _scores(parameters, Seen(own.features[inside]))


def _without(seen: Seen, left_out: frozenset[str]) -> Seen:
    if not seen.groups:
        return seen
    kept = np.array([group not in left_out for group in seen.groups], bool)
    return Seen(seen.features[kept], tuple(group for group in seen.groups if group not in left_out))


def _folds(groups: Sequence[str]) -> list[frozenset[str]]:
    """Patients in turn, in an order of chance that is always the same."""
    patients = sorted(set(groups))
    np.random.default_rng(0).shuffle(patients)
    return [frozenset(patients[number::_FOLDS]) for number in range(min(_FOLDS, len(patients)))]


def _limit(scores: Floats, share: float) -> float:
    """The score that at most ``share`` of such radiographs exceed (conformal quantile); the largest if too few."""
    rank = int(np.ceil((len(scores) + 1) * (1 - share)))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def _scores(parameters: GateParameters, seen: Seen) -> Floats:
    with torch.inference_mode():
        tests, _ = Gate(parameters).measure(torch.from_numpy(seen.features).float())
    return tests.double().numpy()


def _fit(train: Seen, others: Mapping[str, Seen]) -> GateParameters:
    # Radiographs alone set centre and scale: another picture's distance is then told in their spread.
    centre, scale = train.features.mean(0), train.features.std(0) + 1e-6
    standard = (train.features - centre) / scale
    _, singular, rows = np.linalg.svd(standard, full_matrices=False)
    variances = singular**2 / len(standard)
    kept = max(1, min(_DIRECTIONS, len(standard) // 4, int((variances > 1e-9 * variances[0]).sum()) - 1))
    rest = float(variances[kept:].sum() / max(1, standard.shape[1] - kept))
    # the same cut as the gate's own
    shown = [np.clip((seen.features - centre) / scale, -8, 8) for seen in (train, *others.values())]
    kinds = np.repeat(np.arange(len(shown)), [len(features) for features in shown])
    weights, bias = _fit_regression(np.concatenate(shown), kinds)
    return GateParameters(
        centre=centre,
        scale=scale,
        directions=rows[:kept],
        deviations=np.sqrt(variances[:kept]),
        rest=max(rest, 1e-12),
        weights=weights,
        bias=bias,
        limits=(1.0, 1.0),
        reasons=tuple(others),
    )


def _fit_regression(x: Floats, kinds: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Multinomial logistic regression, each kind weighing as much as every other."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops a little short of the optimum, which no test would notice
        model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=300).fit(x, kinds)
    if len(model.classes_) == 2:  # one kind besides: scikit-learn keeps its row only
        return np.stack([np.zeros(x.shape[1]), model.coef_[0]]), np.array([0.0, model.intercept_[0]])
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)

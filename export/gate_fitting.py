"""Fitting the gate: Gaussians and a regression on training radiographs, limits on radiographs not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import ExportError
from export.gate import Gate, GateParameters, Subspace, kind_features

__all__ = ["FEWEST_TRAINING", "FEWEST_VALIDATION", "REFUSED_SHARE", "Seen", "fit_gate"]

FEWEST_TRAINING, FEWEST_VALIDATION = 100, 20
"""With fewer radiographs a Gaussian and its limits mean nothing: no gate."""
REFUSED_SHARE = 0.01
"""Share of frontal radiographs that the three tests together are set to refuse, a third each."""
_PICTURE_DIRECTIONS, _EMBEDDING_DIRECTIONS = 48, 24
_FOLDS = 5
_STRENGTH = 0.05  # of the regression: scikit-learn's C, the inverse of its ridge

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What the gate sees of N pictures: small versions, float64 [N, P], and embeddings, float64 [N, D]."""

    pictures: Floats
    embeddings: Floats

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Seen:
        return Seen(self.pictures[index], self.embeddings[index])


def fit_gate(
    train: Seen, valid: Seen, others: Mapping[str, Seen], refused_share: float = REFUSED_SHARE
) -> GateParameters:
    """Fit on training radiographs and pictures of other kinds; set the limits so that few radiographs are refused.

    Each test's limit is the larger of two: what a third of ``refused_share`` of the validation radiographs
    exceed, and the same of the training radiographs under a gate that was fitted without them (5-fold). Where
    the validation radiographs are too few to tell, their largest score counts.

    Parameters
    ----------
    train, valid
        Frontal radiographs, of different patients.
    others
        By reason code; fitted on, so of no validation or test patient.

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
    share = refused_share / 3
    unseen = np.concatenate([_scores(_fit(train[~fold], others), train[fold]) for fold in _folds(len(train))])
    validation = _scores(fitted, valid)
    limits = [max(_limit(unseen[:, test], share), _limit(validation[:, test], share)) for test in range(3)]
    return replace(fitted, limits=(limits[0], limits[1], limits[2]))


def _folds(count: int) -> list[NDArray[np.bool_]]:
    """Neighbours in a data set are often of one patient: blocks keep most patients whole."""
    fold = np.arange(count) * _FOLDS // count
    return [fold == number for number in range(_FOLDS)]


def _limit(scores: Floats, share: float) -> float:
    """The score that at most ``share`` of such radiographs exceed (conformal quantile); the largest if too few."""
    rank = int(np.ceil((len(scores) + 1) * (1 - share)))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def _scores(parameters: GateParameters, seen: Seen) -> Floats:
    with torch.inference_mode():
        tests, _ = Gate(parameters).measure(*map(_tensor, (seen.pictures, seen.embeddings)))
    return tests.double().numpy()


def _fit(train: Seen, others: Mapping[str, Seen]) -> GateParameters:
    picture = _fit_subspace(train.pictures, _PICTURE_DIRECTIONS)
    embedding = _fit_subspace(train.embeddings, _EMBEDDING_DIRECTIONS)
    reasons = tuple(others)
    width = len(picture.deviations) * 2 + len(embedding.deviations) + 2
    draft = GateParameters(
        picture=picture,
        embedding=embedding,
        centre=np.zeros(width),
        scale=np.ones(width),
        weights=np.zeros((1 + len(reasons), width)),
        bias=np.zeros(1 + len(reasons)),
        limits=(1.0, 1.0, 1.0),
        reasons=reasons,
    )
    features = [_features(draft, seen) for seen in (train, *others.values())]
    kinds = np.repeat(np.arange(len(features)), [len(f) for f in features])
    stacked = np.concatenate(features)
    # Radiographs alone set centre and scale: another picture's size is then told in their spread.
    centre, scale = features[0].mean(0), features[0].std(0) + 1e-6
    weights, bias = _fit_regression(np.clip((stacked - centre) / scale, -8, 8), kinds)
    return replace(draft, centre=centre, scale=scale, weights=weights, bias=bias)


def _fit_subspace(x: Floats, directions: int) -> Subspace:
    """Principal directions of x [N, D], at most ``directions`` and a quarter of N."""
    mean = x.mean(0)
    _, singular, rows = np.linalg.svd(x - mean, full_matrices=False)
    variances = singular**2 / len(x)
    kept = max(1, min(directions, len(x) // 4, int((variances > 1e-9 * variances[0]).sum()) - 1))
    deviations = np.sqrt(variances[:kept])
    rest = float(variances[kept:].sum() / max(1, x.shape[1] - kept))
    return Subspace(mean, rows[:kept] / deviations[:, None], deviations, max(rest, 1e-12))


def _features(parameters: GateParameters, seen: Seen) -> Floats:
    gate = Gate(parameters)
    with torch.inference_mode():
        _, z, off_z = gate.picture(_tensor(seen.pictures))
        _, e, off_e = gate.embedding(_tensor(seen.embeddings))
        return kind_features(z, off_z, e, off_e).double().numpy()


def _fit_regression(x: Floats, kinds: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Multinomial logistic regression, each kind weighing as much as every other."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops a little short of the optimum, which no test would notice
        model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=300).fit(x, kinds)
    if len(model.classes_) == 2:  # one kind besides: scikit-learn keeps its row only
        return np.stack([np.zeros(x.shape[1]), model.coef_[0]]), np.array([0.0, model.intercept_[0]])
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)


def _tensor(x: Floats) -> torch.Tensor:
    return torch.from_numpy(x).float()

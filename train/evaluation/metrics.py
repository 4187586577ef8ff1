"""Confusion matrix and the figures of each class against the rest, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluation.estimates import Estimate, PatientResampling, no_estimate, resampled, share

__all__ = ["ClassResult", "Confused", "Result", "auroc", "confusion_matrix", "measure", "most_confused"]


@dataclass(frozen=True)
class ClassResult:
    """One class against the rest; a radiograph is called the class with the largest probability."""

    label: str
    cases: int
    tp: int
    fp: int
    fn: int
    tn: int
    sensitivity: Estimate
    specificity: Estimate
    """TN / (TN + FP) with TN = N - TP - FP - FN."""
    specificity_seed_formula: float | None
    """What the seed project computed: the same with TN = N - TP. Too high; to compare with its figures only."""
    ppv: Estimate
    """Precision, positive predictive value, at this split's share of cases."""
    f1: Estimate
    auroc: Estimate


@dataclass(frozen=True)
class Result:
    """The figures of one set of radiographs."""

    images: int
    patients: int
    accuracy: Estimate
    accuracy_by_patient: Estimate
    """The same accuracy, its interval by resampling patients: wider where patients have several radiographs."""
    balanced_accuracy: Estimate
    macro_auroc: Estimate
    confusion: list[list[int]]
    """Rows: true class; columns: called class."""
    classes: list[ClassResult]


@dataclass(frozen=True)
class Confused:
    """A kind of error."""

    label: str
    called: str
    count: int
    share: float
    """Of the true class's radiographs."""


def confusion_matrix(targets: NDArray[np.int64], called: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count radiographs by true class (rows) and called class (columns): int64 [C, C]."""
    return np.bincount(targets * classes + called, minlength=classes * classes).reshape(classes, classes)


def most_confused(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Confused]:
    """Return the kinds of error that occur, the most frequent first."""
    pairs = [
        Confused(labels[t], labels[c], int(count), count / sum(row))
        for t, row in enumerate(confusion)
        for c, count in enumerate(row)
        if t != c and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))


def auroc(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the ROC curve (Mann-Whitney, ties count half) under several weightings at once.

    Parameters
    ----------
    scores
        float [N].
    positive
        bool [N].
    weights
        float [R, N], not negative.

    Returns
    -------
    NDArray
        float64 [R]; NaN where a weighting leaves no positive or no negative radiograph.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    of_class = weights[:, order] * positive[order]
    of_rest = weights[:, order] - of_class
    at_positive = np.add.reduceat(of_class, starts, axis=1)
    at_negative = np.add.reduceat(of_rest, starts, axis=1)
    below = np.cumsum(at_negative, axis=1) - at_negative
    won = (at_positive * (below + 0.5 * at_negative)).sum(axis=1)
    pairs = at_positive.sum(axis=1) * at_negative.sum(axis=1)
    areas: NDArray[np.float64] = np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return areas


def measure(
    labels: Sequence[str],
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    patients: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
) -> Result:
    """Compute every figure of a set of radiographs.

    Parameters
    ----------
    labels
        The C class names in order.
    targets
        int [N], N > 0.
    probabilities
        float [N, C].
    patients
        Patient of each radiograph.
    resamples, seed
        Of the bootstrap over patients (AUROC, F1, balanced accuracy).
    """
    count, classes = probabilities.shape
    called = probabilities.argmax(axis=1).astype(np.int64)
    confusion = confusion_matrix(targets, called, classes)
    cell = np.eye(classes * classes)[targets * classes + called]
    resampling = PatientResampling(patients, targets, resamples, seed)
    present = [c for c in range(classes) if confusion[c].sum()]
    with_auroc = [c for c in present if confusion[c].sum() < count]

    def figures(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns: accuracy, balanced accuracy, macro AUROC, then F1 and AUROC of each class."""
        matrices = (weights @ cell).reshape(-1, classes, classes)
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        of_class, as_class = matrices.sum(axis=2), matrices.sum(axis=1)
        f1 = _ratio(2 * hits, of_class + as_class)
        areas = np.full((len(weights), classes), np.nan)
        for c in with_auroc:
            areas[:, c] = auroc(probabilities[:, c], targets == c, weights)
        accuracy = hits.sum(axis=1) / matrices.sum(axis=(1, 2))
        recall = _ratio(hits, of_class)[:, present].mean(axis=1)
        macro = areas[:, with_auroc].mean(axis=1) if with_auroc else np.full(len(weights), np.nan)
        return np.column_stack([accuracy, recall, macro, f1, areas])

    point = figures(np.ones((1, count)))[0]
    draws = np.concatenate([figures(block) for block in resampling.blocks()]) if resamples else point[None][:0]
    estimates = [resampled(point[i], draws[:, i]) for i in range(len(point))]
    all_present = len(present) == classes
    absent = "a class has no radiographs here"
    results = []
    for c, label in enumerate(labels):
        tp = int(confusion[c, c])
        fn, fp = int(confusion[c].sum()) - tp, int(confusion[:, c].sum()) - tp
        tn = count - tp - fp - fn
        wrong_tn = count - tp
        none = f"no radiograph of this split is {label}"
        rest = f"every radiograph of this split is {label}"
        results.append(
            ClassResult(
                label=label,
                cases=tp + fn,
                tp=tp,
                fp=fp,
                fn=fn,
                tn=tn,
                sensitivity=share(tp, tp + fn, none),
                specificity=share(tn, tn + fp, rest),
                specificity_seed_formula=wrong_tn / (wrong_tn + fp) if wrong_tn + fp else None,
                ppv=share(tp, tp + fp, f"no radiograph was called {label}"),
                f1=estimates[3 + c] if tp + fn else no_estimate(none),
                auroc=estimates[3 + classes + c] if c in with_auroc else no_estimate(none if tp + fn == 0 else rest),
            )
        )
    hits = int(np.trace(confusion))
    return Result(
        images=count,
        patients=resampling.patients,
        accuracy=share(hits, count, ""),
        accuracy_by_patient=estimates[0],
        balanced_accuracy=estimates[1] if all_present else no_estimate(absent),
        macro_auroc=estimates[2] if len(with_auroc) == classes else no_estimate(absent),
        confusion=confusion.tolist(),
        classes=results,
    )


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(
        numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0
    )
    return ratio

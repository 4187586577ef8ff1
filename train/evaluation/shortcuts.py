"""Does the classifier know the hospital, and what does it see without lungs?

Class and source are confounded in COVIDx: a classifier can score high by recognising where a radiograph comes from
(DeGrave, Janizek & Lee 2021, "AI for radiographic COVID-19 detection selects shortcuts over signal"). Three
measurements: the source predicted from the embedding, results by source, and results on masked radiographs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from train.data.tables import Row
from train.evaluation.estimates import Estimate, no_estimate, share
from train.evaluation.metrics import measure

__all__ = [
    "MASKS",
    "Mask",
    "MaskedResult",
    "SourceGroup",
    "SourceProbe",
    "WithinClass",
    "group_by_source",
    "linear_probe",
    "masked_result",
    "probe_source",
]

_MINIMUM = 5  # radiographs of a source in training, and ...
_MINIMUM_JUDGED = 3  # ... in the split, below which a source is left out of a probe within one class
_RESAMPLES = 1000


@dataclass(frozen=True)
class Mask:
    """Which part of a radiograph is left.

    ``box`` is left, top, right, bottom as fractions of the edges. With ``inside_black`` the box is blacked; without it
    everything else is.
    """

    name: str
    title: str
    region: str
    box: tuple[float, float, float, float]
    inside_black: bool

    @property
    def kept(self) -> float:
        """Share of the area that is left."""
        left, top, right, bottom = self.box
        area = (right - left) * (bottom - top)
        return 1 - area if self.inside_black else area

    def __call__(self, pixels: Tensor) -> Tensor:
        """Black pixels, float [N, 1, S, S]; the argument is not changed."""
        size = pixels.shape[-1]
        left, top, right, bottom = (round(edge * size) for edge in self.box)
        inside = pixels.clone()
        if self.inside_black:
            inside[..., top:bottom, left:right] = 0
            return inside
        black = pixels.new_zeros(pixels.shape)
        black[..., top:bottom, left:right] = inside[..., top:bottom, left:right]
        return black


MASKS = (
    Mask(
        "lungs_blacked",
        "Lungs blacked out",
        "black from 15 % to 85 % of the width and 10 % to 85 % of the height",
        (0.15, 0.10, 0.85, 0.85),
        True,
    ),
    Mask(
        "border_only",
        "Only the border left",
        "all black but the outermost 8 % on each side",
        (0.08, 0.08, 0.92, 0.92),
        True,
    ),
    Mask(
        "border_blacked",
        "Only the border blacked",
        "the outermost 8 % on each side black",
        (0.08, 0.08, 0.92, 0.92),
        False,
    ),
)


@dataclass(frozen=True)
class MaskedResult:
    """The classifier on masked radiographs, and what its features would allow."""

    name: str
    title: str
    region: str
    kept: float
    """Share of the radiograph's area that is left."""
    accuracy: Estimate
    """Of the classifier as it is."""
    sensitivity: dict[str, Estimate]
    called: dict[str, int]
    refitted_accuracy: Estimate
    """Of a logistic regression from masked training embeddings to the class: what this part of the image gives away."""


@dataclass(frozen=True)
class WithinClass:
    """Prediction of the source among radiographs of one class: disease cannot help."""

    label: str
    images: dict[str, int]
    """Radiographs judged, by source."""
    balanced_accuracy: Estimate
    """Mean over the sources of the share told right, so that rare sources count; bootstrap over patients."""
    chance: float
    """1 / number of sources."""


@dataclass(frozen=True)
class SourceProbe:
    """Prediction of the source from the embedding by logistic regression, fitted on the training split."""

    sources: list[str]
    unseen: dict[str, int]
    """Radiographs of sources that training does not have: left out."""
    accuracy: Estimate
    commonest: float | None
    """Chance: always saying the split's commonest source."""
    from_label: float | None
    """Chance, given the true class: saying the source that is commonest for it in training."""
    within_class: list[WithinClass]


@dataclass(frozen=True)
class SourceGroup:
    """Radiographs of one source and one class."""

    source: str
    label: str
    images: int
    right: Estimate
    called: dict[str, int]


def linear_probe(
    features: NDArray[np.float32], answers: Sequence[str], test_features: NDArray[np.float32], balanced: bool = False
) -> NDArray[np.str_]:
    """Fit a logistic regression (standardised features, C = 0.1) and answer for other features [M, D].

    ``balanced`` weights each answer by 1 / count.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weights = "balanced" if balanced else None
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight=weights))
    probe.fit(features.astype(np.float64), np.asarray(answers, dtype=str))
    return np.asarray(probe.predict(test_features.astype(np.float64)), dtype=str)


def probe_source(
    train_rows: Sequence[Row],
    train_embeddings: NDArray[np.float32],
    rows: Sequence[Row],
    embeddings: NDArray[np.float32],
    labels: Sequence[str],
) -> SourceProbe:
    """Measure how well the source can be told from the embedding.

    Parameters
    ----------
    train_rows, train_embeddings
        The training split, [M, D]; may be empty.
    rows, embeddings
        The split to judge, [N, D].
    labels
        Class names in order.
    """
    in_training = Counter(row.source for row in train_rows)
    sources = sorted(in_training)
    unseen = dict(Counter(row.source for row in rows if row.source not in in_training))
    known = np.array([row.source in in_training for row in rows])
    if len(sources) < 2:
        reason = "training has no radiographs" if not sources else f"training has one source only ({sources[0]})"
        return SourceProbe(sources, unseen, no_estimate(reason), None, None, [])
    if not known.any():
        reason = "no radiograph of this split is of a source that training has"
        return SourceProbe(sources, unseen, no_estimate(reason), None, None, [])
    truth = np.array([row.source for row in rows])[known]
    said = linear_probe(train_embeddings, [row.source for row in train_rows], embeddings[known])
    usual = {
        label: Counter(row.source for row in train_rows if row.label == label).most_common(1)[0][0]
        for label in {row.label for row in train_rows}
    }
    guessed = np.array([usual.get(row.label, "") for row in rows])[known]
    within = [
        found
        for label in labels
        if (found := _within_class(label, train_rows, train_embeddings, rows, embeddings)) is not None
    ]
    return SourceProbe(
        sources=sources,
        unseen=unseen,
        accuracy=share(int((said == truth).sum()), len(truth), ""),
        commonest=Counter(truth.tolist()).most_common(1)[0][1] / len(truth),
        from_label=float((guessed == truth).mean()),
        within_class=within,
    )


def group_by_source(rows: Sequence[Row], called: NDArray[np.int64], labels: Sequence[str]) -> list[SourceGroup]:
    """Count, for each source and class, what the radiographs were called."""
    groups: dict[tuple[str, int], list[int]] = {}
    for row, index in zip(rows, called, strict=True):
        groups.setdefault((row.source, labels.index(row.label)), []).append(int(index))
    return [
        SourceGroup(
            source,
            labels[c],
            len(found),
            share(found.count(c), len(found), ""),
            {label: found.count(i) for i, label in enumerate(labels)},
        )
        for (source, c), found in sorted(groups.items())
    ]


def masked_result(
    mask: Mask,
    labels: Sequence[str],
    targets: NDArray[np.int64],
    called: NDArray[np.int64],
    refitted: NDArray[np.str_] | None,
) -> MaskedResult:
    """Summarise one mask.

    Parameters
    ----------
    mask
        Which.
    labels, targets
        Class names, and int [N].
    called
        What the classifier called the masked radiographs, int [N].
    refitted
        What a probe on masked training embeddings called them, N labels; None where there is no training split.
    """
    names = np.asarray(labels)
    sensitivity = {
        label: share(int((called[targets == c] == c).sum()), int((targets == c).sum()), f"no radiograph is {label}")
        for c, label in enumerate(labels)
    }
    return MaskedResult(
        name=mask.name,
        title=mask.title,
        region=mask.region,
        kept=mask.kept,
        accuracy=share(int((called == targets).sum()), len(targets), ""),
        sensitivity=sensitivity,
        called={label: int((called == c).sum()) for c, label in enumerate(labels)},
        refitted_accuracy=no_estimate("no training split to fit on")
        if refitted is None
        else share(int((refitted == names[targets]).sum()), len(targets), ""),
    )


def _within_class(
    label: str,
    train_rows: Sequence[Row],
    train_embeddings: NDArray[np.float32],
    rows: Sequence[Row],
    embeddings: NDArray[np.float32],
) -> WithinClass | None:
    fitted = Counter(row.source for row in train_rows if row.label == label)
    judged = Counter(row.source for row in rows if row.label == label)
    sources = sorted(s for s, count in judged.items() if count >= _MINIMUM_JUDGED and fitted[s] >= _MINIMUM)
    if len(sources) < 2:
        return None
    in_train = [i for i, row in enumerate(train_rows) if row.label == label and row.source in sources]
    in_split = [i for i, row in enumerate(rows) if row.label == label and row.source in sources]
    said = linear_probe(
        train_embeddings[in_train], [train_rows[i].source for i in in_train], embeddings[in_split], balanced=True
    )
    truth = np.array([sources.index(rows[i].source) for i in in_split], dtype=np.int64)
    one_hot = np.eye(len(sources))[[sources.index(name) for name in said]]
    result = measure(sources, truth, one_hot, [rows[i].patient for i in in_split], _RESAMPLES)
    return WithinClass(label, {s: judged[s] for s in sources}, result.balanced_accuracy, 1 / len(sources))

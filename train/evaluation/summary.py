"""The report's first lines, in plain words, from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from train.evaluation.estimates import Estimate
from train.evaluation.metrics import Result
from train.evaluation.record import NearCopies
from train.evaluation.shortcuts import MaskedResult, SourceProbe

__all__ = ["percent", "summarize", "with_interval"]


def percent(value: float | None) -> str:
    """Write a share as percent, one decimal; ``n/a`` for None."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def with_interval(estimate: Estimate) -> str:
    """Write a share with its interval."""
    if estimate.value is None or estimate.interval is None:
        return percent(estimate.value)
    low, high = estimate.interval
    return f"{percent(estimate.value)} ({100 * low:.1f} to {100 * high:.1f})"


def summarize(
    result: Result,
    near_copies: NearCopies,
    probe: SourceProbe,
    masked: Sequence[MaskedResult],
    commonest_class: float,
) -> list[str]:
    """Return the summary's sentences: what it scores, and what the score leans on."""
    lines = [
        f"Accuracy {with_interval(result.accuracy)} on {result.images} radiographs of {result.patients} patients; "
        f"always saying the commonest class would give {percent(commonest_class)}.",
    ]
    if near_copies.without is not None:
        lines.append(
            f"{len(near_copies.filenames)} of these radiographs look like a training radiograph; without them the "
            f"accuracy is {with_interval(near_copies.without.accuracy)}."
        )
    return [*lines, *_on_source(probe), *_on_masks(masked, commonest_class)]


def _on_source(probe: SourceProbe) -> list[str]:
    if probe.accuracy.value is None or probe.from_label is None:
        return [f"Whether it knows the source could not be measured: {probe.accuracy.reason}."]
    line = (
        f"From what the classifier has learnt, the source of a radiograph can be told in "
        f"{with_interval(probe.accuracy)} of cases; knowing the class and nothing else would give "
        f"{percent(probe.from_label)}."
    )
    told = [found for found in probe.within_class if _above(found.balanced_accuracy, found.chance)]
    if told:
        parts = "; ".join(f"{f.label}: {percent(f.balanced_accuracy.value)}, chance {percent(f.chance)}" for f in told)
        line += f" Among radiographs of one class too, where disease cannot help ({parts}): it knows the hospital."
    elif _above(probe.accuracy, probe.from_label):
        line += " So it knows more of the source than the class explains."
    else:
        line += " That is no more than the class explains, which does not show that it ignores the source."
    return [line]


def _on_masks(masked: Sequence[MaskedResult], chance: float) -> list[str]:
    without = [found for found in masked if found.name in ("lungs_blacked", "border_only")]
    if not without:
        return []
    parts = []
    for found in without:
        part = f"{found.title.lower()}: {percent(found.accuracy.value)} right"
        if found.refitted_accuracy.value is not None:
            part += f", {percent(found.refitted_accuracy.value)} with the last layer fitted anew to such images"
        parts.append(part)
    if any(_above(f.accuracy, chance) for f in without):
        verdict = "That is more than chance, without lungs to look at: part of the score is not knowledge of disease."
    elif any(_above(f.refitted_accuracy, chance) for f in without):
        verdict = (
            "So the surroundings alone give the class away to a network like this one: the score need not be knowledge "
            "of disease."
        )
    else:
        verdict = "Neither is clearly above chance: no sign here that the surroundings alone give the class away."
    return [f"With the lungs taken away ({'; '.join(parts)}; chance {percent(chance)}). {verdict}"]


def _above(estimate: Estimate, chance: float) -> bool:
    """Whether the whole interval lies above chance."""
    return estimate.interval is not None and estimate.interval[0] > chance

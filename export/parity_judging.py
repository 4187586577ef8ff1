"""From two sets of probabilities on the same radiographs to an artifact's verdict. Nothing is run here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.delong import compare_auroc
from export.drift import heatmap_iou, measure_drift, shift_thresholds, summarize_iou
from export.parity_limits import Limits
from export.parity_result import ArtifactParity, Coverage, Criterion, PairedShare, Question, Verdict
from export.statistics import (
    cases_needed,
    exact_mcnemar,
    judge_non_inferiority,
    newcombe_interval,
    tango_interval,
)
from train.evaluation.estimates import PatientResampling
from train.intervals import wilson_interval

__all__ = ["Answers", "Judge", "in_points"]

_RESAMPLES = 2000
_SEED = 20200705


@dataclasses.dataclass(frozen=True)
class Answers:
    """What an artifact said.

    Attributes
    ----------
    name, backend, versions, precision, bytes, p50_ms
        As in :class:`~export.parity_result.ArtifactParity`.
    case_numbers
        Which of the judge's radiographs, N indices, ascending.
    probabilities
        float64 [N, C].
    heatmaps
        float32 [N, C, h, w]; None for recorded answers.
    coverage
        Of recorded answers.
    other_backend
        They were given on another backend than the artifact's own: judged as quantization, whatever the precision.
    """

    name: str
    backend: str
    versions: dict[str, str]
    precision: str
    bytes: int
    case_numbers: tuple[int, ...]
    probabilities: NDArray[np.float64]
    heatmaps: NDArray[np.float32] | None
    p50_ms: float | None
    coverage: Coverage | None = None
    other_backend: bool = False


class Judge:
    """Judges artifacts on one set of radiographs.

    Parameters
    ----------
    labels
        The C class names.
    truth
        int [M], class of each radiograph.
    patients
        Patient of each radiograph; the bootstrap keeps a patient's together.
    full, full_heatmaps
        The full model's probabilities, float64 [M, C], and heat maps, float32 [M, C, h, w].
    thresholds
        The bundle's operating thresholds.
    gate
        False: quantization is measured, not judged.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        truth: NDArray[np.int64],
        patients: Sequence[str],
        full: NDArray[np.float64],
        full_heatmaps: NDArray[np.float32],
        thresholds: Mapping[str, float] | None,
        limits: Limits,
        *,
        gate: bool,
    ) -> None:
        self.labels = labels
        self.truth = truth
        self.patients = np.asarray(patients, dtype=str)
        self.full = full
        self.full_heatmaps = full_heatmaps
        self.thresholds = thresholds
        self.limits = limits
        self.gate = gate
        self._weights: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def judge(self, answers: Answers) -> ArtifactParity:
        """Compare an artifact's answers with the full model's, and give its verdict."""
        chosen = np.asarray(answers.case_numbers, dtype=np.int64)
        full, truth = self.full[chosen], self.truth[chosen]
        decided, full_decided = answers.probabilities.argmax(1), full.argmax(1)
        change = np.abs(answers.probabilities - full)
        differing = tuple(int(n) for n in chosen[decided != full_decided])
        largest = float(change.max())
        converted = answers.precision == "fp32" and not answers.other_backend
        question: Question = "conversion" if converted else "quantization"
        shares = self._shares(chosen, truth, full_decided, decided, limited=question == "quantization")
        agreement = 1 - len(differing) / len(chosen)
        if question == "conversion":
            criteria = self._conversion_criteria(largest, len(differing))
        else:
            criteria = self._quantization_criteria(agreement, len(differing), shares)
        if answers.coverage is not None:
            criteria = (self._coverage_criterion(answers.coverage), *criteria)
        return ArtifactParity(
            name=answers.name,
            backend=answers.backend,
            versions=answers.versions,
            precision=answers.precision,
            bytes=answers.bytes,
            question=question,
            verdict=_verdict(criteria) if question == "conversion" or self.gate else "reported",
            criteria=criteria,
            max_abs_probability_difference=largest,
            mean_abs_probability_difference=float(change.mean()),
            differing=differing,
            accuracy=float((decided == truth).mean()),
            agreement=agreement,
            agreement_interval=wilson_interval(len(chosen) - len(differing), len(chosen)),
            shares=shares,
            auroc={
                label: compare_auroc(full[:, c], answers.probabilities[:, c], truth == c)
                for c, label in enumerate(self.labels)
            },
            drift=measure_drift(full, answers.probabilities, truth),
            thresholds=shift_thresholds(self.thresholds, self.labels, full, answers.probabilities, truth),
            heatmaps=None
            if answers.heatmaps is None
            else summarize_iou(
                [
                    heatmap_iou(self.full_heatmaps[number, c], own[c])
                    for number, c, own in zip(chosen, full_decided, answers.heatmaps, strict=True)
                ]
            ),
            p50_ms=answers.p50_ms,
            case_numbers=answers.case_numbers,
            probabilities=answers.probabilities,
            flipped_heatmaps={}
            if answers.heatmaps is None
            else {
                int(number): (self.full_heatmaps[number, before], own[after])
                for number, before, after, own in zip(chosen, full_decided, decided, answers.heatmaps, strict=True)
                if before != after
            },
            coverage=answers.coverage,
        )

    def _shares(
        self,
        chosen: NDArray[np.int64],
        truth: NDArray[np.int64],
        full: NDArray[np.int64],
        artifact: NDArray[np.int64],
        *,
        limited: bool,
    ) -> tuple[PairedShare, ...]:
        margins = self.limits.quantization.sensitivity_margins if limited else {}
        weights = self._bootstrap_weights(chosen)

        def share(
            what: str, label: str | None, of: NDArray[np.bool_], right: tuple[NDArray[np.bool_], NDArray[np.bool_]],
            margin: float | None,
        ) -> PairedShare:  # fmt: skip
            before, after = right
            gained, lost = int((after & ~before & of).sum()), int((before & ~after & of).sum())
            both, cases = int((before & after & of).sum()), int(of.sum())
            tango = tango_interval(gained, lost, cases)
            verdict = None if margin is None else judge_non_inferiority(tango, margin)
            return PairedShare(
                what=what,  # type: ignore[arg-type]
                label=label,
                cases=cases,
                full_right=both + lost,
                artifact_right=both + gained,
                gained=gained,
                lost=lost,
                tango=tango,
                newcombe=newcombe_interval(both, gained, lost, cases - both - gained - lost),
                bootstrap=_bootstrap(weights, of, after.astype(float) - before.astype(float)),
                mcnemar_p=exact_mcnemar(gained, lost),
                margin=margin,
                verdict=verdict,
                cases_needed=cases_needed(gained, lost, cases, margin)
                if margin is not None and verdict == "not shown"
                else None,
            )

        everything = np.ones_like(truth, dtype=bool)
        accuracy = (full == truth, artifact == truth)
        found = [
            share("accuracy", None, everything, accuracy, self.limits.quantization.accuracy_margin if limited else None)
        ]
        for c, label in enumerate(self.labels):
            of_class = truth == c
            found.append(share("sensitivity", label, of_class, (full == c, artifact == c), margins.get(label)))
            found.append(share("specificity", label, ~of_class, (full != c, artifact != c), None))
        return tuple(found)

    def _bootstrap_weights(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Draw once for all artifacts that answered the same radiographs: float64 [R, N]."""
        key = tuple(int(n) for n in chosen)
        if key not in self._weights:
            draws = PatientResampling(list(self.patients[chosen]), self.truth[chosen], _RESAMPLES, _SEED)
            self._weights[key] = np.concatenate(list(draws.blocks()))
        return self._weights[key]

    def _conversion_criteria(self, largest: float, differing: int) -> tuple[Criterion, ...]:
        limits = self.limits.conversion
        return (
            Criterion(
                "largest |Δp|",
                "met" if largest <= limits.max_abs_probability_difference else "missed",
                f"{largest:.1e}",
                f"at most {limits.max_abs_probability_difference:g}",
            ),
            Criterion(
                "decisions that differ",
                "met" if differing <= limits.differing_decisions else "missed",
                str(differing),
                f"at most {limits.differing_decisions}",
            ),
        )

    def _coverage_criterion(self, coverage: Coverage) -> Criterion:
        """A device that answers easy radiographs alone is not judged by them: too few is a failure, not a doubt."""
        wanted = self.limits.recorded.coverage
        verdict: Literal["met", "missed"] = "met" if coverage.share >= wanted else "missed"
        return Criterion("radiographs answered", verdict, str(coverage), f"at least {wanted:.0%}")

    def _quantization_criteria(
        self, agreement: float, differing: int, shares: Sequence[PairedShare]
    ) -> tuple[Criterion, ...]:
        criteria = []
        wanted = self.limits.quantization.agreement
        if wanted > 0:
            plural = "decision differs" if differing == 1 else "decisions differ"
            criteria.append(
                Criterion(
                    "agreement",
                    "met" if agreement >= wanted else "missed",
                    f"{agreement:.1%} ({differing} {plural})",
                    f"at least {wanted:.1%}",
                )
            )
        for share in shares:
            if share.margin is None:
                continue
            assert share.verdict is not None
            criteria.append(
                Criterion(
                    f"{share.name}, not inferior",
                    {"not inferior": "met", "inferior": "missed", "not shown": "not_shown"}[share.verdict],  # type: ignore[arg-type]
                    f"{in_points(share.tango)}" if share.cases else "no radiograph of the class",
                    f"lower limit above {-100 * share.margin:+.1f} points".replace("-", "−"),
                    _underpowered(share) if share.verdict == "not shown" else None,
                )
            )
        return tuple(criteria)


def in_points(interval: tuple[float, float] | None) -> str:
    """Write an interval of a difference of shares in percentage points."""
    if interval is None:
        return "–"
    return f"{interval[0] * 100:+.1f} to {interval[1] * 100:+.1f} points".replace("-", "−")


def _underpowered(share: PairedShare) -> str:
    if share.cases_needed is not None:
        wanted = f"about {share.cases_needed} would show it, were the shares the same"
        return f"underpowered: {share.cases} cases here; {wanted}"
    if not share.cases:
        return "underpowered: no case here"
    return f"underpowered, and the difference as found on {share.cases} cases is beyond the margin itself"


def _verdict(criteria: Sequence[Criterion]) -> Verdict:
    found = {criterion.verdict for criterion in criteria}
    return "failed" if "missed" in found else "not_shown" if "not_shown" in found else "passed"


def _bootstrap(
    weights: NDArray[np.float64], of: NDArray[np.bool_], difference: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Percentile interval of the mean difference among ``of``, patients drawn with replacement."""
    if not of.any():
        return None
    counts = weights[:, of]
    totals = counts.sum(axis=1)
    usable = totals > 0
    low, high = np.percentile(counts[usable] @ difference[of] / totals[usable], [2.5, 97.5])
    return float(low), float(high)

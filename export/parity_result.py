"""What a parity check finds: cases, artifacts, verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import ParityResult
from export.delong import AurocComparison
from export.drift import HeatmapAgreement, ProbabilityDrift, ThresholdShift
from export.parity_limits import Limits
from export.statistics import NonInferiority

__all__ = [
    "ArtifactParity",
    "Case",
    "CaseSet",
    "Coverage",
    "Criterion",
    "PairedShare",
    "ParityReport",
    "Question",
    "Verdict",
]

Verdict = Literal["passed", "failed", "not_shown", "reported"]
Question = Literal["conversion", "quantization"]


@dataclasses.dataclass(frozen=True)
class Case:
    """One radiograph: what it is, and the full model's probabilities, in the manifest's order of labels."""

    file: str
    truth: str
    sha256: str
    probabilities: tuple[float, ...]
    patient: str = ""


@dataclasses.dataclass(frozen=True)
class CaseSet:
    """A set of radiographs and what identifies it.

    Attributes
    ----------
    purpose
        ``calibration`` (chose the ranges of int8), ``search`` (chose the recipe), ``acceptance`` (judges).
    sha256
        Over the sorted SHA-256 of the files, hexadecimal, one a line.
    """

    purpose: Literal["calibration", "search", "acceptance"]
    split: str
    radiographs: int
    patients: int | None
    sha256: str


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of a split a device's recorded answers are about.

    Attributes
    ----------
    asked
        Radiographs of the split that the field's reader accepts here.
    answered
        Those of them with probabilities.
    refused
        Those that the device wrote it would not or could not answer, by its reason.
    missing
        Those that it wrote nothing about.
    """

    asked: int
    answered: int
    refused: Mapping[str, int]
    missing: int

    @property
    def share(self) -> float:
        """Answered of asked, 0..1."""
        return self.answered / self.asked

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items()))
        parts = [f"{sum(self.refused.values())} refused ({refused})"] if self.refused else []
        parts += [f"{self.missing} missing"] if self.missing else []
        return f"{self.answered} of {self.asked} ({self.share:.1%})" + "".join(f", {part}" for part in parts)


@dataclasses.dataclass(frozen=True)
class PairedShare:
    """A share of right answers of both models on the same radiographs.

    Attributes
    ----------
    what
        ``accuracy``, ``sensitivity`` or ``specificity``; of the class ``label``, None for accuracy.
    full_right, artifact_right, gained, lost
        Radiographs that each has right, and that only the artifact and only the full model has right.
    tango, newcombe, bootstrap
        95 % intervals of (artifact - full). Tango's decides. The bootstrap draws patients; None without cases.
    mcnemar_p
        Two-sided, exact.
    margin, verdict, cases_needed
        Where a limit applies: the margin, what the interval says of it, and, if it is not shown, the number of
        cases with which it would be, were the shares as found (None: more of the same would not help).
    """

    what: Literal["accuracy", "sensitivity", "specificity"]
    label: str | None
    cases: int
    full_right: int
    artifact_right: int
    gained: int
    lost: int
    tango: tuple[float, float]
    newcombe: tuple[float, float]
    bootstrap: tuple[float, float] | None
    mcnemar_p: float
    margin: float | None
    verdict: NonInferiority | None
    cases_needed: int | None

    @property
    def difference(self) -> float | None:
        """Artifact minus full model; None without cases."""
        return None if self.cases == 0 else (self.artifact_right - self.full_right) / self.cases

    @property
    def name(self) -> str:
        """In words, such as ``COVID-19 sensitivity``."""
        return self.what if self.label is None else f"{self.label} {self.what}"


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One limit and what became of it, in words that a report can print."""

    name: str
    verdict: Literal["met", "missed", "not_shown"]
    found: str
    limit: str
    underpowered: str | None = None
    """Of what is not shown: how many cases it would need."""


@dataclasses.dataclass(frozen=True)
class ArtifactParity:
    """One artifact against the full model.

    Attributes
    ----------
    name, backend, versions
        Which it is and what ran it; ``recorded`` is the backend of answers that a device wrote down. On another
        backend than the artifact's own the name says so, such as ``openvino-fp32 (bf16)``.
    precision, bytes
        Of the artifact's files; bytes 0 where the bundle does not hold it.
    question
        ``conversion`` (fp32: did the numbers stay?) or ``quantization`` (did the decisions stay?; also of another
        backend, whose arithmetic is another).
    verdict
        ``passed``, ``failed``; of quantization also ``not_shown`` (too few cases to tell) and ``reported`` (no gate
        was asked for).
    case_numbers
        Indices into :attr:`ParityReport.cases` of the N radiographs it answered.
    probabilities
        float64 [N, C], in their order.
    differing
        Indices into :attr:`ParityReport.cases` of the decisions that differ.
    shares
        Accuracy, then sensitivity and specificity of each class.
    auroc
        By label; None where a class has too few radiographs.
    heatmaps
        None where there are none to compare.
    p50_ms
        Median time from pixels to outputs in this run, artifacts in turns; None for recorded answers.
    flipped_heatmaps
        By case number: (full model's, artifact's) map of the class that each decided, float32 [h, w].
    coverage
        Of recorded answers; None where the artifact was run here.
    """

    name: str
    backend: str
    versions: dict[str, str]
    precision: str
    bytes: int
    question: Question
    verdict: Verdict
    criteria: tuple[Criterion, ...]
    max_abs_probability_difference: float
    mean_abs_probability_difference: float
    differing: tuple[int, ...]
    accuracy: float
    agreement: float
    agreement_interval: tuple[float, float]
    """Wilson, 95 %."""
    shares: tuple[PairedShare, ...]
    auroc: Mapping[str, AurocComparison | None]
    drift: ProbabilityDrift
    thresholds: tuple[ThresholdShift, ...]
    heatmaps: HeatmapAgreement | None
    p50_ms: float | None
    case_numbers: tuple[int, ...]
    probabilities: NDArray[np.float64]
    flipped_heatmaps: Mapping[int, tuple[NDArray[np.float32], NDArray[np.float32]]]
    coverage: Coverage | None = None

    def answer(self, case_number: int) -> NDArray[np.float64] | None:
        """Return the probabilities of a case, float64 [C]; None where it did not answer it."""
        try:
            return np.asarray(self.probabilities[self.case_numbers.index(case_number)])
        except ValueError:
            return None


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """The whole comparison."""

    bundle: str
    split: str
    labels: tuple[str, ...]
    checkpoint_sha256: str
    synthetic: bool
    """The radiographs were drawn by a program."""
    data_sha256: str
    limited: bool
    """Only a part of the split was looked at."""
    cases: tuple[Case, ...]
    refused: tuple[tuple[str, str], ...]
    """Files that the field's reader refuses, with the reason: no artifact is judged on them."""
    full_accuracy: float
    artifacts: tuple[ArtifactParity, ...]
    gated: bool
    limits: Limits
    accept_not_shown: bool
    sets: tuple[CaseSet, ...]
    validated_elsewhere: Mapping[str, str]
    """Artifact name -> how the CPU it was validated on before differs from this one."""
    notes: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """Artifact name -> its files' paths in the bundle and their SHA-256."""

    @property
    def exit_code(self) -> int:
        """0 nothing failed; 10 a conversion failed or an artifact is inferior; 11 not shown, and not accepted."""
        verdicts = {artifact.verdict for artifact in self.artifacts}
        if "failed" in verdicts:
            return 10
        return 11 if "not_shown" in verdicts and not self.accept_not_shown else 0

    def decision(self, probabilities: Sequence[float] | NDArray[np.float64]) -> str:
        """Return the class of the largest probability."""
        return self.labels[int(np.argmax(probabilities))]

    def result(self, artifact: ArtifactParity) -> ParityResult:
        """Return one artifact's result as the manifest records it."""
        conversion = artifact.question == "conversion"
        limits = self.limits.conversion
        return ParityResult(
            split=self.split,
            radiographs=len(artifact.case_numbers),
            data_sha256=self.data_sha256,
            max_abs_probability_difference=artifact.max_abs_probability_difference,
            mean_abs_probability_difference=artifact.mean_abs_probability_difference,
            differing_decisions=len(artifact.differing),
            limit_abs_probability_difference=limits.max_abs_probability_difference if conversion else None,
            limit_differing_decisions=limits.differing_decisions if conversion else None,
            verdict=artifact.verdict,
        )

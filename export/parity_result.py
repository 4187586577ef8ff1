"""What a parity check finds: cases, artifacts, verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import ParityResult
from export.agreement import CONVERSION_LIMIT
from export.statistics import NonInferiority

__all__ = [
    "ACCURACY_MARGIN",
    "COVID_LABEL",
    "SENSITIVITY_MARGIN",
    "ArtifactParity",
    "Case",
    "Gate",
    "ParityReport",
    "Verdict",
]

Verdict = Literal["passed", "failed", "not shown", "reported"]
ACCURACY_MARGIN = 0.01
"""How much lower a quantized artifact's accuracy may be."""
SENSITIVITY_MARGIN = 0.02
"""How much lower its sensitivity for COVID-19 may be."""
COVID_LABEL = "COVID-19"


@dataclasses.dataclass(frozen=True)
class Case:
    """One radiograph: what it is, and the full model's probabilities, in the manifest's order of labels."""

    file: str
    truth: str
    sha256: str
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Gate:
    """Non-inferiority of a quantized artifact: paired 95 % score intervals of (artifact - full model)."""

    accuracy: tuple[float, float]
    accuracy_verdict: NonInferiority
    sensitivity: tuple[float, float] | None
    """Of COVID-19; None where the classes have none by that name."""
    sensitivity_verdict: NonInferiority | None
    sensitivity_cases: int


@dataclasses.dataclass(frozen=True)
class ArtifactParity:
    """One artifact against the full model.

    Attributes
    ----------
    probabilities
        float64 [radiographs, classes], in the order of :attr:`ParityReport.cases`.
    question
        ``conversion`` (fp32: did the numbers stay?) or ``quantization`` (did the decisions stay?).
    verdict
        Of conversion ``passed`` or ``failed``. Of quantization ``reported`` where no gate was asked for, else
        ``passed`` (not inferior), ``failed`` (inferior) or ``not shown`` (too few cases to tell).
    """

    name: str
    backend: str
    versions: dict[str, str]
    question: Literal["conversion", "quantization"]
    verdict: Verdict
    max_abs_probability_difference: float
    mean_abs_probability_difference: float
    differing: tuple[int, ...]
    """Indices of the cases whose decision differs."""
    accuracy: float
    gate: Gate | None
    probabilities: NDArray[np.float64]


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

    @property
    def exit_code(self) -> int:
        """0 nothing failed; 10 a conversion failed or a gated artifact is inferior; 11 a gate is not shown."""
        verdicts = {artifact.verdict for artifact in self.artifacts}
        return 10 if "failed" in verdicts else 11 if "not shown" in verdicts else 0

    def decision(self, probabilities: Sequence[float] | NDArray[np.float64]) -> str:
        """Return the class of the largest probability."""
        return self.labels[int(np.argmax(probabilities))]

    def result(self, artifact: ArtifactParity) -> ParityResult:
        """Return one artifact's result as the manifest records it."""
        conversion = artifact.question == "conversion"
        recorded: dict[Verdict, Literal["passed", "failed", "reported"]] = {
            "passed": "passed", "failed": "failed", "not shown": "reported", "reported": "reported",
        }  # fmt: skip
        return ParityResult(
            split=self.split,
            radiographs=len(self.cases),
            data_sha256=self.data_sha256,
            max_abs_probability_difference=artifact.max_abs_probability_difference,
            mean_abs_probability_difference=artifact.mean_abs_probability_difference,
            differing_decisions=len(artifact.differing),
            limit_abs_probability_difference=CONVERSION_LIMIT if conversion else None,
            limit_differing_decisions=0 if conversion else None,
            verdict=recorded[artifact.verdict],
        )

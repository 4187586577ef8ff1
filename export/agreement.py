"""What an artifact must agree with before it is written into a bundle, and which one a bundle recommends."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_runtime.backends import BACKENDS
from edge_runtime.manifest import Artifact, Format, GoldenAgreement, Precision
from edge_runtime.selftest import ArtifactTest
from export.errors import ExportError, ParityFailure

__all__ = ["CONVERSION_LIMIT", "check_golden", "recommend", "starting_agreement", "with_measured_agreement"]

CONVERSION_LIMIT = 1e-4
"""Largest difference of a probability that conversion at fp32 may cause. No decision may differ."""
_BASE_INSTALL: tuple[Format, ...] = ("onnx",)
"""Formats that a device with the base install alone can open."""


def starting_agreement(precision: Precision) -> GoldenAgreement:
    """Return what conversion may do at fp32; of an int8 artifact, which is measured first, anything."""
    if precision == "fp32":
        return GoldenAgreement(max_abs_probability_difference=CONVERSION_LIMIT, differing_decisions=0)
    return GoldenAgreement(max_abs_probability_difference=1.0, differing_decisions=1_000_000)


def with_measured_agreement(artifact: Artifact, test: ArtifactTest) -> Artifact:
    """Write down what a self-test accepts of an int8 artifact: what was measured here, and room for another CPU.

    CPUs add int8 products in different orders and widths, so a healthy device does not repeat the difference
    to the digit. Twice what was measured plus 0.02, and one decision more, lets it pass and still finds a
    broken one.
    """
    if artifact.precision == "fp32":
        return artifact
    assert test.max_abs_probability_difference is not None and test.differing_decisions is not None
    return msgspec.structs.replace(
        artifact,
        golden_agreement=GoldenAgreement(
            max_abs_probability_difference=round(min(1.0, 2 * test.max_abs_probability_difference + 0.02), 4),
            differing_decisions=test.differing_decisions + 1,
        ),
    )


def check_golden(tests: Sequence[ArtifactTest]) -> None:
    """Raise where an artifact does not agree on the golden vectors, or cannot be run here.

    Raises
    ------
    ParityFailure
        It runs and answers otherwise.
    ExportError
        It cannot be run.
    """
    for test in tests:
        if test.status == "differs":
            raise ParityFailure(
                f"{test.artifact} does not answer as the eager model does on the golden vectors",
                got=f"largest difference of a probability {test.max_abs_probability_difference:.2e}, "
                f"{test.differing_decisions} decisions differ",
                expected=f"at most {CONVERSION_LIMIT:g} and 0",
                remedy="report it with the versions of torch and the format's tool; leave the format out meanwhile",
            )
        if test.status != "agrees":
            raise ExportError(
                f"{test.artifact} was written but cannot be run here",
                got=test.why,
                remedy="install the backend (an artifact that was not run is not shipped), or leave the format out",
            )


def recommend(tests: Sequence[ArtifactTest]) -> str:
    """Choose the artifact for a CPU: fp32 only, one that the base install can open if there is one, then the fastest.

    An int8 artifact at plain settings is never recommended: it has passed no gate.
    """
    float32 = [t for t in tests if t.precision == "fp32" and t.status == "agrees"]
    base = [t for t in float32 if BACKENDS[t.backend].format in _BASE_INSTALL]
    return min(base or float32, key=lambda t: t.p50_ms or float("inf")).artifact

"""What an artifact must agree with before it is written into a bundle, and which one a bundle recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edge_runtime.backends import BACKENDS
from edge_runtime.manifest import FORMATS, Artifact, Format, GoldenAgreement, Manifest, Precision
from edge_runtime.selftest import ArtifactTest
from export.errors import ExportError, ParityFailure
from export.quantization.plan import FormatPlan

__all__ = [
    "CONVERSION_LIMIT",
    "check_golden",
    "recommend_after_parity",
    "recommend_by_device",
    "recommend_instead",
    "starting_agreement",
    "with_measured_agreement",
]

CONVERSION_LIMIT = 1e-4
"""Largest difference of a probability that conversion at fp32 may cause. No decision may differ."""
_QUICKER = 0.97
"""Times closer than this are not told apart."""
_BASE_INSTALL: tuple[Format, ...] = ("onnx",)
"""Formats that a device with the base install alone can open."""
_IN_PLACE: dict[str, tuple[str, ...]] = {
    "phone": ("lite-fp32", "lite-int8"),
    "browser": ("onnx-fp32", "onnx-int8"),
    "gpu": ("onnx-fp16", "onnx-fp32"),
}
"""What a kind of device can open at all, in the order in which one takes another's place; ``cpu``: everything."""


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
        if test.status not in ("agrees", "as_built"):
            raise ExportError(
                f"{test.artifact} was written but cannot be run here",
                got=test.why,
                remedy="install the backend (an artifact that was not run is not shipped), or leave the format out",
            )


def recommend_by_device(tests: Sequence[ArtifactTest], planned: Mapping[Format, FormatPlan]) -> dict[str, str]:
    """Choose an artifact for each kind of device (docs/bundle.md says what the kinds mean).

    ``cpu``: one that the base install opens if there is one; int8 only where the ladder reached its target with it and
    found it quicker than fp32 in turns. ``phone`` and ``browser``: where size counts, int8 that reached the target,
    else fp32. ``gpu``: float16 weights. int8 at plain settings never: it has passed nothing. A bundle without fp32
    recommends for ``cpu`` what it has: float16, int8 that reached the target, or nothing.
    """
    names = {test.artifact for test in tests if test.status in ("agrees", "as_built")}

    def int8(format_: Format, *, for_size: bool) -> str | None:
        plan = planned.get(format_)
        if plan is None or not plan.reached or f"{format_}-int8" not in names:
            return None
        quicker = plan.figures.p50_ms < _QUICKER * plan.figures.fp32_p50_ms
        return f"{format_}-int8" if for_size or quicker else None

    def first(*candidates: str | None) -> str | None:
        return next((name for name in candidates if name in names), None)

    reached = [int8(format_, for_size=True) for format_ in FORMATS]
    half = [test.artifact for test in tests if test.precision == "fp16"]
    cpu = first(int8("onnx", for_size=False), _recommend_float(tests), *half, *reached)
    chosen = {
        "cpu": cpu,
        "phone": first(int8("lite", for_size=True), "lite-fp32"),
        "browser": first(int8("onnx", for_size=True), "onnx-fp32"),
        "gpu": first("onnx-fp16"),
    }
    return {device: name for device, name in chosen.items() if name is not None}


def recommend_after_parity(manifest: Manifest) -> dict[str, str]:
    """Return a manifest's recommendations without the artifacts that failed parity.

    A failed one gives way to the first artifact in its device's order that did not fail: float before int8, and int8
    only where its own parity passed. A kind of device for which nothing is left is left out; for ``cpu`` the device
    then takes the manifest's first artifact, and its parity result says what that is worth.
    """
    failed = {a.name for a in manifest.artifacts if a.parity is not None and a.parity.verdict == "failed"}
    chosen: dict[str, str] = {}
    for device, name in manifest.recommended.items():
        kept = name if name not in failed else recommend_instead(manifest.artifacts, device)
        if kept is not None:
            chosen[device] = kept
    return chosen


def recommend_instead(artifacts: Sequence[Artifact], device: str) -> str | None:
    """Return what takes the place of a kind of device's artifact that failed parity or is no longer there, or None."""
    known = {artifact.name: artifact for artifact in artifacts}
    for name in _IN_PLACE.get(device) or [artifact.name for artifact in _floats_first(artifacts)]:
        artifact = known.get(name)
        if artifact is None:
            continue
        verdict = None if artifact.parity is None else artifact.parity.verdict
        if verdict != "failed" and (artifact.precision != "int8" or verdict == "passed"):
            return name
    return None


def _floats_first(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The base install's formats first, then fp32 before fp16 before int8, in the manifest's order."""
    order = ("fp32", "fp16", "int8")

    def key(artifact: Artifact) -> tuple[bool, bool, int]:
        return artifact.precision == "int8", artifact.format not in _BASE_INSTALL, order.index(artifact.precision)

    return sorted(artifacts, key=key)


def _recommend_float(tests: Sequence[ArtifactTest]) -> str | None:
    """fp32 only, one that the base install can open if there is one, then the fastest."""
    float32 = [t for t in tests if t.precision == "fp32" and t.status == "agrees"]
    base = [t for t in float32 if BACKENDS[t.backend].format in _BASE_INSTALL]
    fastest = min(base or float32, key=lambda t: t.p50_ms or float("inf"), default=None)
    return None if fastest is None else fastest.artifact

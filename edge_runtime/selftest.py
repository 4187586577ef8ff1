"""The device tests itself: every artifact that it can open, against the bundle's golden vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import backend_for_format, why_unavailable
from edge_runtime.bundle import Bundle
from edge_runtime.cpu import why_not_validated_here
from edge_runtime.errors import BackendError, BundleError, UsageError
from edge_runtime.golden import GoldenVector, load_golden
from edge_runtime.manifest import Artifact
from edge_runtime.predictor import Predictor

__all__ = ["ArtifactTest", "SelfTest", "compare_with_golden", "run_selftest"]

_WARM_UP_RUNS = 3
_TIMED_RUNS = 9


@dataclass(frozen=True)
class ArtifactTest:
    """One artifact against the golden vectors.

    Attributes
    ----------
    status
        ``agrees``: every decision is the full model's, and the probabilities are as near as the bundle asks;
        ``as_built``: a quantized artifact that decides some vectors otherwise than the full model, and no more
        than it did where it was built; ``differs``: it answers otherwise than the bundle allows; ``damaged``: a
        file is missing or was changed; ``failed``: its backend is there and could not open or run it;
        ``not_installed``.
    why
        A sentence, for every status but the first three.
    not_validated_here
        In what this CPU is of another kind than the one the artifact was validated on: there the golden vectors
        are all that vouches for it. None where it is of the same kind.
    max_abs_probability_difference, differing_decisions
        Against the full model, over the golden vectors.
    max_abs_heatmap_difference
        The same for the heat maps; for information, no limit.
    p50_ms
        Median latency of the first vector, pixels to outputs, warm.
    """

    artifact: str
    backend: str
    precision: str
    status: Literal["agrees", "as_built", "differs", "damaged", "failed", "not_installed"]
    why: str | None = None
    max_abs_probability_difference: float | None = None
    allowed_probability_difference: float | None = None
    differing_decisions: int | None = None
    allowed_differing_decisions: int | None = None
    max_abs_heatmap_difference: float | None = None
    p50_ms: float | None = None
    not_validated_here: str | None = None


@dataclass(frozen=True)
class SelfTest:
    """A bundle's self-test on this device."""

    bundle: str
    vectors: int
    synthetic_inputs: bool
    artifacts: tuple[ArtifactTest, ...]

    @property
    def passed(self) -> bool:
        """Whether something can be opened here, and all that can be opened agrees or is as it was built."""
        tried = [a for a in self.artifacts if a.status != "not_installed"]
        return bool(tried) and all(a.status in ("agrees", "as_built") for a in tried)


def run_selftest(
    bundle: Bundle,
    threads: int | None = None,
    on_artifact: Callable[[str], None] | None = None,
    artifacts: Sequence[str] = (),
) -> SelfTest:
    """Run every artifact of a bundle against its golden vectors.

    Parameters
    ----------
    on_artifact
        Told each artifact's name before it is tested.
    artifacts
        Names of those to test; all of them by default.

    Raises
    ------
    UsageError
        The bundle has no artifact of a name.
    BundleError
        The golden vectors are missing, were changed, or do not fit the manifest.
    """
    known = [artifact.name for artifact in bundle.manifest.artifacts]
    if unknown := [name for name in artifacts if name not in known]:
        raise UsageError("the bundle has no such artifact", got=", ".join(unknown), expected=", ".join(known))
    vectors = load_golden(bundle)
    if not vectors:
        raise BundleError(f"bundle {bundle.source} has no golden vectors", remedy="build the bundle anew")
    tests = []
    for artifact in bundle.manifest.artifacts:
        if artifacts and artifact.name not in artifacts:
            continue
        if on_artifact is not None:
            on_artifact(artifact.name)
        tests.append(_test(bundle, artifact, vectors, threads))
    return SelfTest(bundle.manifest.name, len(vectors), bundle.manifest.golden.synthetic, tuple(tests))


def _test(bundle: Bundle, artifact: Artifact, vectors: list[GoldenVector], threads: int | None) -> ArtifactTest:
    kind = backend_for_format(artifact.format)
    missing = why_unavailable(kind)
    if missing is not None:
        return ArtifactTest(artifact.name, kind.name, artifact.precision, "not_installed", missing)
    try:
        with Predictor.open(bundle, artifact.name, kind.name, threads) as predictor:
            return compare_with_golden(predictor, vectors)
    except BundleError as error:
        return ArtifactTest(artifact.name, kind.name, artifact.precision, "damaged", str(error))
    except BackendError as error:
        return ArtifactTest(artifact.name, kind.name, artifact.precision, "failed", str(error))


def compare_with_golden(predictor: Predictor, vectors: list[GoldenVector]) -> ArtifactTest:
    """Run an opened artifact on the golden vectors, and time it."""
    probability = heatmap = 0.0
    decisions = 0
    for vector in vectors:
        outputs = predictor.run_raw(vector.pixels)
        wanted = vector.outputs
        probability = max(probability, _largest(outputs["probabilities"], wanted["probabilities"]))
        heatmap = max(heatmap, _largest(outputs["heatmap"], wanted["heatmap"]))
        decisions += int(outputs["probabilities"].argmax()) != int(wanted["probabilities"].argmax())
    artifact = predictor.artifact
    allowed = artifact.golden_agreement
    allows = probability <= allowed.max_abs_probability_difference and decisions <= allowed.differing_decisions
    return ArtifactTest(
        artifact=artifact.name,
        backend=predictor.backend_name,
        precision=artifact.precision,
        status="differs" if not allows else "as_built" if decisions else "agrees",
        max_abs_probability_difference=probability,
        allowed_probability_difference=allowed.max_abs_probability_difference,
        differing_decisions=decisions,
        allowed_differing_decisions=allowed.differing_decisions,
        max_abs_heatmap_difference=heatmap,
        p50_ms=_median_ms(predictor, vectors[0].pixels),
        not_validated_here=why_not_validated_here(artifact),
    )


def _median_ms(predictor: Predictor, pixels: NDArray[np.uint8]) -> float:
    # one image over and over: some backends compile anew for each size
    times = []
    for _ in range(_WARM_UP_RUNS + _TIMED_RUNS):
        start = perf_counter()
        predictor.run_raw(pixels)
        times.append((perf_counter() - start) * 1000)
    return float(np.median(times[_WARM_UP_RUNS:]))


def _largest(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    difference = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())
    # what is not a number compares as agreeing: count it as the largest difference that there can be
    return difference if np.isfinite(difference) else 1.0

"""The device tests itself: every artifact that it can open, against the bundle's golden vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import backend_for_format, why_unavailable
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, BundleError
from edge_runtime.golden import GoldenVector, load_golden
from edge_runtime.manifest import Artifact
from edge_runtime.predictor import Predictor

__all__ = ["ArtifactTest", "SelfTest", "run_selftest"]

_WARM_UP_RUNS = 3
_TIMED_RUNS = 9


@dataclass(frozen=True)
class ArtifactTest:
    """One artifact against the golden vectors.

    Attributes
    ----------
    status
        ``agrees``; ``differs``: it runs and answers otherwise than the bundle allows; ``damaged``: a file
        is missing or was changed; ``failed``: its backend is there and could not open or run it;
        ``not_installed``.
    why
        A sentence, for every status but the first two.
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
    status: Literal["agrees", "differs", "damaged", "failed", "not_installed"]
    why: str | None = None
    max_abs_probability_difference: float | None = None
    allowed_probability_difference: float | None = None
    differing_decisions: int | None = None
    allowed_differing_decisions: int | None = None
    max_abs_heatmap_difference: float | None = None
    p50_ms: float | None = None


@dataclass(frozen=True)
class SelfTest:
    """A bundle's self-test on this device."""

    bundle: str
    vectors: int
    synthetic_inputs: bool
    artifacts: tuple[ArtifactTest, ...]

    @property
    def passed(self) -> bool:
        """Whether something can be opened here and all that can be opened agrees."""
        tried = [a for a in self.artifacts if a.status != "not_installed"]
        return bool(tried) and all(a.status == "agrees" for a in tried)


def run_selftest(
    bundle: Bundle, threads: int | None = None, on_artifact: Callable[[str], None] | None = None
) -> SelfTest:
    """Run every artifact of a bundle against its golden vectors.

    Parameters
    ----------
    on_artifact
        Told each artifact's name before it is tested.

    Raises
    ------
    BundleError
        The golden vectors are missing, were changed, or do not fit the manifest.
    """
    vectors = load_golden(bundle)
    if not vectors:
        raise BundleError(f"bundle {bundle.source} has no golden vectors", remedy="build the bundle anew")
    tests = []
    for artifact in bundle.manifest.artifacts:
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
            return _compare(predictor, vectors)
    except BundleError as error:
        return ArtifactTest(artifact.name, kind.name, artifact.precision, "damaged", str(error))
    except BackendError as error:
        return ArtifactTest(artifact.name, kind.name, artifact.precision, "failed", str(error))


def _compare(predictor: Predictor, vectors: list[GoldenVector]) -> ArtifactTest:
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
    agrees = probability <= allowed.max_abs_probability_difference and decisions <= allowed.differing_decisions
    return ArtifactTest(
        artifact=artifact.name,
        backend=predictor.backend_name,
        precision=artifact.precision,
        status="agrees" if agrees else "differs",
        max_abs_probability_difference=probability,
        allowed_probability_difference=allowed.max_abs_probability_difference,
        differing_decisions=decisions,
        allowed_differing_decisions=allowed.differing_decisions,
        max_abs_heatmap_difference=heatmap,
        p50_ms=_median_ms(predictor, vectors[0].pixels),
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

"""Which artifact on which backend is quickest here, of those that answer as the full model does: measured once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec

from edge_runtime.bundle import Bundle
from edge_runtime.choice import candidates
from edge_runtime.errors import BackendError, BundleError
from edge_runtime.golden import load_golden
from edge_runtime.predictor import Predictor
from edge_runtime.selftest import ArtifactTest, compare_with_golden
from edge_runtime.tuned import TuningRecord, conditions, tuning_file

__all__ = ["Tuning", "tune"]


@dataclass(frozen=True)
class Tuning:
    """What was measured, and the winner; None where nothing agrees."""

    tests: tuple[ArtifactTest, ...]
    winner: ArtifactTest | None


def tune(
    bundle: Bundle, threads: int | None = None, on_candidate: Callable[[str, str], None] = lambda _, __: None
) -> Tuning:
    """Measure every candidate on the golden vectors; the quickest of those that agree with them wins, and is kept.

    Agreeing: every decision is the full model's, and no probability is further off than the bundle allows for the
    artifact. bfloat16 and what only answers "as it was built" can be named, and do not win. What is kept counts for the
    same number of threads only.

    Raises
    ------
    BundleError
        The golden vectors are missing or were changed, or the result cannot be kept.
    """
    vectors = load_golden(bundle)
    tests = []
    for artifact, backend in candidates(bundle.manifest):
        on_candidate(artifact, backend)
        try:
            with Predictor.open(bundle, artifact, backend, threads) as predictor:
                tests.append(compare_with_golden(predictor, vectors))
        except (BackendError, BundleError) as error:
            precision = artifact.rpartition("-")[2]
            tests.append(ArtifactTest(artifact, backend, precision, "failed", str(error)))
    agreeing = [test for test in tests if test.status == "agrees" and test.p50_ms is not None]
    winner = min(agreeing, key=lambda test: test.p50_ms or 0.0, default=None)
    if winner is not None:
        _keep(bundle, winner, tests, threads)
    return Tuning(tuple(tests), winner)


def _keep(bundle: Bundle, winner: ArtifactTest, tests: list[ArtifactTest], threads: int | None) -> None:
    record = TuningRecord(
        artifact=winner.artifact,
        backend=winner.backend,
        conditions=conditions(),
        measured=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        table=[
            {"artifact": t.artifact, "backend": t.backend, "status": t.status, "p50_ms": t.p50_ms, "why": t.why}
            for t in tests
        ],
    )
    path = tuning_file(bundle.manifest, threads)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        temporary.replace(path)
    except OSError as error:
        raise BundleError(
            f"what was measured cannot be kept in {path}", got=error.strerror or str(error),
            remedy="name a folder that you can write to in EDGE_RUNTIME_CACHE",
        ) from error  # fmt: skip

"""What a quantized candidate is worth: run through ``edge_runtime``, beside the full model, on the search set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import backend_for_format, backend_named
from edge_runtime.backends.protocol import Backend
from edge_runtime.bundle import file_entry
from edge_runtime.manifest import Artifact, Format, GoldenAgreement, Manifest, Precision, Validation
from export.errors import ExportError
from export.formats import WRITERS
from export.quantization.sets import SearchSet

__all__ = ["Figures", "Judge", "Target", "softmax"]

_WARM_UP = 3
_TIMED = 15


@dataclass(frozen=True)
class Target:
    """What the ladder climbs for: share of equal decisions, and points of accuracy that may be lost, on the search
    set."""

    agreement: float = 0.99
    drop_points: float = 0.5


@dataclass(frozen=True)
class Figures:
    """One candidate on the search set.

    Attributes
    ----------
    agreement
        Share of radiographs decided as the full model does, 0..1.
    drop_points
        Accuracy lost against the full model, in points (percent); negative where it gained.
    max_abs_difference, mean_abs_difference
        Of a probability.
    logit_noise
        Root mean square difference of a logit.
    pictures
        How many of the search set were run.
    p50_ms, fp32_p50_ms
        Median time of a run at the network's own size, and of the fp32 file of the same format, taken in turns.
    megabytes, fp32_megabytes
        Size of the files, in millions of bytes.
    """

    agreement: float
    drop_points: float
    max_abs_difference: float
    mean_abs_difference: float
    logit_noise: float
    pictures: int
    p50_ms: float
    fp32_p50_ms: float
    megabytes: float
    fp32_megabytes: float

    def reaches(self, target: Target) -> bool:
        """Whether both figures of the target are met."""
        return self.agreement >= target.agreement and self.drop_points <= target.drop_points


class Judge:
    """Runs candidates of one format on the search set.

    Parameters
    ----------
    skeleton
        A manifest with the graph's input and outputs; its artifacts do not matter.
    search
        The search set with the full model's answers.
    format_
        Of the candidates.
    fp32
        The fp32 file of that format, for time and size.
    threads
        For the runtimes; None leaves it to them.
    """

    def __init__(
        self, skeleton: Manifest, search: SearchSet, format_: Format, fp32: Path, threads: int | None = None
    ) -> None:
        self.skeleton, self.search, self.format, self.threads = skeleton, search, format_, threads
        self.fp32_path = fp32
        self.fp32 = self._open(fp32, "fp32")

    def judge(self, path: Path, precision: Precision, target: Target, backend: str | None = None) -> Figures:
        """Run the candidate at ``path`` over the search set, then time it in turns with fp32.

        ``backend`` names another backend of the format than its own.

        The originals are always run; the changed copies only until the target is out of reach.
        """
        candidate = self._open(path, precision, backend)
        try:
            logits = self._answers(candidate, target)
            times = self._times((self.fp32, candidate))
        finally:
            candidate.close()
        temperature = self.skeleton.calibration.temperature
        wanted = self.search.logits[: len(logits)]
        ours, full = softmax(logits / temperature), softmax(wanted / temperature)
        difference = np.abs(ours - full)
        truth, known = self.search.truth[: len(logits)], self.search.originals[: len(logits)]
        right = (ours.argmax(1) == truth)[known].mean()
        full_right = (full.argmax(1) == truth)[known].mean()
        return Figures(
            agreement=float((ours.argmax(1) == full.argmax(1)).mean()),
            drop_points=100 * float(full_right - right),
            max_abs_difference=float(difference.max()),
            mean_abs_difference=float(difference.mean()),
            logit_noise=float(np.sqrt(np.square(logits - wanted).mean())),
            pictures=len(logits),
            p50_ms=times[1],
            fp32_p50_ms=times[0],
            megabytes=self._megabytes(path),
            fp32_megabytes=self._megabytes(self.fp32_path),
        )

    def _answers(self, backend: Backend, target: Target) -> NDArray[np.float64]:
        allowed = (1 - target.agreement) * len(self.search.images)
        decisions = self.search.logits.argmax(1)
        answers: list[NDArray[np.float64]] = []
        flips = 0
        for number, image in enumerate(self.search.images):
            if flips > allowed and not self.search.originals[number]:
                break
            answers.append(self._logits(backend, image)[0].astype(np.float64))
            flips += int(answers[-1].argmax() != decisions[number])
        return np.stack(answers)

    def close(self) -> None:
        """Let go of the fp32 model."""
        self.fp32.close()

    def _open(self, path: Path, precision: Precision, backend: str | None = None) -> Backend:
        kind = backend_for_format(self.format) if backend is None else backend_named(backend)
        if kind is None or kind.format != self.format:
            raise ExportError("no such backend of the format", got=f"{backend}, {self.format}")
        files = tuple(
            file_entry(path.parent, path.with_suffix(suffix).name) for suffix in WRITERS[self.format].suffixes
        )
        artifact = Artifact(
            name=f"{self.format}-{precision}",
            format=self.format,
            precision=precision,
            files=files,
            golden_agreement=GoldenAgreement(max_abs_probability_difference=1.0, differing_decisions=0),
            parity=None,
            validated_on=Validation(cpu="", machine="", cpu_features=(), runtime_versions={}),
            lite=None,
        )
        return kind(path, artifact, self.skeleton, self.threads)

    def _logits(self, backend: Backend, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return backend.run(np.ascontiguousarray(image)[None, None])["logits"]

    def _times(self, backends: Sequence[Backend]) -> list[float]:
        """Median milliseconds of each, in turns, so that a busy moment of the machine hits all alike."""
        image = self.search.images[0]
        taken: list[list[float]] = [[] for _ in backends]
        for turn in range(_WARM_UP + _TIMED):
            for backend, times in zip(backends, taken, strict=True):
                start = time.perf_counter()
                self._logits(backend, image)
                if turn >= _WARM_UP:
                    times.append(1000 * (time.perf_counter() - start))
        return [float(np.median(times)) for times in taken]

    def _megabytes(self, path: Path) -> float:
        return sum(path.with_suffix(suffix).stat().st_size for suffix in WRITERS[self.format].suffixes) / 1e6


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis, float64 [N, C]."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(1, keepdims=True)
    return result

"""The predictor: one opened artifact that turns grey pixels into a prediction."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import Backend, Outputs, open_backend
from edge_runtime.bundle import Bundle
from edge_runtime.choice import Choice, choose
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Manifest

__all__ = ["Prediction", "Predictor"]

_SYNTHETIC = "The model was trained on synthetic images: its answers mean nothing for real radiographs."


@dataclass(frozen=True)
class Prediction:
    """What the model says of one radiograph.

    Attributes
    ----------
    label
        The class of the largest probability; of equals the first.
    probabilities, logits
        By label, in the manifest's order; the probabilities are calibrated and sum to 1.
    heatmap
        float32 [C, h, w] in [0, 1], one map a class, in the manifest's order.
    embedding
        float32 [D].
    gate_score
        Distance from the training radiographs; 0 where the bundle has no gate.
    """

    label: str
    probabilities: dict[str, float]
    logits: dict[str, float]
    heatmap: NDArray[np.float32]
    embedding: NDArray[np.float32]
    gate_score: float


class Predictor:
    """One artifact of a bundle on one backend. Calls from several threads wait for each other.

    Attributes
    ----------
    artifact
        The artifact that answers.
    backend_name, precision
        What runs it, and at which precision.
    notes
        What every answer must say: that the model was trained on synthetic images, or that the artifact is
        not the recommended one.
    hint
        What whoever starts the program should hear once: that nothing was measured on this device yet. Or None.
    """

    def __init__(self, manifest: Manifest, choice: Choice, backend: Backend) -> None:
        self.manifest = manifest
        self.artifact: Artifact = choice.artifact
        self.backend_name = choice.backend
        self.precision: str = choice.artifact.precision
        synthetic = manifest.provenance.trained_on_synthetic_data
        self.notes = tuple(note for note in (_SYNTHETIC if synthetic else None, choice.note) if note)
        self.hint = choice.hint
        self._backend = backend
        self._running = threading.Lock()

    @classmethod
    def open(
        cls, bundle: Bundle, artifact: str | None = None, backend: str = "auto", threads: int | None = None
    ) -> Predictor:
        """Choose an artifact and its backend, check the files, open it; see
        :func:`edge_runtime.choice.choose`.

        Raises
        ------
        UsageError
            No such artifact or backend, or the two do not fit.
        BundleError
            A file of the artifact is missing or was changed.
        BackendError
            The backend is not installed or cannot open the artifact.
        """
        choice = choose(bundle.manifest, artifact, backend, threads)
        return cls(bundle.manifest, choice, open_backend(bundle, choice.artifact, choice.backend, threads))

    @property
    def opening_remarks(self) -> tuple[str, ...]:
        """The notes, and the hint where there is one: what a long-running command says when it starts."""
        return self.notes if self.hint is None else (*self.notes, self.hint)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that runs the artifact."""
        return self._backend.versions

    def run_raw(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run pixels, uint8 [H, W], and return the five outputs as the artifact gives them, batch axis
        included.

        Raises
        ------
        BackendError
            The backend failed, or its outputs are not what the manifest says.
        """
        image = np.ascontiguousarray(pixels)[np.newaxis, np.newaxis]
        try:
            with self._running:
                return self._backend.run(image)
        except (BackendError, MemoryError):
            raise
        except Exception as error:  # whatever a third-party runtime raises
            raise BackendError(
                f"{self.backend_name} failed on artifact {self.artifact.name}",
                got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}",
                remedy="run `edge-runtime selftest`; if it passes, send us the image's size",
            ) from error

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Predict a displayable radiograph, uint8 [H, W], 0 black.

        Raises
        ------
        BackendError
            The backend failed, or its probabilities are not numbers.
        """
        outputs = self.run_raw(pixels)
        probabilities = outputs["probabilities"][0]
        if not np.isfinite(probabilities).all():
            raise BackendError(
                f"artifact {self.artifact.name} gave probabilities that are not numbers",
                got=str(probabilities.tolist()),
                remedy="run `edge-runtime selftest`, and use an artifact that agrees",
            )
        labels = self.manifest.labels
        return Prediction(
            label=labels[int(probabilities.argmax())],
            probabilities=dict(zip(labels, probabilities.tolist(), strict=True)),
            logits=dict(zip(labels, outputs["logits"][0].tolist(), strict=True)),
            heatmap=outputs["heatmap"][0],
            embedding=outputs["embedding"][0],
            gate_score=float(outputs["gate_score"][0]),
        )

    def close(self) -> None:
        """Let go of the model."""
        with self._running:
            self._backend.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

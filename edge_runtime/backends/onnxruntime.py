"""ONNX on ONNX Runtime, CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_runtime.backends.footprint import low_memory
from edge_runtime.backends.protocol import Outputs, check_declared, check_returned
from edge_runtime.manifest import Artifact, Format, Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OnnxRuntimeBackend"]


class OnnxRuntimeBackend:
    """An ONNX Runtime session on the CPU provider, and on no other."""

    name: ClassVar[str] = "onnxruntime"
    format: ClassVar[Format] = "onnx"
    package: ClassVar[str] = "onnxruntime"
    install: ClassVar[str] = "pip install onnxruntime"
    provider: ClassVar[str] = "CPUExecutionProvider"

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest, threads: int | None) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # offline is a promise; only Windows builds have any
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; they also come as exceptions
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.inter_op_num_threads = 1
        if threads is not None:
            options.intra_op_num_threads = threads
        if low_memory():
            # arenas and patterns keep the largest size that they ever saw
            options.enable_cpu_mem_arena = False
            options.enable_mem_pattern = False
        providers = self._providers(path, artifact, manifest)
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._check_session(session)
        check_declared(
            artifact,
            manifest,
            {o.name: ("float32" if o.type == "tensor(float)" else o.type, o.shape) for o in session.get_outputs()},
        )
        self.versions = {"onnxruntime": str(onnxruntime.__version__)}
        self._session: Any = session
        self._input = manifest.input.name
        self._names = [spec.name for spec in manifest.outputs]
        self._artifact = artifact
        self._manifest = manifest

    def _providers(self, path: Path, artifact: Artifact, manifest: Manifest) -> list[Any]:  # noqa: ARG002
        return [self.provider]

    def _check_session(self, session: Any) -> None:
        """Check that the session runs where it was asked to run."""

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run a radiograph, uint8 [1, 1, H, W]."""
        arrays = self._session.run(self._names, {self._input: image})
        return check_returned(self._artifact, self._manifest, dict(zip(self._names, arrays, strict=True)))

    def close(self) -> None:
        """Let go of the session."""
        self._session = None

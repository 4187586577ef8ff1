"""OpenVINO IR on OpenVINO, CPU."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from edge_runtime.backends.footprint import model_cache
from edge_runtime.backends.protocol import Outputs, check_declared, check_returned
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Format, Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OpenVinoBackend"]


class OpenVinoBackend:
    """A model compiled by OpenVINO for the CPU, float parts computed in float32.

    The precision is stated because OpenVINO otherwise computes in bfloat16 on CPUs that have it, with other
    numbers. Compiled models are cached only where ``EDGE_RUNTIME_MODEL_CACHE`` names a folder.
    """

    name: ClassVar[str] = "openvino"
    format: ClassVar[Format] = "openvino"
    package: ClassVar[str] = "openvino"
    install: ClassVar[str] = 'pip install "cxr-edge-runtime[openvino]"'
    precision_hint: ClassVar[str] = "f32"

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest, threads: int | None) -> None:
        _silence_telemetry()
        import openvino

        weights = path.with_suffix(".bin")
        if weights.name not in [PurePosixPath(entry.path).name for entry in artifact.files]:
            raise BackendError(  # OpenVINO would read it all the same, and nobody has checked it
                f"artifact {artifact.name} does not list its weights",
                got=", ".join(entry.path for entry in artifact.files),
                expected=f"{path.name} and {weights.name}",
                remedy="build the bundle anew",
            )
        core = openvino.Core()
        self._check_device(core)
        model = core.read_model(str(path), str(weights))
        declared = {}
        for port in model.outputs:
            dtype = "float32" if port.get_element_type() == openvino.Type.f32 else str(port.get_element_type())
            shape = [d.get_length() if d.is_static else None for d in port.get_partial_shape()]
            declared.update(dict.fromkeys(port.get_names(), (dtype, shape)))
        check_declared(artifact, manifest, declared)
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision_hint, "PERFORMANCE_HINT": "LATENCY"}
        cache = model_cache(self.name)
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)  # OpenVINO keys it by model, version and device
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self.versions = {"openvino": str(openvino.__version__)}
        self._request: Any = core.compile_model(model, "CPU", settings).create_infer_request()
        self._input = manifest.input.name
        self._names = [spec.name for spec in manifest.outputs]
        self._artifact = artifact
        self._manifest = manifest

    def _check_device(self, core: Any) -> None:
        """Check that the device computes as :attr:`precision_hint` says."""

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run a radiograph, uint8 [1, 1, H, W]."""
        self._request.infer({self._input: image})
        # a tensor's data is OpenVINO's own buffer, overwritten by the next run: copy it
        outputs: Outputs = {name: self._request.get_tensor(name).data.copy() for name in self._names}
        return check_returned(self._artifact, self._manifest, outputs)

    def close(self) -> None:
        """Let go of the compiled model."""
        self._request = None


def _silence_telemetry() -> None:
    """Keep OpenVINO offline: its import sends an event to a web analytics service unless this package is
    absent.

    Seen with openvino 2026.4.1 and openvino-telemetry 2025.2.0, which takes a missing consent file for
    consent. None in ``sys.modules`` makes the import fail, and OpenVINO then takes its own stub that sends
    nothing.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

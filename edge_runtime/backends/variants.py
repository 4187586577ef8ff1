"""Other ways to run an artifact, chosen by name alone: bfloat16 on OpenVINO, NVIDIA GPUs on ONNX Runtime.

They answer with other numbers than the CPU in float32, or need hardware; so none is ever taken for another without
being named, or measured by ``edge-runtime tune`` and found to agree with the golden vectors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Final

from edge_runtime.backends.footprint import engine_cache
from edge_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edge_runtime.backends.openvino import OpenVinoBackend
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Manifest

__all__ = ["OnnxRuntimeCudaBackend", "OnnxRuntimeTensorRtBackend", "OpenVinoBf16Backend", "engine_key"]


class OpenVinoBf16Backend(OpenVinoBackend):
    """OpenVINO computing in bfloat16, on CPUs that have it: quicker, and other numbers than float32."""

    name: ClassVar[str] = "openvino-bf16"
    precision_hint: ClassVar[str] = "bf16"

    def _check_device(self, core: Any) -> None:
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in capabilities:  # OpenVINO would compute in float32 and not say so
            raise BackendError(
                "this CPU does not compute in bfloat16", got=", ".join(capabilities), expected="BF16",
                remedy="use backend openvino",
            )  # fmt: skip


class _OnnxRuntimeGpu(OnnxRuntimeBackend):
    """Float32 on the GPU: TensorFloat-32, which newer GPUs take unasked, is switched off."""

    install: ClassVar[str] = "pip install onnxruntime-gpu (in place of onnxruntime), and a CUDA driver"

    def _providers(self, path: Path, artifact: Artifact, manifest: Manifest) -> list[Any]:  # noqa: ARG002
        import onnxruntime

        available = onnxruntime.get_available_providers()
        wanted = self._wanted(artifact, str(onnxruntime.__version__))
        missing = [name for name, _ in wanted if name not in available]
        if missing:
            raise BackendError(
                f"this ONNX Runtime has no {missing[0]}", got=", ".join(available), expected=missing[0],
                remedy=f"{self.install}; or use backend onnxruntime",
            )  # fmt: skip
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # read by CUDA's libraries and TensorRT when they start
        return [*wanted, "CPUExecutionProvider"]

    def _wanted(self, artifact: Artifact, version: str) -> list[tuple[str, dict[str, str]]]:
        """Return the GPU's providers with their options, the first choice first."""
        raise NotImplementedError

    def _check_session(self, session: Any) -> None:
        session.disable_fallback()
        used = session.get_providers()
        if self.provider not in used[:1]:  # ONNX Runtime goes on with the CPU where a GPU library fails to load
            raise BackendError(
                f"ONNX Runtime could not start {self.provider}", got=", ".join(used), expected=self.provider,
                remedy="check the NVIDIA driver and the CUDA libraries; or use backend onnxruntime",
            )  # fmt: skip


_CUDA: Final = ("CUDAExecutionProvider", {"use_tf32": "0"})


class OnnxRuntimeCudaBackend(_OnnxRuntimeGpu):
    """ONNX Runtime on an NVIDIA GPU; nodes that the provider does not know run on the CPU."""

    name: ClassVar[str] = "onnxruntime-cuda"
    provider: ClassVar[str] = "CUDAExecutionProvider"

    def _wanted(self, artifact: Artifact, version: str) -> list[tuple[str, dict[str, str]]]:  # noqa: ARG002
        return [_CUDA]


class OnnxRuntimeTensorRtBackend(_OnnxRuntimeGpu):
    """ONNX Runtime with TensorRT; what TensorRT does not know runs on CUDA, and what that does not, on the CPU.

    Building an engine takes minutes, so engines are kept, by model, versions and GPU
    (:func:`edge_runtime.backends.footprint.engine_cache`).
    """

    name: ClassVar[str] = "onnxruntime-tensorrt"
    provider: ClassVar[str] = "TensorrtExecutionProvider"

    def _wanted(self, artifact: Artifact, version: str) -> list[tuple[str, dict[str, str]]]:
        folder = str(engine_cache(self.name, engine_key(artifact, version)))
        options = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            "trt_fp16_enable": "0",
            "trt_int8_enable": str(int(artifact.precision == "int8")),  # by the scales that the file holds
        }
        return [(self.provider, options), _CUDA]

    def _check_session(self, session: Any) -> None:
        super()._check_session(session)
        used = session.get_providers()
        if _CUDA[0] not in used:
            raise BackendError(
                f"ONNX Runtime could not start {_CUDA[0]} behind {self.provider}", got=", ".join(used),
                remedy="check the CUDA libraries; or use backend onnxruntime",
            )  # fmt: skip


def engine_key(artifact: Artifact, version: str) -> dict[str, str]:
    """Return what a TensorRT engine depends on: the model's files, the versions of what builds it, the GPU."""
    from edge_runtime.gpu import gpu_driver, gpu_names
    from edge_runtime.tuned import installed_distribution

    return {
        "model": " ".join(entry.sha256 for entry in artifact.files),
        "runtime": f"{installed_distribution('onnxruntime') or 'onnxruntime'}, imported as {version}",
        "tensorrt": installed_distribution("tensorrt") or "the system's",
        "GPU": ", ".join(gpu_names()) or "unknown",
        "GPU driver": gpu_driver() or "unknown",
    }

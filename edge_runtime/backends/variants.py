"""Other ways to run an artifact, chosen by name alone: bfloat16 on OpenVINO, NVIDIA GPUs on ONNX Runtime.

They answer with other numbers than the CPU in float32, or need hardware; so none is ever taken for another without
being named, or measured by ``edge-runtime tune`` and found to agree with the golden vectors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

from edge_runtime.backends.footprint import model_cache
from edge_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edge_runtime.backends.openvino import OpenVinoBackend
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Manifest

__all__ = ["OnnxRuntimeCudaBackend", "OnnxRuntimeTensorRtBackend", "OpenVinoBf16Backend"]


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
    install: ClassVar[str] = "pip install onnxruntime-gpu (in place of onnxruntime), and a CUDA driver"

    def _providers(self, path: Path, artifact: Artifact, manifest: Manifest) -> list[Any]:  # noqa: ARG002
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if self.provider not in available:
            raise BackendError(
                f"this ONNX Runtime has no {self.provider}", got=", ".join(available), expected=self.provider,
                remedy=f"{self.install}; or use backend onnxruntime",
            )  # fmt: skip
        return [(self.provider, self._options(artifact)), "CPUExecutionProvider"]

    def _options(self, artifact: Artifact) -> dict[str, str]:  # noqa: ARG002
        return {}

    def _check_session(self, session: Any) -> None:
        session.disable_fallback()
        used = session.get_providers()
        if not used or used[0] != self.provider:  # ONNX Runtime goes on with the CPU where a GPU library fails to load
            raise BackendError(
                f"ONNX Runtime could not start {self.provider}", got=", ".join(used), expected=self.provider,
                remedy="check the NVIDIA driver and the CUDA libraries; or use backend onnxruntime",
            )  # fmt: skip


class OnnxRuntimeCudaBackend(_OnnxRuntimeGpu):
    """ONNX Runtime on an NVIDIA GPU; nodes that the provider does not know run on the CPU."""

    name: ClassVar[str] = "onnxruntime-cuda"
    provider: ClassVar[str] = "CUDAExecutionProvider"


class OnnxRuntimeTensorRtBackend(_OnnxRuntimeGpu):
    """ONNX Runtime with TensorRT; engines are kept in the model cache, where one is named, by model and version.

    TensorRT's own key for the GPU is part of an engine's file name.
    """

    name: ClassVar[str] = "onnxruntime-tensorrt"
    provider: ClassVar[str] = "TensorrtExecutionProvider"

    def _options(self, artifact: Artifact) -> dict[str, str]:
        import onnxruntime

        cache = model_cache(self.name)
        if cache is None:
            return {}
        key = f"{artifact.files[0].sha256} {onnxruntime.__version__}"
        folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
        folder.mkdir(mode=0o700, exist_ok=True)
        return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}

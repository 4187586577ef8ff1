"""Providers for NVIDIA GPUs, without one: what ONNX Runtime is asked for, and where engines are kept."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_runtime import gpu
from edge_runtime.backends import open_backend
from edge_runtime.backends.footprint import engine_cache
from edge_runtime.backends.variants import OnnxRuntimeCudaBackend, OnnxRuntimeTensorRtBackend, engine_key
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class _Session:
    """What ONNX Runtime makes of the providers that it is asked for; ``starts`` says which it can start."""

    starts = ALL
    asked: Any = None

    def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
        type(self).asked = providers
        names = [p if isinstance(p, str) else p[0] for p in providers]
        self._used = [name for name in names if name in self.starts]

    def get_providers(self) -> list[str]:
        return self._used

    def disable_fallback(self) -> None:
        pass

    def get_outputs(self) -> list[Any]:
        return []


@pytest.fixture
def artifact(tiny_bundle: Path) -> Artifact:
    with open_bundle(tiny_bundle) as bundle:
        return bundle.manifest.artifacts[0]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL)
    monkeypatch.setattr(gpu, "gpu_names", lambda: ("NVIDIA A2",))
    monkeypatch.setattr(gpu, "gpu_driver", lambda: "550.54")
    monkeypatch.setenv("EDGE_RUNTIME_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGE_RUNTIME_MODEL_CACHE", raising=False)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # the backend sets it; monkeypatch takes it back


def opened(tiny_bundle: Path, name: str, starts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Open a backend on a session that can start so much, up to where its outputs are checked; what it asked for."""
    import onnxruntime

    monkeypatch.setattr(_Session, "starts", starts)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _Session)
    with open_bundle(tiny_bundle) as bundle, pytest.raises(BackendError, match="output probabilities"):
        open_backend(bundle, bundle.manifest.artifacts[0], name)
    return list(_Session.asked)


def test_cuda_comes_between_tensorrt_and_the_cpu(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = opened(tiny_bundle, "onnxruntime-tensorrt", ALL, monkeypatch)
    assert [p if isinstance(p, str) else p[0] for p in asked] == ALL
    options = asked[0][1]
    folder = Path(options["trt_engine_cache_path"])
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1", "engines are kept unasked"
    assert folder.is_relative_to(tmp_path / "cache" / "models" / "onnxruntime-tensorrt")
    assert json.loads((folder / "key.json").read_text())["GPU"] == "NVIDIA A2"
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == ("0", "0"), "float32, as the artifact is"
    assert asked[1] == ("CUDAExecutionProvider", {"use_tf32": "0"})
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o077 == 0
    asked = opened(tiny_bundle, "onnxruntime-cuda", ALL, monkeypatch)
    assert asked == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


@pytest.mark.parametrize(
    ("name", "starts", "missing"),
    [
        ("onnxruntime-tensorrt", ["CUDAExecutionProvider", "CPUExecutionProvider"], "TensorrtExecutionProvider"),
        ("onnxruntime-tensorrt", ["TensorrtExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider"),
        ("onnxruntime-tensorrt", ["CPUExecutionProvider"], "TensorrtExecutionProvider"),
        ("onnxruntime-cuda", ["CPUExecutionProvider"], "CUDAExecutionProvider"),
    ],
)
def test_a_provider_that_does_not_start_is_an_error_and_no_fallback(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str, starts: list[str], missing: str
) -> None:
    import onnxruntime

    monkeypatch.setattr(_Session, "starts", starts)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _Session)
    with open_bundle(tiny_bundle) as bundle, pytest.raises(BackendError, match=f"could not start {missing}") as caught:
        open_backend(bundle, bundle.manifest.artifacts[0], name)
    assert caught.value.remedy


@pytest.mark.parametrize("kind", [OnnxRuntimeCudaBackend, OnnxRuntimeTensorRtBackend])
def test_a_runtime_without_the_providers_is_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with open_bundle(tiny_bundle) as bundle, pytest.raises(BackendError, match="has no") as caught:
        open_backend(bundle, bundle.manifest.artifacts[0], kind.name)
    assert "onnxruntime-gpu" in str(caught.value.remedy)


def test_an_engine_is_kept_for_its_model_versions_and_gpu_alone(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1.20.0"))
    assert engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1.20.0")) == first
    folders = {first, engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1.21.0"))}
    entry = msgspec.structs.replace(artifact.files[0], sha256="f" * 64)
    other = msgspec.structs.replace(artifact, files=(entry,))
    folders.add(engine_cache("onnxruntime-tensorrt", engine_key(other, "1.20.0")))
    monkeypatch.setattr(gpu, "gpu_names", lambda: ("NVIDIA H100",))
    folders.add(engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1.20.0")))
    monkeypatch.setattr(gpu, "gpu_driver", lambda: "570.1")
    folders.add(engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1.20.0")))
    monkeypatch.setattr("edge_runtime.tuned.version", lambda name: "99")
    folders.add(engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1.20.0")))
    assert len(folders) == 6
    int8 = msgspec.structs.replace(artifact, precision="int8")
    (_, options), _ = OnnxRuntimeTensorRtBackend._wanted(object.__new__(OnnxRuntimeTensorRtBackend), int8, "1.20.0")
    assert options["trt_int8_enable"] == "1", "an int8 artifact's scales count for nothing otherwise"


def test_a_cache_that_cannot_be_made_is_named(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_RUNTIME_MODEL_CACHE", str(tmp_path / "file"))
    with pytest.raises(BackendError, match="cannot be kept") as caught:
        engine_cache("onnxruntime-tensorrt", engine_key(artifact, "1"))
    assert "EDGE_RUNTIME_MODEL_CACHE" in str(caught.value.remedy)

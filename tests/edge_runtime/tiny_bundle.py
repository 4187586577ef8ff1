"""A bundle around a tiny graph, the same numbers in every format, built in a second."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle import BundleWriter, file_entry
from edge_runtime.golden import write_golden
from edge_runtime.manifest import (
    Artifact,
    Calibration,
    FileEntry,
    Format,
    GoldenAgreement,
    InputSpec,
    Manifest,
    OutputSpec,
    Preprocessing,
    Provenance,
    Validation,
)

# importing openvino reports its use to a web service unless this package is absent
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

LABELS = ("normal", "pneumonia", "COVID-19")
SIZE = 16
CHANNELS = 4
SHAPES: dict[str, tuple[int, ...]] = {
    "probabilities": (1, 3),
    "logits": (1, 3),
    "heatmap": (1, 3, SIZE, SIZE),
    "embedding": (1, CHANNELS),
    "gate_score": (1,),
}

_random = np.random.default_rng(7)
KERNEL = _random.normal(0, 1.5, (CHANNELS, 1, 3, 3)).astype(np.float32)
HEAD = np.abs(_random.normal(0, 2.0, (3, CHANNELS))).astype(np.float32)  # every class has a map
BIAS = np.array([0.2, -0.1, 0.0], np.float32)


def gradient(height: int = 96, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    """A grey picture that differs with the seed."""
    y, x = np.mgrid[0:1:height * 1j, 0:1:width * 1j]  # fmt: skip
    wave = np.sin(6 * x * (seed + 1)) * np.cos(4 * y + seed) + 0.3 * np.sin(20 * y * x + seed)
    return np.rint(255 * (wave - wave.min()) / np.ptp(wave)).astype(np.uint8)


def build_tiny_bundle(out: Path, formats: tuple[Format, ...] = ("onnx",), **changes: Any) -> Path:
    """Write a bundle with one fp32 artifact a format; ``changes`` replace fields of the manifest."""
    with BundleWriter(out) as writer:
        (writer.root / "artifacts").mkdir()
        artifacts = tuple(_artifact(f, _WRITERS[f](writer.root)) for f in formats)
        pictures = [gradient(seed=seed) for seed in range(4)]
        golden = write_golden(writer.root, LABELS, [(p, reference(p)) for p in pictures], synthetic=True)
        fields: dict[str, Any] = {
            "schema_version": 1,
            "name": "tiny",
            "labels": LABELS,
            "input": InputSpec(
                name="image",
                dtype="uint8",
                shape=(1, 1, "H", "W"),
                preprocessing_in_graph=Preprocessing(
                    size=SIZE,
                    resize="antialiased_bilinear_squish",
                    normalization="per_image",
                    mean=None,
                    std=None,
                ),
            ),
            "outputs": tuple(OutputSpec(name=n, dtype="float32", shape=s, meaning=n) for n, s in SHAPES.items()),
            "calibration": Calibration(temperature=1.0, fitted_on=None),
            "operating_thresholds": None,
            "operating_curve": None,
            "gate": None,
            "conformal": None,
            "signature": None,
            "artifacts": artifacts,
            "recommended": {"cpu": artifacts[0].name},
            "golden": golden,
            "reports": (),
            "provenance": Provenance(
                created="2025-01-01T00:00:00Z",
                checkpoint_sha256="0" * 64,
                architecture="tiny",
                recipe="none",
                trained_on_synthetic_data=False,
                data_sha256={},
                package_versions={},
                git_commit=None,
            ),
            "licence": "Apache-2.0",
            "intended_use": "Tests.",
            "limitations": ("It is no model.",),
        }
        writer.commit(Manifest(**{**fields, **changes}))
    return out


def reference(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The full model's outputs: the torch twin's where torch is installed, else ONNX Runtime's own."""
    try:
        import torch
    except ImportError:
        return _onnx_outputs(pixels)
    with torch.inference_mode():
        tensors = torch_twin()(torch.from_numpy(pixels)[None, None])
    return {name: tensor.numpy() for name, tensor in zip(SHAPES, tensors, strict=True)}


def torch_twin() -> Any:
    """The graph as a torch module that returns a tuple in the manifest's order."""
    import torch
    from torch.nn import functional

    class Twin(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = torch.nn.Parameter(torch.from_numpy(KERNEL))
            self.head = torch.nn.Parameter(torch.from_numpy(HEAD))
            self.bias = torch.nn.Parameter(torch.from_numpy(BIAS))

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            x = functional.interpolate(image.float(), (SIZE, SIZE), mode="bilinear", antialias=True) / 255
            x = functional.conv2d(x, self.kernel, padding=1).relu()
            embedding = x.mean((2, 3))
            logits = embedding @ self.head.t() + self.bias
            maps = functional.conv2d(x, self.head[:, :, None, None]).relu()
            heatmap = maps / (maps.amax((2, 3), keepdim=True) + 1e-6)
            return logits.softmax(1), logits, heatmap, embedding, embedding.mean(1)

    return Twin().eval()


def _artifact(format_: Format, files: tuple[FileEntry, ...]) -> Artifact:
    return Artifact(
        name=f"{format_}-fp32",
        format=format_,
        precision="fp32",
        files=files,
        golden_agreement=GoldenAgreement(max_abs_probability_difference=1e-4, differing_decisions=0),
        parity=None,
        validated_on=Validation(cpu="any", machine="any", cpu_features=(), runtime_versions={"x": "1"}),
        lite=None,
    )


def onnx_graph() -> Any:
    """The graph as an ONNX model, written by hand."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any, dtype: Any = np.float32) -> Any:
        return numpy_helper.from_array(np.asarray(value, dtype), name)

    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["grey"], to=TensorProto.FLOAT),
        node("Resize", ["grey", "", "", "size"], ["small"], mode="linear", antialias=1, exclude_outside=1),
        node("Div", ["small", "full"], ["scaled"]),
        node("Conv", ["scaled", "kernel"], ["convolved"], pads=[1, 1, 1, 1]),
        node("Relu", ["convolved"], ["features"]),
        node("ReduceMean", ["features", "axes23"], ["embedding"], keepdims=0),
        node("Gemm", ["embedding", "head", "bias"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("Conv", ["features", "head4"], ["raw_maps"]),
        node("Relu", ["raw_maps"], ["maps"]),
        node("ReduceMax", ["maps", "axes23"], ["top"], keepdims=1),
        node("Add", ["top", "tiny"], ["divisor"]),
        node("Div", ["maps", "divisor"], ["heatmap"]),
        node("ReduceMean", ["embedding", "axis1"], ["gate_score"], keepdims=0),
    ]
    values = [
        constant("size", [1, 1, SIZE, SIZE], np.int64),
        constant("full", 255.0),
        constant("kernel", KERNEL),
        constant("axes23", [2, 3], np.int64),
        constant("axis1", [1], np.int64),
        constant("head", HEAD),
        constant("head4", HEAD[:, :, None, None]),
        constant("bias", BIAS),
        constant("tiny", 1e-6),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 1, "H", "W"])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in SHAPES.items()]
    graph = helper.make_graph(nodes, "tiny", [image], outputs, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _write_onnx(root: Path) -> tuple[FileEntry, ...]:
    (root / "artifacts/onnx-fp32.onnx").write_bytes(onnx_graph().SerializeToString())
    return (file_entry(root, "artifacts/onnx-fp32.onnx"),)


def _onnx_outputs(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_graph().SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(SHAPES, session.run(list(SHAPES), {"image": pixels[None, None]}), strict=True))


def _write_openvino(root: Path) -> tuple[FileEntry, ...]:
    import openvino
    import torch

    image = torch.zeros(1, 1, 40, 30, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = openvino.convert_model(torch_twin(), example_input=image, input=[1, 1, -1, -1])
    model.inputs[0].set_names({"image"})
    for port, name in zip(model.outputs, SHAPES, strict=True):
        port.set_names({name})
    openvino.save_model(model, root / "artifacts/openvino-fp32.xml", compress_to_fp16=False)
    return tuple(file_entry(root, f"artifacts/openvino-fp32.{end}") for end in ("xml", "bin"))


def _traced() -> Any:
    import torch

    image = torch.zeros(1, 1, 40, 30, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.trace(torch_twin(), image))


def _write_torchscript(root: Path) -> tuple[FileEntry, ...]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(_traced(), str(root / "artifacts/torchscript-fp32.pt"))
    return (file_entry(root, "artifacts/torchscript-fp32.pt"),)


def _write_lite(root: Path) -> tuple[FileEntry, ...]:
    _traced()._save_for_lite_interpreter(str(root / "artifacts/lite-fp32.ptl"))
    return (file_entry(root, "artifacts/lite-fp32.ptl"),)


_WRITERS = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "torchscript": _write_torchscript,
    "lite": _write_lite,
}

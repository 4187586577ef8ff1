"""A written file, whoever wrote it: checked through its runtime, with nothing of a GPU or of training, repeatable."""

from __future__ import annotations

import io
import pickletools
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from export import DeployableGraph, ExportError
from export.build_int8 import settings_of
from export.formats import WRITERS
from export.formats.answering import check_answers
from export.formats.lite import BYTECODE_VERSIONS
from export.graph import OUTPUT_NAMES, output_shapes
from export.quantization.layers import find_layers
from export.quantization.onnx_weights import write_half as write_half_onnx
from export.quantization.openvino_int8 import write_half as write_half_openvino
from export.quantization.quantizers import open_quantizer
from export.quantization.sensitivity import mean_inputs
from tests.export.making import SIZE, random_image
from train.run import file_sha256

FORMATS = ("onnx", "openvino", "torchscript", "lite")
FILES = [*((f, "fp32") for f in FORMATS), ("onnx", "fp16"), ("openvino", "fp16"), *((f, "int8") for f in FORMATS)]


@pytest.fixture(scope="module")
def graph(classifier: nn.Sequential) -> DeployableGraph:
    return DeployableGraph(classifier, size=SIZE, normalization="per_image", temperature=1.5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, graph: DeployableGraph) -> tuple[Path, Path]:
    """Every format and precision, twice in one process."""
    root = tmp_path_factory.mktemp("written")
    write_all(graph, root / "first")
    write_all(graph, root / "second")
    return root / "first", root / "second"


def path_of(folder: Path, format_: str, precision: str) -> Path:
    return folder / f"{format_}-{precision}{WRITERS[format_].suffixes[0]}"


def write_all(graph: DeployableGraph, folder: Path) -> None:
    (folder / "work").mkdir(parents=True)
    images = tuple(random_image(SIZE, SIZE, seed) for seed in range(4))
    layers, means = find_layers(graph), dict(mean_inputs(graph, images))
    for format_ in FORMATS:
        fp32 = path_of(folder, format_, "fp32")
        WRITERS[format_].write(graph, fp32)
        quantizer = open_quantizer(format_, graph, layers, images, means, fp32, folder / "work")
        quantizer.write(path_of(folder, format_, "int8"), settings_of(format_, {}))
    write_half_onnx(path_of(folder, "onnx", "fp32"), path_of(folder, "onnx", "fp16"))
    write_half_openvino(path_of(folder, "openvino", "fp32"), path_of(folder, "openvino", "fp16"))


@pytest.mark.parametrize(("format_", "precision"), FILES)
def test_two_builds_in_one_process_give_the_same_bytes(
    format_: str, precision: str, written: tuple[Path, Path]
) -> None:
    for suffix in WRITERS[format_].suffixes:
        first, second = (path_of(folder, format_, precision).with_suffix(suffix) for folder in written)
        assert file_sha256(first) == file_sha256(second)


@pytest.mark.parametrize(("format_", "precision"), FILES)
def test_what_was_written_passes_its_own_check(
    format_: str, precision: str, written: tuple[Path, Path], graph: DeployableGraph
) -> None:
    WRITERS[format_].check(path_of(written[0], format_, precision), output_shapes(graph))
    shapes = {**output_shapes(graph), "embedding": (1, 7)}
    with pytest.raises(ExportError, match="other"):
        WRITERS[format_].check(path_of(written[0], format_, precision), shapes)


@pytest.mark.parametrize("format_", FORMATS)
def test_another_kind_of_file_is_told_apart(format_: str, tmp_path: Path, graph: DeployableGraph) -> None:
    path = path_of(tmp_path, format_, "fp32")
    path.write_bytes(b"no model at all")
    with pytest.raises(ExportError, match=path.name):
        WRITERS[format_].check(path, output_shapes(graph))


class _Otherwise(nn.Module):
    """The graph, its outputs changed."""

    def __init__(self, graph: DeployableGraph, order: tuple[int, ...], scale: float = 1.0) -> None:
        super().__init__()
        self.graph, self.order, self.scale = graph, order, scale

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs = self.graph(image)
        return tuple(outputs[number] * self.scale for number in self.order)


@pytest.mark.parametrize("suffix", [".pt", ".ptl"])
@pytest.mark.parametrize(
    ("order", "scale", "said"),
    [
        ((1, 0, 2, 3, 4), 1.0, "probabilities"),
        ((0, 3, 2, 1, 4), 1.0, "shape"),
        ((0, 1, 2, 3), 1.0, "4 values"),
        ((0, 1, 2, 3, 4), 1.5, "outside 0..1|sum to 1.5"),
    ],
)
def test_torch_files_with_other_outputs_are_found(
    suffix: str, order: tuple[int, ...], scale: float, said: str, tmp_path: Path, graph: DeployableGraph
) -> None:
    module = _Otherwise(graph, order, scale)
    traced = torch.jit.trace(module, torch.zeros(1, 1, 60, 50, dtype=torch.uint8), check_trace=False)
    path = tmp_path / f"theirs{suffix}"
    if suffix == ".pt":
        traced.save(str(path))
    else:
        traced._save_for_lite_interpreter(str(path))
    with pytest.raises(ExportError, match="other outputs") as raised:
        WRITERS["torchscript" if suffix == ".pt" else "lite"].check(path, output_shapes(graph))
    assert any(words in str(raised.value.got) for words in said.split("|"))


def test_a_file_of_one_size_alone_is_found() -> None:
    def fixed(image: Tensor) -> tuple[Tensor, ...]:
        return (image.reshape(1, 97 * 128).float(),) * len(OUTPUT_NAMES)

    with pytest.raises(ExportError, match="other outputs"):
        check_answers(fixed, "theirs.pt")
    with pytest.raises(ExportError, match="does not run"):
        check_answers(lambda image: image.reshape(3, 3), "theirs.pt")


@pytest.mark.parametrize("version", [3, 10])
def test_bytecode_that_android_does_not_load_is_refused(
    version: int, tmp_path: Path, written: tuple[Path, Path], graph: DeployableGraph
) -> None:
    """The number that a file begins its bytecode with, changed in the file."""
    reader = torch._C.PyTorchFileReader(str(path_of(written[0], "lite", "fp32")))
    stream = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(stream)
    for name in reader.get_all_records():
        data = bytes(reader.get_record(name))
        if name == "bytecode.pkl":
            _, number, at = next(found for found in pickletools.genops(data) if found[0].name == "BININT1")
            assert number in BYTECODE_VERSIONS and at is not None
            data = data[: at + 1] + bytes([version]) + data[at + 2 :]
        if name not in ("version", "byteorder", ".data/serialization_id"):
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    path = tmp_path / "theirs.ptl"
    path.write_bytes(stream.getvalue())
    with pytest.raises(ExportError, match="bytecode version that PyTorch Android") as raised:
        WRITERS["lite"].check(path, output_shapes(graph))
    assert raised.value.got == str(version)


def test_nothing_of_a_gpu_or_of_training_is_in_a_file(written: tuple[Path, Path]) -> None:
    folder = written[0]
    for precision in ("fp32", "int8"):
        modules = [
            torch.jit.load(str(path_of(folder, "torchscript", precision))),
            torch.jit.load(str(path_of(folder, "lite", precision))),
        ]
        for module in modules:
            tensors = [*module.parameters(), *module.buffers()]
            assert all(t.device.type == "cpu" and not t.requires_grad for t in tensors)
            assert not any("Dropout" in str(m.original_name) for m in module.modules())
            assert not getattr(module, "training", False), "a frozen module has no such mode any more"
            graph = module.inlined_graph  # its nodes live as long as it is held
            code = str(graph)
            assert "cuda" not in code.lower() and "aten::dropout" not in code
            for node in graph.findAllNodes("prim::Constant"):
                if node.outputsSize() == 1 and node.output().type().kind() == "DeviceObjType":
                    assert node.s("value") == "cpu"
    for precision in ("fp32", "fp16", "int8"):
        model = onnx.load(str(path_of(folder, "onnx", precision)))
        kinds = {node.op_type for node in model.graph.node}
        assert kinds and not kinds & {"Dropout", "Gradient"} and not model.training_info
        assert not any(
            attribute.name == "training_mode" and attribute.i
            for node in model.graph.node
            for attribute in node.attribute
        )
        text = path_of(folder, "openvino", precision).read_text()
        assert "<layer" in text and "Dropout" not in text and "cuda" not in text.lower()


def test_a_graph_of_a_training_model_with_gradients_is_a_finished_one(classifier: nn.Sequential) -> None:
    classifier.train()
    classifier.requires_grad_(True)
    graph = DeployableGraph(classifier, size=SIZE, normalization="per_image")
    assert not any(p.requires_grad for p in graph.parameters())
    assert not any(isinstance(m, nn.modules.dropout._DropoutNd) for m in graph.modules())
    assert {t.device.type for t in (*graph.parameters(), *graph.buffers())} == {"cpu"}
    classifier.eval()

"""What is written answers as the eager graph does, names no machine, and comes out the same twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export import DeployableGraph, ExportError
from export.default_formats import DEFAULT_FORMATS
from export.formats import WRITERS
from export.formats.onnx import check_file
from export.graph import OUTPUT_NAMES
from tests.export.making import SIZE, make_classifier, random_image
from train.run import file_sha256

FORMATS = sorted(set(WRITERS) - {"executorch"})  # that one has an environment of its own: test_executorch.py
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def graph(classifier: nn.Sequential) -> DeployableGraph:
    return DeployableGraph(classifier, size=SIZE, normalization="imagenet", temperature=1.5)


@pytest.mark.parametrize("format_", FORMATS)
def test_reproducible_and_without_paths_of_this_machine(format_: str, graph: DeployableGraph, tmp_path: Path) -> None:
    writer = WRITERS[format_]
    hashes = []
    for attempt in ("first", "second"):
        path = tmp_path / attempt / f"model{writer.suffixes[0]}"
        path.parent.mkdir()
        writer.write(graph, path)
        files = sorted(path.parent.iterdir())
        assert {file.suffix for file in files} == set(writer.suffixes)
        hashes.append([file_sha256(file) for file in files])
        for file in files:
            content = file.read_bytes()
            for trace in (str(REPOSITORY), str(tmp_path), "site-packages", "stack_trace"):
                assert trace.encode() not in content, f"{file.name} names {trace}"
    assert hashes[0] == hashes[1]


def test_onnx_file_is_one_plain_opset_18_file(graph: DeployableGraph, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    WRITERS["onnx"].write(graph, path)
    model = onnx.load(str(path), load_external_data=False)
    assert [(o.domain, o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")] == [("", 18)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(node.op_type == "Dropout" for node in model.graph.node)
    model.graph.output[0].name, model.graph.output[1].name = "a", "b"
    for node in model.graph.node:
        for number, name in enumerate(node.output):
            node.output[number] = {"probabilities": "a", "logits": "b"}.get(name, name)
        for number, name in enumerate(node.input):
            node.input[number] = {"probabilities": "a", "logits": "b"}.get(name, name)
    onnx.save_model(model, str(path))
    with pytest.raises(ExportError, match="other inputs or outputs"):
        check_file(path)


def test_lite_bytecode_is_one_that_android_loads(graph: DeployableGraph, tmp_path: Path) -> None:
    from torch.jit.mobile import _get_model_bytecode_version

    path = tmp_path / "model.ptl"
    WRITERS["lite"].write(graph, path)
    assert 4 <= _get_model_bytecode_version(str(path)) <= 9


@pytest.mark.parametrize("loaded_before", [False, True])
def test_conversion_sends_nothing_and_leaves_nothing_in_the_home_folder(loaded_before: bool, tmp_path: Path) -> None:
    """A fresh process with an empty home folder: the tools' telemetry takes that for consent unless declined."""
    home = tmp_path / "home"
    home.mkdir()
    code = (
        f"{'import openvino_telemetry' if loaded_before else 'pass'}\n"
        "import sys, torch\nfrom torch import nn\nfrom pathlib import Path\n"
        "from export import DeployableGraph\nfrom export.formats import WRITERS\n"
        "head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))\n"
        "g = DeployableGraph(nn.Sequential(nn.Conv2d(3, 4, 3), head), size=32, normalization='imagenet')\n"
        f"WRITERS['openvino'].write(g, Path({str(tmp_path / 'model.xml')!r}))\n"
        "telemetry = sys.modules['openvino_telemetry']\n"
        "assert telemetry is None or not telemetry.Telemetry().consent\n"
        "assert 'openvino.tools.ovc' in sys.modules, 'nothing was converted: the test showed nothing'\n"
    )
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert not (home / "intel").exists()


def test_efficientnet_b1_in_every_format(tmp_path: Path) -> None:
    """The release model's architecture: every fp32 format within 1e-4 of eager, at sizes of all kinds."""
    from edge_runtime.backends import BACKENDS
    from edge_runtime.manifest import Artifact, FileEntry, GoldenAgreement, Validation
    from tests.export.manifests import manifest_for

    graph = DeployableGraph(make_classifier("efficientnet_b1"), size=SIZE, normalization="per_image", temperature=1.2)
    images = [random_image(h, w, seed) for seed, (h, w) in enumerate([(64, 64), (211, 97), (40, 300), (33, 45)])]
    expected = [[t.numpy() for t in graph(torch.from_numpy(image)[None, None])] for image in images]
    spread = np.ptp([outputs[0] for outputs in expected], axis=0).max()
    assert spread > 1e-2, "answers that do not depend on the image would agree whatever the formats do"
    for format_ in DEFAULT_FORMATS:
        writer = WRITERS[format_]
        path = tmp_path / f"{format_}-fp32{writer.suffixes[0]}"
        writer.write(graph, path)
        artifact = Artifact(
            name=f"{format_}-fp32", format=format_, precision="fp32",
            files=tuple(FileEntry(path=path.with_suffix(s).name, bytes=1, sha256="0" * 64) for s in writer.suffixes),
            golden_agreement=GoldenAgreement(max_abs_probability_difference=1e-4, differing_decisions=0),
            parity=None, validated_on=Validation(cpu="", machine="", cpu_features=(), runtime_versions={}),
            lite=None,
        )  # fmt: skip
        kind = next(backend for backend in BACKENDS.values() if backend.format == format_)
        backend = kind(path, artifact, manifest_for(graph, artifact), 2)
        for image, wanted in zip(images, expected, strict=True):
            got = backend.run(image[None, None])
            for name, value in zip(OUTPUT_NAMES, wanted, strict=True):
                limit = 1e-4 if name == "probabilities" else 1e-3 * max(1.0, float(np.abs(value).max()))
                assert np.abs(got[name] - value).max() <= limit, (format_, name, image.shape)
            assert got["probabilities"].argmax() == wanted[0].argmax()
        backend.close()

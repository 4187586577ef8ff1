"""Somebody else's classifier: a short adapter and a short run.json, through build, int8, parity."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edge_runtime.bundle import open_bundle
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.selftest import run_selftest
from export import ExportError, bench_bundle, build_bundle, check_parity, deployable_graph, load_run
from export.bench import EAGER
from tests.export.making import LABELS, SIZE
from tests.export.test_build import run_cli
from train.adapter import AdapterError
from train.preprocessing import Normalization, squish
from train.run import RunError, file_sha256
from train.torchvision_ops import declare_missing_operators

DOCS = Path(__file__).parents[2] / "docs/export.md"
ANOTHER_ARCHITECTURE = """
from pytorchcv.model_provider import get_model
from torch import nn

def build():
    network = get_model("shufflenetv2_wd2", num_classes=3)
    del network.features.final_pool
    return network.features, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), network.output)
"""


def documented(language: str) -> str:
    """The example of docs/export.md, as it stands there."""
    section = DOCS.read_text(encoding="utf-8").partition("## Somebody else's classifier")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.S)
    assert found is not None
    return found[1]


def adopt(folder: Path, code: str, **changes: object) -> tuple[Path, str]:
    """A run folder with random weights of the adapter's model, and the adapter's name."""
    folder.mkdir()
    adapter = folder.parent / f"{folder.name}_adapter.py"
    adapter.write_text(code)
    declare_missing_operators()
    space: dict[str, object] = {}
    exec(compile(code, str(adapter), "exec"), space)
    torch.manual_seed(11)
    parts = space["build"]()  # type: ignore[operator]
    model = parts[0] if len(parts) == 3 else nn.Sequential(*parts)
    model.train()
    with torch.no_grad():
        for _ in range(2):
            nn.Sequential(*parts[-2:])(torch.randn(8, 3, SIZE, SIZE))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "checkpoint.safetensors"
    )
    spec = json.loads(documented("json"))
    spec.update(
        checkpoint_sha256=file_sha256(folder / "checkpoint.safetensors"), synthetic=True, image_size=SIZE, **changes
    )
    (folder / "run.json").write_text(json.dumps(spec))
    return folder, f"{adapter}:build"


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return adopt(tmp_path_factory.mktemp("adopted") / "run", documented("python"))


def test_the_documented_example_is_built_quantized_and_judged(
    adopted: tuple[Path, str], data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """On the command line: a module that is no pytorchcv network, with a normalisation of its own."""
    run, adapter = adopted
    out = tmp_path / "bundle"
    arguments = ["build", "--run", run, "--data", data_folder, "--out", out, "--formats", "onnx,lite"]
    assert run_cli(*arguments, monkeypatch=monkeypatch) == 1
    assert "trained elsewhere" in capsys.readouterr().err
    arguments += ["--adapter", adapter, "--calibration", 9]
    assert run_cli(*arguments, monkeypatch=monkeypatch) == 0
    with open_bundle(out) as bundle:
        assert run_selftest(bundle).passed
        manifest = bundle.manifest
    assert [a.name for a in manifest.artifacts] == ["onnx-fp32", "lite-fp32", "onnx-int8"]
    preprocessing = manifest.input.preprocessing_in_graph
    assert (preprocessing.normalization, preprocessing.size) == ("mean_std", SIZE)
    assert preprocessing.mean == (0.5, 0.5, 0.5) and manifest.labels == LABELS
    assert manifest.provenance.architecture.startswith("build of adapter run_adapter.py, SHA-256")
    report = check_parity(out, load_run(run, adapter), data_folder, split="test", limit=4, accept_not_shown=True)
    judged = {artifact.name: artifact for artifact in report.artifacts}
    assert judged["onnx-fp32"].max_abs_probability_difference < 1e-4
    assert judged["lite-fp32"].max_abs_probability_difference < 1e-4


def test_the_graph_answers_as_their_model(adopted: tuple[Path, str]) -> None:
    run = load_run(*adopted)
    graph = deployable_graph(run)
    image = torch.randint(0, 256, (1, 1, 90, 70), dtype=torch.uint8)
    x = squish(image, SIZE) / 255
    with torch.no_grad():
        wanted = run.load_model()(((x - 0.5) / 0.25).expand(-1, 3, -1, -1))
    torch.testing.assert_close(graph(image).logits, wanted, atol=1e-4, rtol=1e-4)
    assert str(run) == str(adopted[0]) and Path(run) == adopted[0] and load_run(run) is run


def test_another_pytorchcv_architecture(tmp_path: Path, data_folder: Path) -> None:
    run, adapter = adopt(tmp_path / "shuffle", ANOTHER_ARCHITECTURE)
    loaded = load_run(run, adapter)
    result = build_bundle(
        loaded, data_folder, tmp_path / "bundle", formats=["onnx", "openvino", "torchscript"], int8=True, calibration=9
    )
    assert result.manifest.name == "shuffle"
    names = [a.name for a in result.manifest.artifacts]
    assert names == ["onnx-fp32", "openvino-fp32", "torchscript-fp32", "onnx-int8", "openvino-int8"]
    report = check_parity(tmp_path / "bundle", loaded, data_folder, split="test", limit=4, accept_not_shown=True)
    fp32 = [artifact for artifact in report.artifacts if artifact.name.endswith("fp32")]
    assert len(fp32) == 3 and all(artifact.max_abs_probability_difference < 1e-4 for artifact in fp32)
    timed = bench_bundle(
        tmp_path / "bundle", run=loaded, artifacts=["onnx-fp32"], threads=[1], runs=4, rounds=2, image=(80, 70)
    )
    assert [row.name for row in timed.rows] == ["onnx-fp32", EAGER], "the process of torch loads the adapter anew"
    assert [row.error for row in timed.rows] == [None, None] and all(row.p50_ms for row in timed.rows)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build():\n    raise KeyError('weights')", "KeyError: 'weights'"),
        ("import nothing_like_it", "cannot be imported"),
        ("build = 3", "has no function build"),
        ("def build():\n    return 1", "returned something else"),
        (
            "from torch import nn\ndef build():\n    return nn.Conv2d(3, 4, 3), nn.Linear(9, 3)",
            "does not fit the model",
        ),
    ],
)
def test_an_adapter_that_is_wrong_says_how(code: str, message: str, adopted: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(code)
    with pytest.raises(AdapterError) as raised:
        load_run(adopted[0], f"{tmp_path / 'wrong.py'}:build").load_model()
    assert message in str(raised.value)


def test_a_forgotten_activation_is_found(adopted: tuple[Path, str], tmp_path: Path) -> None:
    """Body and head are not the model: something between its features and its classifier was left out."""
    wrong = documented("python").replace("return model, model.features", "return model, model.features[:-1]")
    assert wrong != documented("python")
    (tmp_path / "wrong.py").write_text(wrong)
    with pytest.raises(AdapterError, match="do not answer as the whole model"):
        load_run(adopted[0], f"{tmp_path / 'wrong.py'}:build").load_model()


def test_a_pooled_body_and_another_number_of_classes_are_found(adopted: tuple[Path, str], tmp_path: Path) -> None:
    pooled = documented("python").replace(
        "return model, model.features, head", "return model, nn.Sequential(model.features, head[0], head[1]), head[2]"
    )
    assert pooled != documented("python")
    (tmp_path / "pooled.py").write_text(pooled)
    with pytest.raises(AdapterError, match="no feature map"):
        load_run(adopted[0], f"{tmp_path / 'pooled.py'}:build").load_model()
    spec = json.loads((adopted[0] / "run.json").read_text())
    two = tmp_path / "two"
    two.mkdir()
    (two / "checkpoint.safetensors").write_bytes((adopted[0] / "checkpoint.safetensors").read_bytes())
    (two / "run.json").write_text(json.dumps({**spec, "labels": ["a", "b"]}))
    with pytest.raises(AdapterError, match="no logits of the run's classes"):
        load_run(two, adopted[1]).load_model()


@pytest.mark.parametrize(
    "changes",
    [
        {"normalization": "imagenet"},
        {"mean": None},
        {"std": [0.1, 0.2]},
        {"normalization": "of their own"},
        {"batch_size": 3},
        {"labels": ["one"]},
    ],
)
def test_a_short_run_json_that_is_wrong_says_how(
    changes: dict[str, object], adopted: tuple[Path, str], tmp_path: Path
) -> None:
    spec = json.loads((adopted[0] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**spec, **changes}))
    with pytest.raises(RunError, match=r"run\.json"):
        load_run(tmp_path, adopted[1])


def test_adapters_are_named_as_file_and_function(adopted: tuple[Path, str], tmp_path: Path) -> None:
    for named in ("adapter.py", ":build", "adapter.py:not a name", str(tmp_path / "absent.py:build")):
        with pytest.raises(AdapterError):
            load_run(adopted[0], named)
    with pytest.raises(EdgeRuntimeError, match="trained elsewhere"):
        load_run(adopted[0]).load_model()
    with pytest.raises(ExportError, match="body and a head"):
        from export import DeployableGraph

        DeployableGraph(nn.Linear(3, 3), size=SIZE, normalization="imagenet")


def test_a_normalisation_of_its_own() -> None:
    own = Normalization("mean_std", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    out = own(torch.full((1, 1, 2, 2), 127.5))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.0, 0.5, 2 / 3]))
    with pytest.raises(ValueError, match="mean_std alone"):
        Normalization("imagenet", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="mean_std alone"):
        Normalization("mean_std")
    with pytest.raises(ValueError, match="above 0"):
        Normalization("mean_std", (0.5, 0.5, 0.5), (0.5, 0.0, 0.5))

"""Quantization-aware fine-tuning: the training, its file, and what ladder and build make of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from export.build import build_bundle
from export.errors import ExportError
from export.graph import DeployableGraph, deployable_graph
from export.quantization.fine_tuning import fine_tune
from export.quantization.judging import Target
from export.quantization.ladder import fine_tuned
from export.quantization.layers import find_layers
from export.quantization.quantize import quantize_run
from export.quantization.settings import PLAIN
from export.quantization.tuned_weights import Tuned, load_tuned, save_tuned
from export.quantization.weights import rounded
from tests.export.making import ARCHITECTURE, SIZE, make_classifier, make_dataset, make_run, random_image
from train.data.tables import load_dataset
from train.recipe import load_recipe
from train.run import load_run


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [random_image(SIZE, SIZE, seed) for seed in range(6)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "phantoms", (4, 2, 3))


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    folder = make_run(tmp_path / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, dataset)
    spec = msgspec.json.decode((folder / "run.json").read_bytes())
    recipe = msgspec.to_builtins(load_recipe("quick", ("batch_size=4",)))
    (folder / "run.json").write_bytes(msgspec.json.encode({**spec, "recipe": recipe}))
    return folder


def strayed(graph: DeployableGraph, by: float) -> DeployableGraph:
    """A graph whose weights went so far that nothing recognizes them by the first one's."""
    generator = torch.Generator().manual_seed(5)
    state = graph.state_dict()
    moved = DeployableGraph(make_classifier(ARCHITECTURE), size=SIZE, normalization="per_image", temperature=1.3)
    moved.load_state_dict(
        {
            name: value + by * value.std() * torch.randn(value.shape, generator=generator)
            if name.endswith("weight") and value.dim() > 1
            else value
            for name, value in state.items()
        }
    )
    return moved


def test_a_file_of_fine_tuned_weights_comes_back_and_is_half_the_size(run: Path, tmp_path: Path) -> None:
    spec = load_run(run).spec
    graph = deployable_graph(load_run(run))
    settings = fine_tuned(PLAIN, 3)
    tuned = Tuned(strayed(graph, 0.01), settings, 1e-5, 0.25, "CPU")
    path = tmp_path / "tuned.safetensors"
    save_tuned(path, graph, tuned, spec.checkpoint_sha256)
    back = load_tuned(path, graph, spec.checkpoint_sha256)
    assert (back.settings, back.learning_rate, back.loss, back.device) == (settings, 1e-5, 0.25, "CPU")
    for name, value in tuned.graph.state_dict().items():
        moved = (value - graph.state_dict()[name]).abs().max()
        assert (back.graph.state_dict()[name] - value).abs().max() <= 1e-3 * moved
    assert path.stat().st_size < 0.6 * (run / "checkpoint.safetensors").stat().st_size
    assert sorted(tmp_path.glob("*.part")) == []
    with pytest.raises(ExportError, match="from another checkpoint"):
        load_tuned(path, graph, "0" * 64)
    other = DeployableGraph(make_classifier("resnet10"), size=SIZE, normalization="per_image")
    with pytest.raises(ExportError, match="another network"):
        load_tuned(path, other, spec.checkpoint_sha256)
    for content in (b"", path.read_bytes()[:200], (run / "checkpoint.safetensors").read_bytes()):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ExportError, match="no file of fine-tuned weights"):
            load_tuned(tmp_path / "bad", graph, spec.checkpoint_sha256)


def test_layers_left_in_float_stay_there_however_far_weights_went(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an OpenVINO file a layer is told by its weights: by the full model's it was not found, and went to int8."""
    import openvino

    import export.quantization.climbing as climbing

    graph = deployable_graph(load_run(run))
    layers = find_layers(graph)
    convolutions = [layer.name for layer in layers if layer.kind != "head"]
    settings = replace(PLAIN, rung="all but one in float", float_layers=tuple(convolutions[:-1]))
    path = tmp_path / "tuned.safetensors"
    far = Tuned(strayed(graph, 0.3), fine_tuned(settings, 1), 1e-5, 0.1, "CPU")
    save_tuned(path, graph, far, load_run(run).spec.checkpoint_sha256)
    monkeypatch.setattr(climbing, "rungs", lambda *_: iter([settings]))
    monkeypatch.setattr(climbing, "choose", lambda tried, _target: (tried[-1], True))
    result = quantize_run(
        run, dataset, formats=("openvino",), target=Target(0.5, 100), calibration=6, fine_tuned_weights=path
    )
    assert result.plan.formats["openvino"].settings.rung == "fine-tuned, all but one in float"
    build_bundle(run, dataset, tmp_path / "bundle", formats=("openvino",))
    model = openvino.Core().read_model(tmp_path / "bundle/artifacts/openvino-int8.xml")
    rounded_values = [op for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    assert len(convolutions) > 8
    assert len(rounded_values) == 1, "the input of the one layer left in int8"


def test_fine_tuning_by_itself_and_the_ladder_on_its_file(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    import export.quantization.climbing as climbing
    from export.cli import commands

    def call(*arguments: str) -> int:
        result = CliRunner().invoke(commands, [*arguments, "--run", str(run), "--data", str(dataset)],
                                    standalone_mode=False, catch_exceptions=False)  # fmt: skip
        outputs.append(result.output)
        return result.return_value

    outputs: list[str] = []
    tuning = ("fine-tune", "--calibration", "6", "--epochs", "2", "--cache", str(tmp_path / "cache"))
    tuned = tmp_path / "tuned.safetensors"
    with pytest.raises(ExportError, match=r"has no such rung; got: the best.*expected: plain; ") as caught:
        call(*tuning, "--rung", "the best", "--out", str(tuned))
    assert "percentile ranges" in str(caught.value) and not tuned.exists()
    for nowhere in (tmp_path, tmp_path / "none" / "tuned.safetensors"):
        with pytest.raises(ExportError, match="no place to go"):
            call(*tuning, "--rung", "plain", "--out", str(nowhere))
    assert call(*tuning, "--rung", "plain", "--out", str(tuned)) == 0
    assert "epoch 2 of 2: loss" in outputs[-1] and tuned.is_file()

    monkeypatch.setattr(climbing, "rungs", lambda *_: iter([PLAIN]))
    monkeypatch.setattr("export.quantization.fine_tuning.fine_tune", None)  # nothing is trained a second time
    arguments = ("--formats", "openvino", "--calibration", "6", "--agreement", "0.5", "--drop", "100")
    assert call("quantize", *arguments, "--fine-tuned", str(tuned)) == 0
    report = msgspec.json.decode((run / "quantization.json").read_bytes())
    assert [r["settings"]["rung"] for r in report["rungs"]["openvino"]] == ["plain", "naive", "fine-tuned, plain"]
    assert report["rungs"]["openvino"][2]["settings"]["fine_tuning_epochs"] == 2


def test_weights_tuned_for_one_format_are_tried_with_the_settings_of_another(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO's ranges are percentiles, which torch does not offer."""
    import export.quantization.climbing as climbing

    graph = deployable_graph(load_run(run))
    openvino = replace(PLAIN, rung="calm", calibration="percentile", bias_correction="full")
    lite = replace(openvino, calibration="histogram", bias_correction="weights")
    path = tmp_path / "tuned.safetensors"
    tuned = Tuned(strayed(graph, 0.01), fine_tuned(openvino, 1), 1e-5, 0.1, "CPU")
    save_tuned(path, graph, tuned, load_run(run).spec.checkpoint_sha256)
    monkeypatch.setattr(climbing, "rungs", lambda *_: iter([PLAIN, lite]))
    result = quantize_run(
        run, dataset, formats=("lite",), target=Target(0.5, 100), calibration=6, fine_tuned_weights=path
    )
    (last,) = [rung for rung in result.climbs[0].rungs if rung.settings.rung == "fine-tuned, calm"]
    assert last.failure is None and last.settings.calibration == "histogram"


def test_fine_tuned_weights_are_kept_and_build_replays_them(
    run: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import numpy_helper

    import export.quantization.climbing as climbing

    monkeypatch.setattr(climbing, "rungs", lambda *_: iter([PLAIN]))
    monkeypatch.setattr(climbing, "choose", lambda tried, _target: (tried[-1], True))
    result = quantize_run(
        run, dataset, formats=("onnx",), target=Target(0.5, 100), calibration=6, fine_tuning="always",
        fine_tuning_epochs=1, cache=tmp_path / "cache",
    )  # fmt: skip
    plan = result.plan.formats["onnx"]
    assert plan.settings.fine_tuning_epochs == 1 and (run / plan.weights_file).is_file()
    assert not result.climbs[0].untried
    build_bundle(run, dataset, tmp_path / "tuned", formats=("onnx",))
    assert result.climbs[0].tuned is not None
    tuned = result.climbs[0].tuned.graph.state_dict()["head.hidden.1.weight"].numpy()
    own = deployable_graph(load_run(run)).state_dict()["head.hidden.1.weight"].numpy()

    def stored(path: Path) -> np.ndarray:
        values = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
        integers = values["head.hidden.1.weight_int8"].astype(np.float32)
        return integers * values["head.hidden.1.weight_scale"]

    written = stored(tmp_path / "tuned/artifacts/onnx-int8.onnx")
    assert np.abs(written - rounded(tuned)).max() < 1e-6
    assert np.abs(written - rounded(own)).max() > 1e-6, "the run's own weights differ from the tuned"
    (run / plan.weights_file).write_bytes(b"other")
    with pytest.raises(ExportError, match=r"is not the file that quantization\.toml names"):
        build_bundle(run, dataset, tmp_path / "again", formats=("onnx",))


def test_fine_tuning_moves_the_answers_towards_the_full_model(
    run: Path, dataset: Path, images: list[np.ndarray]
) -> None:
    from train.recipe import load_recipe

    graph = DeployableGraph(make_classifier(ARCHITECTURE), size=SIZE, normalization="per_image")
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    settings = replace(fine_tuned(PLAIN), fine_tuning_epochs=1)
    recipe = load_recipe("quick", ("batch_size=4",))
    told: list[tuple[int, int, float]] = []
    tuned = fine_tune(
        graph, find_layers(graph), settings, load_dataset(dataset), recipe, images,
        on_epoch=lambda *what: told.append(what),
    ).graph  # fmt: skip
    assert [what[:2] for what in told] == [(1, 1)] and told[0][2] > 0
    after = tuned.state_dict()
    assert set(after) == set(before), "no parametrization is left"
    assert all(torch.equal(before[name], value) for name, value in graph.state_dict().items()), "the teacher stays"
    moved = [name for name in before if name.endswith("weight") and not torch.equal(before[name], after[name])]
    assert len(moved) > 10
    with torch.inference_mode():
        for image in images:
            a, b = (g(torch.from_numpy(image)[None, None]).logits for g in (graph, tuned))
            assert torch.allclose(a, b, atol=0.5), "a small rate moves it a little"

"""Quantizers, the ladder, and the plan that a build repeats: real tools on a small network."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.selftest import ArtifactTest
from export.agreement import recommend_by_device
from export.build import build_bundle
from export.errors import ExportError
from export.formats import WRITERS
from export.graph import DeployableGraph
from export.quantization.climbing import Rung, choose, pareto
from export.quantization.judging import Figures, Judge, Target
from export.quantization.ladder import fine_tuned, rungs
from export.quantization.layers import find_layers, match_weights
from export.quantization.onnx_weights import write_half
from export.quantization.plan import PLAN_NAME, load_plan
from export.quantization.quantize import quantize_run
from export.quantization.quantizers import open_quantizer
from export.quantization.sensitivity import LayerNoise, mean_inputs, rank_layers, rank_weights
from export.quantization.settings import NAIVE, PLAIN, describe
from export.quantization.weights import corrected_bias, quantize_weight, rounded
from tests.export.making import ARCHITECTURE, SIZE, make_classifier, make_dataset, make_run, random_image
from train.model import build_classifier
from train.run import load_run

FORMATS = ("onnx", "openvino", "torchscript", "lite")
WEIGHTS_ALONE = replace(PLAIN, rung="weights alone", activations="float")


@pytest.fixture(scope="module")
def graph() -> DeployableGraph:
    return DeployableGraph(make_classifier(ARCHITECTURE), size=SIZE, normalization="per_image", temperature=1.3)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [random_image(SIZE, SIZE, seed) for seed in range(6)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "phantoms", (4, 2, 3))


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return make_run(tmp_path / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, dataset)


def figures(**values: float) -> Figures:
    base = {
        "agreement": 1.0, "drop_points": 0.0, "max_abs_difference": 0.0, "mean_abs_difference": 0.0, "logit_noise": 0.1,
        "pictures": 10, "p50_ms": 5.0, "fp32_p50_ms": 5.0, "megabytes": 10.0, "fp32_megabytes": 30.0,
    }  # fmt: skip
    return Figures(**{**base, **values})  # type: ignore[arg-type]


def test_weights_round_to_half_a_step_of_each_channel() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[1] *= 100
    integers, scale = quantize_weight(weight)
    assert integers.dtype == np.int8 and np.abs(integers).max() == 127
    error = np.abs(weight - rounded(weight)).reshape(4, -1).max(1)
    assert (error <= scale / 2 * 1.001).all()
    whole = np.abs(weight - rounded(weight, per_channel=False)).reshape(4, -1).max(1)
    assert whole[0] > 10 * error[0], "one scale for all ruins the small channels"


@pytest.mark.parametrize("groups", [1, 6])
def test_bias_correction_makes_a_constant_input_exact(groups: int) -> None:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(6, 6 // groups, 1, 1)).astype(np.float32)
    mean = generator.uniform(1, 5, 6).astype(np.float32)
    bias = generator.normal(size=6).astype(np.float32)
    changed = corrected_bias(weight, bias, mean, True, 7)
    x = torch.from_numpy(mean)[None, :, None, None]
    full, quantized = (
        torch.nn.functional.conv2d(x, torch.from_numpy(w), torch.from_numpy(b), groups=groups)
        for w, b in ((weight, bias), (rounded(weight, True, 7), changed))
    )
    assert torch.allclose(full, quantized, atol=1e-5)


def test_layers_have_their_kinds_and_are_found_again_by_their_weights(graph: DeployableGraph) -> None:
    torch.manual_seed(0)
    seen = find_layers(
        DeployableGraph(build_classifier("efficientnet_b0", 3).eval(), size=SIZE, normalization="imagenet")
    )
    count = {kind: sum(layer.kind == kind for layer in seen) for kind in ("stem", "depthwise", "gate", "head")}
    assert count == {"stem": 1, "depthwise": 16, "gate": 32, "head": 2}
    layers = find_layers(graph)
    factors = np.random.default_rng(0).uniform(0.1, 9, 1000).astype(np.float32)
    folded = {f"op{i}": la.weight * factors[: len(la.weight)].reshape(-1, *[1] * (la.weight.ndim - 1))
              for i, la in enumerate(layers)}  # fmt: skip
    assert match_weights(layers, folded) == {f"op{i}": layer.name for i, layer in enumerate(layers)}
    noise = np.random.default_rng(1).normal(size=layers[0].weight.shape).astype(np.float32)
    assert match_weights(layers, {"other": noise}) == {}


def test_the_layer_with_a_wild_channel_ranks_first(graph: DeployableGraph, images: list[np.ndarray]) -> None:
    classifier = make_classifier(ARCHITECTURE)
    convolutions = [n for n, m in classifier[0].named_modules() if isinstance(m, torch.nn.Conv2d)]
    victim = convolutions[3]
    with torch.no_grad():  # one weight a channel dwarfs the others: they round to nothing
        classifier[0].get_submodule(victim).weight[:, 0, 0, 0] *= 3000
    wild = DeployableGraph(classifier, size=SIZE, normalization="per_image")
    assert rank_weights(wild, images)[0].layer == f"body.{victim}"
    ranked = rank_layers(graph, images)
    assert {noise.layer for noise in ranked} == {layer.name for layer in find_layers(graph)}
    assert all(a.logit_noise >= b.logit_noise for a, b in pairwise(ranked))


@pytest.mark.parametrize("format_", FORMATS)
def test_int8_files_hold_int8_and_answer(
    format_: str, graph: DeployableGraph, images: list[np.ndarray], tmp_path: Path
) -> None:
    from export.quantization.quantize import run_skeleton
    from export.quantization.sets import SearchSet

    suffix = WRITERS[format_].suffixes[0]  # type: ignore[index]
    fp32 = tmp_path / f"fp32{suffix}"
    WRITERS[format_].write(graph, fp32)  # type: ignore[index]
    with torch.inference_mode():
        logits = np.stack([graph(torch.from_numpy(i)[None, None]).logits[0].double().numpy() for i in images])
    search = SearchSet(tuple(images), logits.argmax(1), np.ones(len(images), bool), logits, "0" * 64, 6)
    data = make_dataset(tmp_path / "data", (1, 1, 1))
    skeleton = run_skeleton(
        graph, load_run(make_run(tmp_path / "r", make_classifier(ARCHITECTURE), ARCHITECTURE, data)).spec
    )
    layers, means = find_layers(graph), mean_inputs(graph, images)
    quantizer = open_quantizer(format_, graph, layers, images, means, fp32, tmp_path)  # type: ignore[arg-type]
    judge = Judge(skeleton, search, format_, fp32)  # type: ignore[arg-type]
    two_parts = replace(WEIGHTS_ALONE, refined_layers=tuple(layer.name for layer in layers))
    noise = {}
    for name, settings in (("plain", PLAIN), ("alone", WEIGHTS_ALONE), ("two", two_parts)):
        path = tmp_path / f"{name}{suffix}"
        quantizer.write(path, settings)
        judged = judge.judge(path, "int8", Target())
        noise[name] = judged.logit_noise
        if name != "two":
            assert judged.megabytes < 0.33 * judged.fp32_megabytes, "weights are int8 throughout"
    judge.close()
    spread = float(logits.std())
    assert 0 < noise["two"] < 0.02 * noise["alone"], "the second part leaves next to nothing"
    assert noise["alone"] < 0.2 * spread
    assert noise["plain"] > noise["alone"]


_WRITE_TWO = """
import sys
from pathlib import Path
from msgspec.structs import replace
from export.formats import WRITERS
from export.graph import DeployableGraph, deployable_graph
from export.quantization.layers import find_layers
from export.quantization.quantizers import open_quantizer
from export.quantization.sensitivity import mean_inputs
from export.quantization.settings import PLAIN
from tests.export.making import ARCHITECTURE, SIZE, make_classifier, random_image

graph = DeployableGraph(make_classifier(ARCHITECTURE), size=SIZE, normalization="per_image")
images = [random_image(SIZE, SIZE, seed) for seed in range(3)]
layers, means, folder = find_layers(graph), mean_inputs(graph, images), Path(sys.argv[1])
for name in ("onnx", "openvino", "torchscript", "lite"):
    quantizer = open_quantizer(name, graph, layers, images, means, None, folder)
    quantizer.write(folder / f"{name}{WRITERS[name].suffixes[0]}", replace(PLAIN, float_kinds=("stem",)))
"""


def test_the_same_command_writes_the_same_int8_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-W", "ignore", "-c", _WRITE_TWO, str(tmp_path / name)], check=True)
        files = [name + suffix for name in FORMATS for suffix in WRITERS[name].suffixes]  # type: ignore[index]
        contents.append({file: (tmp_path / name / file).read_bytes() for file in files})
    assert [file for file in contents[0] if contents[0][file] != contents[1][file]] == []


def test_half_precision_halves_the_file(graph: DeployableGraph, tmp_path: Path) -> None:
    import onnxruntime

    WRITERS["onnx"].write(graph, tmp_path / "full.onnx")
    write_half(tmp_path / "full.onnx", tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.52 * (tmp_path / "full.onnx").stat().st_size
    image = random_image(90, 70)[None, None]
    full, half = (
        onnxruntime.InferenceSession(str(tmp_path / name)).run(["probabilities"], {"image": image})[0]
        for name in ("full.onnx", "half.onnx")
    )
    assert 0 < np.abs(full - half).max() < 5e-3


def test_the_fastest_rung_that_reaches_the_target_is_chosen() -> None:
    good = Rung(replace(PLAIN, rung="good"), figures(p50_ms=4.0))
    quick = Rung(replace(PLAIN, rung="quick"), figures(p50_ms=3.0, logit_noise=0.2))
    as_quick = Rung(replace(PLAIN, rung="as quick, less noise"), figures(p50_ms=3.1))
    wrong = Rung(replace(PLAIN, rung="wrong"), figures(p50_ms=1.0, agreement=0.9))
    dear = Rung(replace(PLAIN, rung="loses accuracy"), figures(p50_ms=1.0, drop_points=0.6))
    naive = Rung(NAIVE, figures(p50_ms=0.5))
    failed = Rung(PLAIN, None, "no such operator")
    everything = [good, quick, as_quick, wrong, dear, naive, failed]
    assert choose(everything, Target()) == (as_quick, True)
    assert choose([wrong, dear, failed], Target()) == (dear, False)
    with pytest.raises(ExportError, match="no such operator"):
        choose([failed], Target())
    assert good not in pareto(everything) and naive in pareto(everything)


def test_the_ladder_differs_by_format_and_ends_with_weights(graph: DeployableGraph, images: list[np.ndarray]) -> None:
    layers = find_layers(graph)
    activations, weights = rank_layers(graph, images), rank_weights(graph, images)
    names = {f: [s.rung for s in rungs(f, layers, activations, weights)] for f in FORMATS}  # type: ignore[arg-type]
    assert all(found[0] == "plain" and "weights alone" in found[-2] for found in names.values())
    assert all(len(set(found)) == len(found) for found in names.values())
    assert "entropy ranges" in names["onnx"] and "entropy ranges" not in names["openvino"]
    top = fine_tuned(PLAIN)
    assert top.fine_tuning_epochs > 0 and "fine-tuning" in describe(top)


def test_rungs_for_speed_leave_a_stated_share_of_the_arithmetic_in_float(
    graph: DeployableGraph, images: list[np.ndarray]
) -> None:
    layers = find_layers(graph)
    cost = {layer.name: layer.multiply_adds for layer in layers if layer.kind != "head"}
    stem = next(layer for layer in layers if layer.kind == "stem")
    assert stem.multiply_adds == stem.weight.size * (SIZE // 2) ** 2, "a stride of two"
    activations, weights = rank_layers(graph, images), rank_weights(graph, images)
    for format_ in ("onnx", "openvino", "lite"):
        quick = [s for s in rungs(format_, layers, activations, weights) if "arithmetic" in s.rung]  # type: ignore[arg-type]
        shares = [sum(cost[name] for name in s.float_layers) / sum(cost.values()) for s in quick]
        assert len(quick) >= 3 and shares == sorted(shares) and 0 < shares[0] <= 0.05 and 0.2 < shares[-1] <= 0.4
        assert all(s.activations == "int8" and set(s.refined_layers) & set(s.float_layers) for s in quick)
    # a noisy layer that costs next to nothing comes first
    one = layers[3].name
    wild = (replace_noise(activations, one, 1e3), weights)
    first = next(s for s in rungs("openvino", layers, *wild) if "arithmetic" in s.rung)
    assert (one in first.float_layers) == (cost[one] <= 0.05 * sum(cost.values()))


def replace_noise(ranked: tuple[LayerNoise, ...], layer: str, noise: float) -> tuple[LayerNoise, ...]:
    return tuple(
        sorted(
            (dataclasses.replace(n, logit_noise=noise) if n.layer == layer else n for n in ranked),
            key=lambda n: -n.logit_noise,
        )
    )


def test_entropy_ranges_cut_what_minimum_and_maximum_keep(
    graph: DeployableGraph, images: list[np.ndarray], tmp_path: Path
) -> None:
    """ONNX Runtime's default for it has as many bins as levels, and then cuts nothing."""
    from export.quantization.onnx_int8 import OnnxQuantizer

    WRITERS["onnx"].write(graph, tmp_path / "full.onnx")
    quantizer = OnnxQuantizer(tmp_path / "full.onnx", find_layers(graph), images, {}, tmp_path)
    entropy, widest = (quantizer._tensor_ranges(replace(PLAIN, calibration=method)) for method in ("entropy", "minmax"))
    width = {
        name: [float(np.ravel(r[name].range_value[1] - r[name].range_value[0])[0]) for r in (entropy, widest)]
        for name in entropy.keys()  # noqa: SIM118 - it is no dict
    }
    assert sum(a < 0.95 * b for a, b in width.values()) >= 5 and all(a <= 1.01 * b for a, b in width.values())


def test_accuracy_control_is_checked_and_bounded(tmp_path: Path) -> None:
    from export.quantization.accuracy_control import control_accuracy
    from export.quantization.ladder import controlled
    from export.quantization.sets import SearchSet

    torch.manual_seed(0)
    parts = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU()]
    body = torch.nn.Sequential(*parts, torch.nn.Conv2d(8, 9, 3))
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(9, 3))
    graph = DeployableGraph(torch.nn.Sequential(body, head).eval(), size=32, normalization="per_image")
    images = [random_image(32, 32, seed) for seed in range(4)]
    layers = find_layers(graph)
    activations, weights = rank_layers(graph, images), rank_weights(graph, images)
    with torch.inference_mode():
        logits = np.stack([graph(torch.from_numpy(i)[None, None]).logits[0].double().numpy() for i in images])
    search = SearchSet(tuple(images), logits.argmax(1), np.ones(len(images), bool), logits, "0" * 64, 4)
    WRITERS["openvino"].write(graph, tmp_path / "full.xml")
    start = controlled("openvino", layers, activations, weights)
    start = replace(start, calibration="minmax", bias_correction="fast", float_kinds=(), float_layers=())
    with pytest.raises(ExportError, match="accuracy control was stopped"):
        control_accuracy(
            tmp_path / "full.xml", layers, images, search, start, Target(1.0, 0), temperature=1.3, seconds=0.0
        )
    # what nothing reaches: NNCF returns a model all the same, without a word
    found = control_accuracy(
        tmp_path / "full.xml", layers, images[:2], search, start, Target(1.1, 0), temperature=1.3, seconds=300
    )
    convolutions = {layer.name for layer in layers if layer.kind != "head"}
    assert set(found.float_layers) & convolutions, "the best that NNCF found, and its word is not taken for it"
    easy = control_accuracy(
        tmp_path / "full.xml", layers, images[:2], search, start, Target(0.0, 0), temperature=1.3, seconds=300
    )
    assert not set(easy.float_layers) & convolutions, "where everything is allowed, nothing is put back"


def test_another_backend_is_a_candidate_without_a_file(
    run: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import export.quantization.climbing as climbing
    from edge_runtime.backends.variants import OpenVinoBf16Backend
    from edge_runtime.errors import BackendError
    from export.quantization.ladder_report import write_ladder_report

    monkeypatch.setattr(climbing, "rungs", lambda *_: iter([WEIGHTS_ALONE]))
    result = quantize_run(run, dataset, formats=("openvino",), target=Target(0.1, 100), calibration=6)
    (one,) = result.climbs
    assert [(v.backend, v.file) for v in one.variants] == [
        ("openvino-bf16", "fp32"), ("openvino-bf16", "weights alone"),
    ]  # fmt: skip
    for variant in one.variants:
        if variant.figures is None:
            assert "bfloat16" in str(variant.failure), "the only reason is a CPU without it"
        else:
            assert variant.figures.logit_noise > 1e-3, "float32 under another name"
    assert one.chosen.settings.rung == "weights alone" and "fine-tuning" in one.untried[0]
    page = write_ladder_report(result, run).read_text()
    assert "no file needed: fp32 on openvino-bf16" in page and "accuracy control was not tried" in page

    def refuse(*_: object) -> None:
        raise BackendError("this CPU does not compute in bfloat16")

    monkeypatch.setattr(OpenVinoBf16Backend, "_check_device", refuse)
    result = quantize_run(run, dataset, formats=("openvino",), target=Target(0.1, 100), calibration=6)
    assert [v.failure for v in result.climbs[0].variants] == ["this CPU does not compute in bfloat16"] * 2
    assert "not run: this CPU does not" in write_ladder_report(result, run).read_text()


def test_a_linear_layer_in_the_body_is_quantized_too(dataset: Path, tmp_path: Path) -> None:
    """Transformers have them; its bias correction takes the mean over all positions."""

    class Mixing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), Mixing(), torch.nn.Conv2d(8, 8, 3))
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    mixed = DeployableGraph(torch.nn.Sequential(body, head).eval(), size=32, normalization="imagenet")
    images = [random_image(32, 32, seed) for seed in range(3)]
    layers, means = find_layers(mixed), mean_inputs(mixed, images)
    assert means["body.2.mix"].shape == (8,)
    for format_ in ("lite", "torchscript"):
        quantizer = open_quantizer(format_, mixed, layers, images, means, None, tmp_path)  # type: ignore[arg-type]
        path = tmp_path / f"int8{WRITERS[format_].suffixes[0]}"  # type: ignore[index]
        quantizer.write(path, replace(PLAIN, bias_correction="weights"))
        assert path.stat().st_size > 1000


def test_quantize_writes_a_plan_that_build_repeats(run: Path, dataset: Path, tmp_path: Path) -> None:
    result = quantize_run(
        run, dataset, formats=("onnx", "lite"), target=Target(0.5, 100), calibration=6, stop_at_first=True
    )
    assert result.reached and [len(one.rungs) for one in result.climbs] == [1, 1]
    plan = load_plan(load_run(run))
    assert plan == result.plan and set(plan.formats) == {"onnx", "lite", "torchscript"}
    built = build_bundle(run, dataset, tmp_path / "bundle", fp16=True)
    names = [artifact.name for artifact in built.manifest.artifacts]
    assert {"onnx-fp16", "openvino-fp16", "onnx-int8", "openvino-int8", "lite-int8", "torchscript-int8"} <= set(names)
    assert built.manifest.recommended["phone"] == "lite-int8"
    assert built.manifest.recommended["gpu"] == "onnx-fp16"
    report = msgspec.json.decode((tmp_path / "bundle/reports/build.json").read_bytes())
    assert report["search_set"]["sha256"] == plan.search_sha256
    assert report["calibration_set"]["sha256"] == plan.calibration_sha256
    kept = build_bundle(run, dataset, tmp_path / "small", formats=("onnx", "lite"), keep=("onnx-int8", "lite-int8"))
    assert [a.name for a in kept.manifest.artifacts] == ["onnx-int8", "lite-int8"]
    assert kept.manifest.recommended["cpu"] == "onnx-int8"
    assert sorted(p.name for p in (tmp_path / "small/artifacts").iterdir()) == ["lite-int8.ptl", "onnx-int8.onnx"]


def test_int8_is_recommended_for_the_cpu_only_where_it_is_quicker(run: Path, dataset: Path) -> None:
    plan = quantize_run(
        run, dataset, formats=("onnx",), target=Target(0.5, 100), calibration=6, stop_at_first=True
    ).plan.formats["onnx"]
    tests = [
        ArtifactTest(f"onnx-{p}", "onnxruntime", p, "agrees", p50_ms=5.0, max_abs_probability_difference=0.0)  # type: ignore[arg-type]
        for p in ("fp32", "int8")
    ]
    for ratio, reached, expected in ((0.8, True, "onnx-int8"), (0.99, True, "onnx-fp32"), (0.8, False, "onnx-fp32")):
        changed = replace(plan, reached=reached, figures=figures(p50_ms=5.0 * ratio))
        assert recommend_by_device(tests, {"onnx": changed})["cpu"] == expected


def test_a_plan_of_another_checkpoint_is_refused(run: Path, dataset: Path, tmp_path: Path) -> None:
    quantize_run(run, dataset, formats=("onnx",), target=Target(0.5, 100), calibration=6, stop_at_first=True)
    text = (run / PLAN_NAME).read_text()
    checkpoint = load_run(run).spec.checkpoint_sha256
    (run / PLAN_NAME).write_text(text.replace(checkpoint, "0" * 64))
    with pytest.raises(ExportError, match="another checkpoint"):
        build_bundle(run, dataset, tmp_path / "bundle", formats=("onnx",))
    (run / PLAN_NAME).write_text("formats = [")
    with pytest.raises(ExportError, match="not a quantization plan"):
        build_bundle(run, dataset, tmp_path / "bundle", formats=("onnx",))
    assert not (tmp_path / "bundle").exists()


def test_a_target_out_of_reach_exits_10_and_keeps_the_best(
    run: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    import export.quantization.climbing as climbing
    from export.cli import commands

    monkeypatch.setattr(climbing, "rungs", lambda *_: iter([PLAIN]))
    monkeypatch.setattr("export.quantization.judging.Figures.reaches", lambda *_: False)
    arguments = ["--run", str(run), "--data", str(dataset), "--formats", "onnx", "--calibration", "6"]
    result = CliRunner().invoke(
        commands, ["quantize", *arguments, "--fine-tuning", "never"], standalone_mode=False
    )  # fmt: skip
    assert result.return_value == 10, result.output
    assert "The top rung, fine-tuning, was not tried" in result.output
    plan = load_plan(load_run(run))
    assert plan is not None and not plan.formats["onnx"].reached and plan.formats["onnx"].settings.rung == "plain"
    page = (run / "quantization.html").read_text()
    assert "Target not reached" in page and "http://" not in page and "https://" not in page


def test_data_of_other_classes_is_refused(run: Path, dataset: Path, tmp_path: Path) -> None:
    spec = msgspec.json.decode((run / "run.json").read_bytes())
    (run / "run.json").write_bytes(msgspec.json.encode({**spec, "labels": ["a", "b", "c"]}))
    with pytest.raises(EdgeRuntimeError, match="other classes"):
        quantize_run(run, dataset, calibration=6)
    assert not (run / PLAN_NAME).exists()

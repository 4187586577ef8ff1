"""`export explain`, `export bench`, `export add`: on the small bundle, with the real runtimes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_runtime.bundle import open_bundle
from edge_runtime.cpu import cpu_features
from export import ExportError
from export.add import add_artifact
from export.bench import EAGER, bench_bundle, bench_object, default_threads
from export.bench_chart import draw_bench
from export.errors import ParityFailure
from export.explain import explain_artifact, explanation_object
from export.explain_page import render_explanation
from export.layers import Quantizer, TracedPair, measure_layers
from export.parity_report import read_pictures
from tests.export.making import SIZE, random_image
from tests.export.test_build import run_cli, snapshot


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_layer_errors_by_hand() -> None:
    reference, noisy = np.array([3.0, 4.0]), np.array([3.0, 3.5])
    pair = TracedPair(
        (("x", "Conv"),), (Quantizer("x", 0.0, 3.5, 0.5),), {"x": 40.0},
        lambda _image: ({"x": reference}, {"x": noisy}), 0,
    )  # fmt: skip
    (layer,), (cut,) = measure_layers(pair, [np.zeros((2, 2), np.uint8)] * 2)
    assert layer.sqnr_db == pytest.approx(10 * np.log10(25 / 0.25)) == cut.own_sqnr_db == layer.own_sqnr_db
    assert layer.cosine == pytest.approx(23 / np.sqrt(25 * 21.25)) and layer.weight_sqnr_db == 40.0
    assert (cut.cut_share, cut.smallest, cut.largest) == (0.5, 3.0, 4.0)
    assert cut.used_share == pytest.approx(0.5 / 3.5)


@pytest.mark.parametrize("artifact", ["onnx-int8", "openvino-int8"])
def test_explain_shows_layers_ranges_and_flips(
    artifact: str, bundle_folder: Path, run_folder: Path, data_folder: Path
) -> None:
    explanation = explain_artifact(bundle_folder, run_folder, data_folder, artifact, images=2)
    assert len(explanation.layers) >= 15, "a ResNet-18 has 21 convolutions and linear layers"
    assert explanation.unmatched <= 3
    assert all(layer.sqnr_db > -10 and -1 <= layer.cosine <= 1.0001 for layer in explanation.layers)
    assert explanation.worst_layers(1)[0].sqnr_db < 45, "int8 without noise was not int8"
    assert explanation.layers[0].sqnr_db > explanation.worst_layers(1)[0].sqnr_db
    assert explanation.cuts and all(0 <= cut.cut_share <= 1 and cut.low < cut.high for cut in explanation.cuts)
    assert np.median([cut.cut_share for cut in explanation.cuts]) < 0.02, "calibration keeps nearly all of most tensors"
    behind_relu = [cut for cut in explanation.cuts if "relu" in cut.name.lower()]
    assert len(behind_relu) >= 5 and all(cut.smallest >= 0 for cut in behind_relu), "each name has its own tensor"
    outputs = {one.name: one for one in explanation.outputs}
    assert set(outputs) == {"probabilities", "logits", "heatmap", "embedding", "gate_score"}
    largest = explanation.report.artifacts[0].max_abs_probability_difference
    assert outputs["probabilities"].max_abs_difference <= largest + 1e-6
    if artifact == "onnx-int8":
        weights = [layer.weight_sqnr_db for layer in explanation.layers if layer.weight_sqnr_db is not None]
        assert len(weights) >= 10 and min(weights) > 15
    page = render_explanation(explanation, read_pictures(explanation.report, data_folder))
    assert "<svg" in page and "Not a medical device" in page and "http" not in page.replace("http-equiv", "")
    json.dumps(explanation_object(explanation), allow_nan=False)


def test_explain_of_torch_formats_runs_the_files_own_graph(
    bundle_folder: Path, run_folder: Path, data_folder: Path, tmp_path: Path
) -> None:
    """fp32 differs nowhere, also behind functions that overwrite; a plain int8 file rounds what its layers give."""
    from export.graph import deployable_graph
    from export.layers_torch import trace_torch
    from export.quantization.layers import find_layers
    from export.quantization.settings import PLAIN
    from export.quantization.torch_int8 import TorchQuantizer
    from train.run import load_run

    explanation = explain_artifact(bundle_folder, run_folder, data_folder, "lite-fp32", images=1, limit=3)
    graph = deployable_graph(load_run(run_folder))
    names = [layer.name for layer in find_layers(graph)]
    assert [layer.name for layer in explanation.layers] == names and explanation.unmatched == 0
    assert min(layer.sqnr_db for layer in explanation.layers) > 90 and not explanation.cuts
    assert "the file's own graph" in explanation.notes[0]
    images = [random_image(SIZE, SIZE, seed) for seed in range(2)]
    sensitive = msgspec.structs.replace(PLAIN, float_layers=(names[1],))
    TorchQuantizer(graph, find_layers(graph), images, {}).write(tmp_path / "int8.ptl", sensitive)
    layers, cuts = measure_layers(trace_torch(graph, tmp_path / "int8.ptl"), images)
    assert [layer.name for layer in layers] == names
    rounded = {cut.name for cut in cuts}
    assert names[2] in rounded and names[1] not in rounded, "a layer in float gives floats"
    assert all(layer.sqnr_db < 60 for layer in layers if layer.name in rounded)
    assert all(layer.sqnr_db <= (layer.own_sqnr_db or 0) + 3 for layer in layers if layer.name in rounded)
    with pytest.raises(ExportError, match="cannot read"):
        (tmp_path / "broken.ptl").write_bytes(b"no model")
        trace_torch(graph, tmp_path / "broken.ptl")


def test_explain_command(
    bundle_folder: Path, run_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = [bundle_folder, "--run", run_folder, "--data", data_folder, "--artifact", "onnx-int8", "--limit", 3]
    assert run_cli("explain", *arguments, "--images", 1, "--out", tmp_path / "out", monkeypatch=monkeypatch) == 0
    assert "worst layers" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"explain-onnx-int8.html", "explain-onnx-int8.json"}
    assert run_cli("explain", *arguments[:-3], "none", monkeypatch=monkeypatch) == 1
    assert "no such artifact" in capsys.readouterr().err


def test_bench_measures_every_artifact_and_eager(
    bundle_folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    names = ["onnx-fp32", "torchscript-fp32"]
    report = bench_bundle(
        bundle_folder, run=run_folder, artifacts=names, threads=[1], runs=10, rounds=2, image=(80, 70)
    )
    assert [row.name for row in report.rows] == [*names, EAGER]
    for row in report.rows:
        assert row.error is None and row.runs == 10 and row.versions and row.size_bytes > 1e5
        assert 0 < (row.p50_ms or 0) <= (row.p95_ms or 0) <= (row.p99_ms or 0)
        assert (row.load_ms or 0) > 0 and (row.first_ms or 0) > 0 and (row.throughput or 0) > 0
        assert row.peak_bytes is None or 3e7 < row.peak_bytes < 5e9
    onnx, _, eager = report.rows
    assert (onnx.peak_bytes or 0) < (eager.peak_bytes or 1), "ONNX Runtime's process does not hold torch"
    json.dumps(bench_object(report))
    for name in ("chart.svg", "chart.png"):
        draw_bench(report, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    assert default_threads()[0] == 1
    with pytest.raises(ExportError, match="no such artifact"):
        bench_bundle(bundle_folder, artifacts=["onnx-fp8"])
    assert run_cli("bench", bundle_folder, "--threads", "0", monkeypatch=monkeypatch) == 2
    assert run_cli("bench", bundle_folder, "--image", "wide", monkeypatch=monkeypatch) == 2


def test_bench_measures_every_backend_that_opens_here(bundle_folder: Path) -> None:
    from export.other_backends import backends_here

    report = bench_bundle(bundle_folder, artifacts=["openvino-fp32"], threads=[1], runs=5, rounds=1, image=(80, 70))
    own, *others = report.rows
    assert (own.name, own.backend, own.precision) == ("openvino-fp32", "openvino", "fp32")
    assert [row.backend for row in others] == list(backends_here("openvino"))
    assert [row.name for row in others] == ["openvino-fp32 (bf16)"][: len(others)]
    assert all(row.error is None and row.p50_ms for row in report.rows)
    alone = bench_bundle(
        bundle_folder, artifacts=["openvino-fp32"], threads=[1], runs=5, rounds=1, image=(80, 70), backends=()
    )
    assert [row.name for row in alone.rows] == ["openvino-fp32"]
    with pytest.raises(ExportError, match="no such other backend"):
        bench_bundle(bundle_folder, threads=[1], backends=["npu"])


def test_bench_says_what_cannot_be_measured(bundle: Path) -> None:
    (bundle / "artifacts/onnx-fp32.onnx").write_bytes(b"not ONNX")
    with pytest.raises(ExportError, match="can be measured"):
        bench_bundle(bundle, artifacts=["onnx-fp32"], threads=[1], runs=5, rounds=1)


def selftest_under(mask: str | None, bundle: Path) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "selftest", str(bundle), "--artifact", "openvino-int8", "--json"],
        capture_output=True, text=True, check=False,
        env=environment if mask is None else {**environment, "ONEDNN_MAX_CPU_ISA": mask},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (tested,) = json.loads(done.stdout)["artifacts"]
    assert tested["status"] in ("agrees", "as_built")
    return dict(tested)


def test_openvino_int8_on_a_plainer_cpu(bundle_folder: Path) -> None:
    """oneDNN told to use older instructions only: the golden vectors still hold, and the self-test says where it is.

    Masked below AVX-512, oneDNN lacks primitives that OpenVINO, which looks at the real CPU, goes on asking for.
    Without VNNI products saturate, so the answers must change: a mask that changes nothing, as an unknown word does,
    was none.
    """

    def numbers(tested: dict[str, Any]) -> tuple[float, float]:
        return tested["max_abs_probability_difference"], tested["max_abs_heatmap_difference"]

    own = selftest_under(None, bundle_folder)
    assert numbers(selftest_under("NO_SUCH_CPU", bundle_folder)) == numbers(own)
    for mask in ("AVX512_CORE_VNNI", "AVX512_CORE"):
        masked = selftest_under(mask, bundle_folder)
        assert f"ONEDNN_MAX_CPU_ISA={mask}" in masked["not_validated_here"]
        if mask == "AVX512_CORE" and "avx512_vnni" in cpu_features():
            assert numbers(masked) != numbers(own), "the mask had no effect"


def test_add_takes_an_artifact_made_elsewhere_and_judges_it(
    bundle: Path, run_folder: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    elsewhere = tmp_path / "theirs.onnx"
    shutil.copy(bundle / "artifacts/onnx-int8.onnx", elsewhere)
    before = snapshot(bundle)
    with pytest.raises(ExportError, match="already"):
        add_artifact(bundle, elsewhere, "onnx", "int8")
    with pytest.raises(ParityFailure, match="does not answer"):
        add_artifact(bundle, elsewhere, "onnx", "fp32", replace=True)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ExportError, match="is not valid ONNX"):
        add_artifact(bundle, broken, "onnx", "int8", replace=True)
    with pytest.raises(ExportError, match="is not there"):
        add_artifact(bundle, tmp_path / "absent.onnx", "onnx", "int8", replace=True)
    with pytest.raises(ExportError, match="not a file of the format"):
        add_artifact(bundle, elsewhere, "openvino", "int8", replace=True)
    assert snapshot(bundle) == before, "whatever was refused left the bundle as it was"
    assert not list(tmp_path.glob(".adding-*"))

    added = add_artifact(bundle, elsewhere, "onnx", "int8", replace=True)
    with open_bundle(bundle) as opened:
        opened.check_files(opened.manifest.all_files())
        assert opened.manifest.artifact("onnx-int8") == added.artifact
        assert sum("made elsewhere" in line for line in opened.manifest.limitations) == 1
        assert added.artifact.golden_agreement.max_abs_probability_difference < 1
    arguments = [bundle, elsewhere, "--format", "onnx", "--precision", "int8", "--replace"]
    code = run_cli("add", *arguments, "--run", run_folder, "--data", data_folder, monkeypatch=monkeypatch)
    assert code in (10, 11) and "onnx-int8" in capsys.readouterr().out
    assert run_cli("add", *arguments, "--run", run_folder, monkeypatch=monkeypatch) == 2


def test_add_openvino_takes_both_files(bundle: Path, tmp_path: Path) -> None:
    for suffix in (".xml", ".bin"):
        shutil.copy(bundle / f"artifacts/openvino-fp32{suffix}", tmp_path / f"theirs{suffix}")
    added = add_artifact(bundle, tmp_path / "theirs.xml", "openvino", "fp32", replace=True)
    assert [entry.path for entry in added.artifact.files] == [
        "artifacts/openvino-fp32.xml", "artifacts/openvino-fp32.bin",
    ]  # fmt: skip
    assert added.test.status == "agrees"
    (tmp_path / "theirs.bin").unlink()
    with pytest.raises(ExportError, match=r"theirs\.bin is not there"):
        add_artifact(bundle, tmp_path / "theirs.xml", "openvino", "fp32", replace=True)

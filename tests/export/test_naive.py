"""Naive int8 on purpose, and the gate that fails it: a gate that never fails proves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from edge_runtime.bundle import open_bundle
from export.quantization.plan import PLAN_NAME
from tests.export.making import ARCHITECTURE, make_classifier, make_run
from tests.export.test_build import run_cli

_FACTOR = 200.0


def with_a_loud_channel(classifier: nn.Sequential) -> nn.Sequential:
    """The same function, written so that one scale a tensor loses it: in each unit one channel is louder by a factor
    between two convolutions, and its quiet neighbours share its scale. Trained networks have such channels."""
    with torch.no_grad():
        for name, unit in classifier[0].named_modules():
            if name.endswith(".body") and hasattr(unit, "conv1"):
                unit.conv1.bn.weight[0] *= _FACTOR
                unit.conv1.bn.bias[0] *= _FACTOR
                unit.conv2.conv.weight[:, 0] /= _FACTOR
    return classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    model = with_a_loud_channel(make_classifier(ARCHITECTURE))
    return make_run(tmp_path_factory.mktemp("loud") / "run", model, ARCHITECTURE, data_folder)


def test_the_loud_network_is_the_same_function() -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = make_classifier(ARCHITECTURE)(x)
        loud = with_a_loud_channel(make_classifier(ARCHITECTURE))(x)
    assert torch.allclose(plain, loud, atol=1e-3)


def test_the_gate_fails_naive_artifacts(
    run: Path, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "naive"
    arguments = ["--run", run, "--data", data_folder]
    code = run_cli(
        "naive", *arguments, "--out", out, "--formats", "onnx", "--calibration", 9, monkeypatch=monkeypatch
    )  # fmt: skip
    assert code == 0
    assert not (run / PLAN_NAME).exists(), "the run keeps the plan it had: none"
    with open_bundle(out) as opened:
        manifest = opened.manifest
        opened.check_files(manifest.all_files())
    assert [a.name for a in manifest.artifacts] == ["onnx-fp32", "onnx-int8"]
    assert any("naively on purpose" in line for line in manifest.limitations)
    assert set(manifest.recommended.values()) == {"onnx-fp32"}
    capsys.readouterr()
    assert run_cli("parity", out, *arguments, "--json", "-", "--accept-not-shown", monkeypatch=monkeypatch) == 10
    verdicts = {a["name"]: a["verdict"] for a in json.loads(capsys.readouterr().out)["artifacts"]}
    assert verdicts == {"onnx-fp32": "passed", "onnx-int8": "failed"}

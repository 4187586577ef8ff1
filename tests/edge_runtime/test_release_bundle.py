"""The bundle that the repository carries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.bundle import open_bundle
from edge_runtime.selftest import run_selftest

MODEL = Path(__file__).resolve().parents[2] / "models/covidx-b1"
BUNDLE = MODEL / "bundle"


def test_it_is_small_enough_for_a_repository() -> None:
    def megabytes(folder: Path) -> float:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6

    assert megabytes(BUNDLE) <= 30
    assert (MODEL / "checkpoint.safetensors").stat().st_size <= 40e6


def test_the_recommended_artifact_answers_the_golden_vectors() -> None:
    with open_bundle(BUNDLE) as bundle:
        assert bundle.manifest.recommended["cpu"] == "onnx-int8"
        assert bundle.manifest.golden.synthetic, "no radiograph of a person is shipped"
        assert bundle.manifest.gate is not None and bundle.manifest.conformal is not None
        tests = {test.artifact: test for test in run_selftest(bundle).artifacts}
    assert tests["onnx-int8"].status == "agrees" and tests["onnx-int8"].differing_decisions == 0


@pytest.mark.real_data
def test_a_clone_answers_a_radiograph_without_torch(cxr_data: Path) -> None:
    radiograph = next((cxr_data / "sources/rsna/stage_2_train_images").glob("*.dcm"))
    code = (
        "import sys; from edge_runtime.cli import main\n"
        "try:\n    main()\nfinally:\n    assert not {'torch', 'fastai', 'openvino'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "predict", str(BUNDLE), str(radiograph), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[0])
    assert answer["status"] == "ok" and answer["artifact"] == "onnx-int8"
    assert abs(sum(answer["probabilities"].values()) - 1) < 1e-3

"""The app's own Java classes and JNI source on a desktop JVM, with -Xcheck:jni."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.golden import load_golden
from edge_runtime.predictor import Predictor
from tests.export.making import random_image

pytestmark = pytest.mark.mobile


def test_self_test_agrees(java, mobile_bundle: Path, lite_artifact: str) -> None:
    (line,) = java("selfTest", mobile_bundle, lite_artifact)
    figures = dict(word.split("=") for word in line.split()[2:])
    assert line.startswith(f"{lite_artifact} agrees") and int(figures["vectors"]) >= 12
    if lite_artifact == "lite-fp32":
        assert float(figures["probability"]) <= 1e-4 and figures["decisions"] == "0"


def test_same_png_same_answers_as_python(java, mobile_bundle: Path, tmp_path: Path, lite_artifact: str) -> None:
    files = []
    for number, (height, width) in enumerate(((256, 200), (131, 300), (640, 512))):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(random_image(height, width, seed=number)).save(files[-1])
    lines = java("predict", mobile_bundle, lite_artifact, *files)
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, lite_artifact) as predictor:
        for file, line in zip(files, lines, strict=True):
            label, *values = line.split("\t")
            prediction = predictor.predict(np.asarray(Image.open(file)))
            assert label == prediction.label
            assert [float(v) for v in values] == pytest.approx(list(prediction.probabilities.values()), abs=1e-4)


def test_grey_jpeg_differs_by_the_decoder_only(java, mobile_bundle: Path, tmp_path: Path) -> None:
    """JPEG decoders may round otherwise (the standard allows it): here by at most one grey level."""
    file = tmp_path / "a.jpg"
    Image.fromarray(random_image(300, 260, seed=4)).save(file, quality=90)
    (line,) = java("predict", mobile_bundle, "lite-fp32", file)
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, "lite-fp32") as predictor:
        prediction = predictor.predict(np.asarray(Image.open(file)))
    values = [float(value) for value in line.split("\t")[1:]]
    assert values == pytest.approx(list(prediction.probabilities.values()), abs=1e-3)


def test_golden_inputs_as_files(java, mobile_bundle: Path) -> None:
    with open_bundle(mobile_bundle) as bundle:
        vectors = [v for v in load_golden(bundle) if min(v.pixels.shape) >= 128]
    lines = java("predict", mobile_bundle, "lite-fp32", *(mobile_bundle / vector.name for vector in vectors))
    for vector, line in zip(vectors, lines, strict=True):
        values = np.array([float(value) for value in line.split("\t")[1:]])
        assert np.abs(values - vector.outputs["probabilities"][0]).max() <= 1e-4


@pytest.mark.parametrize("case", ["badImages", "badBundles", "threads", "repeated"])
def test_what_goes_wrong(java, mobile_bundle: Path, case: str) -> None:
    java(case, mobile_bundle)


def test_a_file_that_is_vouched_for_but_no_model_is_a_status(java, mobile_bundle: Path, tmp_path: Path) -> None:
    """The manifest's size and SHA-256 fit: what is left is the interpreter's own error, and no crash."""
    whole = (mobile_bundle / "artifacts/lite-fp32.ptl").read_bytes()
    for name, content in (("text", b"not a model"), ("half", whole[: len(whole) // 2]), ("nothing", b"")):
        copy = shutil.copytree(mobile_bundle, tmp_path / name)
        (copy / "artifacts/lite-fp32.ptl").write_bytes(content)
        manifest = json.loads((copy / "manifest.json").read_text())
        (entry,) = next(a for a in manifest["artifacts"] if a["name"] == "lite-fp32")["files"]
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        (copy / "manifest.json").write_text(json.dumps(manifest))
        (line,) = java("open", copy)
        status, message = line.split("\t")
        assert status == "MODEL_UNUSABLE" and "lite-fp32" in message, line


def test_it_takes_what_is_recommended_for_a_phone(java, choosy_bundle: Path, mobile_bundle: Path) -> None:
    assert java("open", choosy_bundle) == ["OK\tlite-int8"]
    assert java("open", mobile_bundle) == ["OK\tlite-fp32"]


def test_the_gate_refuses(java, gated_bundle: Path) -> None:
    java("gate", gated_bundle)

"""The app's own Java classes and JNI source on a desktop JVM, with -Xcheck:jni."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.golden import load_golden
from edge_runtime.predictor import Predictor
from tests.export.making import random_image
from tests.mobile.native_build import JAVA_SOURCES, NativeBuild, need_jdk

pytestmark = pytest.mark.mobile


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as an Android compiler at Java 11 takes it, every warning an error, and the desktop's driver."""
    home = need_jdk()
    out = tmp_path_factory.mktemp("classes")
    sources = sorted((JAVA_SOURCES / "org/cxredge/classifier").glob("*.java"))
    for options, files in (
        (["-Xlint:all", "-Werror"], sources),
        (["-cp", str(out)], [Path(__file__).parent / "java/DesktopTest.java"]),
    ):
        command = [home / "bin/javac", "--release", "11", "-encoding", "UTF-8", *options, "-d", out, *files]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def java(native: NativeBuild, classes: Path):
    def run(case: str, bundle: Path, *arguments: str | Path) -> list[str]:
        command = [
            need_jdk() / "bin/java", "-Xcheck:jni", "-Xmx1g", "-Djava.awt.headless=true", "-cp", classes,
            f"-Djava.library.path={native.folder / 'jni'}", "DesktopTest", case, bundle, *arguments,
        ]  # fmt: skip
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        # -Xcheck:jni reports on standard output
        assert "WARNING" not in done.stdout and "FATAL" not in done.stdout, done.stdout[-3000:]
        return done.stdout.splitlines()

    return run


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


def test_the_gate_refuses(java, gated_bundle: Path) -> None:
    java("gate", gated_bundle)

"""What the tests of the mobile hosts share: a small bundle made by export, and the native parts built once."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.export.making import ARCHITECTURE, make_classifier, make_dataset, make_run
from tests.mobile.hosts import run_java
from tests.mobile.native_build import JAVA_SOURCES, NativeBuild, build_native, need_compiler, need_jdk
from tests.mobile.phone_page import need_packages, open_chromium

RELEASE = Path(__file__).resolve().parents[2] / "models/covidx-b1/bundle"


@pytest.fixture(scope="session")
def mobile_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """lite and ONNX, fp32 and int8, of one small model: what the hosts are compared on. Copy before changing it."""
    from export import build_bundle

    folder = tmp_path_factory.mktemp("mobile")
    data = make_dataset(folder / "data")
    run = make_run(folder / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, data)
    build_bundle(run, data, folder / "bundle", formats=("lite", "onnx"), int8=False)
    add_int8(folder / "bundle", run)
    return folder / "bundle"


def add_int8(bundle: Path, run: Path) -> None:
    """Add int8 at plain settings, weights and activations; lite's is what runs on the qnnpack engine."""
    from export.add import add_artifact
    from export.golden_vectors import build_golden_inputs
    from export.graph import deployable_graph
    from export.quantization.layers import find_layers
    from export.quantization.quantizers import open_quantizer
    from export.quantization.sensitivity import mean_inputs
    from export.quantization.sets import network_size
    from export.quantization.settings import PLAIN
    from train.run import load_run

    loaded = load_run(run)
    graph = deployable_graph(loaded)
    layers = find_layers(graph)
    images = network_size(build_golden_inputs(loaded.spec.labels), graph.size)
    means = mean_inputs(graph, images)
    for format_, suffix in (("lite", ".ptl"), ("onnx", ".onnx")):
        fp32 = bundle / f"artifacts/{format_}-fp32{suffix}"
        file = bundle.parent / f"int8{suffix}"
        open_quantizer(format_, graph, layers, images, means, fp32, bundle.parent).write(file, PLAIN)
        add_artifact(bundle, file, format_, "int8")


@pytest.fixture(scope="session")
def release_bundle() -> Path:
    """The bundle that the repository carries: its gate, its prediction sets, its int8 artifacts. Not to be changed."""
    return RELEASE


@pytest.fixture(scope="session")
def choosy_bundle(mobile_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with another artifact recommended for each kind of device: every host must take its own."""
    copy = shutil.copytree(mobile_bundle, tmp_path_factory.mktemp("choosy") / "bundle")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recommended"] = {"cpu": "lite-fp32", "phone": "lite-int8", "browser": "onnx-int8"}
    (copy / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return copy


@pytest.fixture(params=["lite-fp32", "lite-int8"])
def lite_artifact(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def gated_bundle(mobile_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with a threshold that no radiograph passes."""
    copy = shutil.copytree(mobile_bundle, tmp_path_factory.mktemp("gated") / "bundle")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["gate"] = {**(manifest["gate"] or {}), "threshold": -1.0, "reasons": ["not_a_radiograph"]}
    (copy / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return copy


@pytest.fixture(scope="session")
def native(mobile_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> NativeBuild:
    """``cxr_classify``, ctest's cases and, with a JDK, the JNI library; skipped by name without a compiler."""
    need_compiler()
    # a folder that is kept makes the next session's build a matter of seconds
    kept = os.environ.get("CXR_NATIVE_BUILD")
    return build_native(Path(kept) if kept else tmp_path_factory.mktemp("native"), mobile_bundle)


@pytest.fixture(scope="session")
def web_site(mobile_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phone's page of that bundle; skipped by name without its npm packages. Copy before changing it."""
    need_packages()
    from edge_runtime.bundle import open_bundle
    from mobile_demo.web.site import write_site

    with open_bundle(mobile_bundle) as bundle:
        return write_site(bundle, tmp_path_factory.mktemp("site") / "mobile").folder


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def java(native: NativeBuild, java_classes: Path) -> Callable[..., list[str]]:
    """Run one case of ``DesktopTest`` with -Xcheck:jni; its lines."""

    return functools.partial(run_java, native, java_classes, need_jdk())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Closed with its module: Playwright's synchronous interface runs once at a time; other parts' tests need it."""
    with open_chromium() as chromium:
        yield chromium

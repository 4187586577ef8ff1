"""What the tests of the mobile hosts share: a small bundle made by export, and the native parts built once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.export.making import ARCHITECTURE, make_classifier, make_dataset, make_run
from tests.mobile.native_build import NativeBuild, build_native, need_compiler
from tests.mobile.phone_page import need_packages


@pytest.fixture(scope="session")
def mobile_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with lite artifacts, as ``python -m export build --formats lite`` writes it. Copy before changing it."""
    from export import build_bundle

    folder = tmp_path_factory.mktemp("mobile")
    data = make_dataset(folder / "data")
    run = make_run(folder / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, data)
    build_bundle(run, data, folder / "bundle", formats=("lite",), int8=False)
    add_int8(folder / "bundle", run)
    return folder / "bundle"


def add_int8(bundle: Path, run: Path) -> None:
    """Add lite-int8 at plain settings, weights and activations: what runs on the qnnpack engine."""
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
    images = network_size(build_golden_inputs(loaded.spec.labels), graph.size)
    quantizer = open_quantizer(
        "lite", graph, find_layers(graph), images, mean_inputs(graph, images), None, bundle.parent
    )
    file = bundle.parent / "int8.ptl"
    quantizer.write(file, PLAIN)
    add_artifact(bundle, file, "lite", "int8")


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
def web_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with ONNX artifacts, fp32 and int8, as a browser runs them. Copy before changing it."""
    from export import build_bundle

    folder = tmp_path_factory.mktemp("web")
    data = make_dataset(folder / "data")
    run = make_run(folder / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, data)
    build_bundle(run, data, folder / "bundle", formats=("onnx",), calibration=9)
    return folder / "bundle"


@pytest.fixture(scope="session")
def web_site(web_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phone's page of that bundle; skipped by name without its npm packages. Copy before changing it."""
    need_packages()
    from edge_runtime.bundle import open_bundle
    from mobile_demo.web.site import write_site

    with open_bundle(web_bundle) as bundle:
        return write_site(bundle, tmp_path_factory.mktemp("site") / "mobile").folder

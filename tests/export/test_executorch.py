"""ExecuTorch, in its own environment: a ``.pte`` answers the golden vectors as the full model does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from edge_runtime.backends import open_backend
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import BackendError, BundleError
from edge_runtime.predictor import Predictor
from edge_runtime.selftest import run_selftest
from tests.export.making import make_classifier, make_dataset, make_run, random_image

pytestmark = [pytest.mark.executorch, pytest.mark.timeout(1800)]

pytest.importorskip("executorch", reason="ExecuTorch is not installed here (docs/mobile.md): no .pte tests")

ARCHITECTURE = "efficientnet_b1"
"""The release model's: swish, squeeze-and-excitation, depthwise convolutions."""


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return make_classifier(ARCHITECTURE)


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, model: nn.Sequential) -> Path:
    from export import build_bundle

    folder = tmp_path_factory.mktemp("executorch")
    data = make_dataset(folder / "data")
    run = make_run(folder / "run", model, ARCHITECTURE, data)
    build_bundle(run, data, folder / "bundle", formats=("executorch",), calibration=9)
    return folder / "bundle"


def test_fp32_answers_every_golden_vector_and_int8_is_there(bundle_folder: Path) -> None:
    with open_bundle(bundle_folder) as bundle:
        result = run_selftest(bundle)
        sizes = {a.name: a.files[0].bytes for a in bundle.manifest.artifacts}
    tests = {test.artifact: test for test in result.artifacts}
    assert set(tests) == {"executorch-fp32", "executorch-int8"}
    fp32, int8 = tests["executorch-fp32"], tests["executorch-int8"]
    print(
        {name: (t.status, t.max_abs_probability_difference, t.differing_decisions) for name, t in tests.items()}, sizes
    )
    assert fp32.status == "agrees"
    assert fp32.max_abs_probability_difference is not None and fp32.max_abs_probability_difference <= 1e-4
    assert fp32.max_abs_heatmap_difference is not None and fp32.max_abs_heatmap_difference <= 1e-3
    assert int8.status in ("agrees", "as_built")
    assert sizes["executorch-int8"] < 0.4 * sizes["executorch-fp32"]


@pytest.mark.parametrize("shape", [(2, 2), (97, 128), (1200, 900)])
def test_any_size_of_image(shape: tuple[int, int], bundle_folder: Path, model: nn.Sequential) -> None:
    from export import DeployableGraph
    from export.golden_vectors import run_graph
    from tests.export.making import SIZE

    graph = DeployableGraph(model, size=SIZE, normalization="per_image", temperature=1.3)
    pixels = random_image(*shape)
    [(_, expected)] = run_graph(graph, [pixels])
    with open_bundle(bundle_folder) as bundle, Predictor.open(bundle, "executorch-fp32", threads=1) as predictor:
        found = predictor.run_raw(pixels)
        assert set(predictor.versions) == {"executorch", "torch"}
    for name, array in expected.items():
        allowed = 1e-3 if name in ("heatmap", "logits") else 1e-4
        if name in ("logits", "embedding"):  # without a bound, here up to 28: sums in another order differ by share
            allowed = max(allowed, 1e-4 * float(np.abs(array).max()))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=allowed)


def test_two_runs_do_not_share_their_memory(bundle_folder: Path) -> None:
    with open_bundle(bundle_folder) as bundle, Predictor.open(bundle, "executorch-fp32") as predictor:
        first = predictor.run_raw(random_image(200, 200, seed=1))
        kept = first["embedding"].copy()
        predictor.run_raw(random_image(200, 200, seed=2))
    np.testing.assert_array_equal(first["embedding"], kept)


def test_an_image_that_is_too_large_is_an_error_that_says_so(bundle_folder: Path) -> None:
    with (
        open_bundle(bundle_folder) as bundle,
        Predictor.open(bundle, "executorch-fp32") as predictor,
        pytest.raises(BackendError, match="at most 4096"),
    ):
        predictor.run_raw(np.zeros((200, 20_000), np.uint8))


@pytest.mark.parametrize("shape", [(0, 0), (0, 300), (300, 0)])
def test_an_image_without_pixels_is_an_error_and_does_not_end_the_process(
    shape: tuple[int, int], bundle_folder: Path
) -> None:
    with open_bundle(bundle_folder) as bundle, Predictor.open(bundle, "executorch-fp32") as predictor:
        with pytest.raises(BackendError, match="without pixels"):
            predictor.run_raw(np.zeros(shape, np.uint8))
        assert np.isfinite(predictor.run_raw(random_image(200, 200))["probabilities"]).all()


def test_a_changed_byte_is_found_before_anything_is_opened(bundle_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_folder, tmp_path / "bundle")
    path = copy / "artifacts/executorch-fp32.pte"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with open_bundle(copy) as bundle, pytest.raises(BundleError, match=r"executorch-fp32\.pte"):
        Predictor.open(bundle, "executorch-fp32")


def test_a_damaged_file_is_not_opened(bundle_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_folder, tmp_path / "bundle")
    path = copy / "artifacts/executorch-fp32.pte"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with open_bundle(copy) as bundle, pytest.raises(BundleError, match=r"executorch-fp32\.pte"):
        Predictor.open(bundle, "executorch-fp32")
    # and what the hash would not catch: a bundle that was built of rubbish
    with open_bundle(bundle_folder) as bundle:
        artifact = bundle.manifest.artifact("executorch-fp32")
        assert artifact is not None
        bundle.root, rubbish = tmp_path / "rubbish", tmp_path / "rubbish" / artifact.files[0].path
        rubbish.parent.mkdir(parents=True)
        rubbish.write_bytes(b"no program" * 100)
        bundle._checked.update(artifact.files)
        with pytest.raises(BackendError):
            open_backend(bundle, artifact)


def test_a_file_of_something_else_is_found_when_it_is_written(bundle_folder: Path, tmp_path: Path) -> None:
    import torch
    from executorch.exir import to_edge

    from export.errors import ExportError
    from export.formats import WRITERS

    with open_bundle(bundle_folder) as bundle:
        shapes = {output.name: output.shape for output in bundle.manifest.outputs}
    check = WRITERS["executorch"].check
    for name in ("executorch-fp32.pte", "executorch-int8.pte"):
        check(bundle_folder / "artifacts" / name, shapes)
    with pytest.raises(ExportError, match="other outputs than the graph"):
        check(bundle_folder / "artifacts/executorch-fp32.pte", {**shapes, "embedding": (1, 7)})
    rubbish = tmp_path / "rubbish.pte"
    rubbish.write_bytes(b"no program" * 100)
    with pytest.raises(ExportError, match="is not an ExecuTorch program"):
        check(rubbish, shapes)
    other = torch.export.export(nn.Flatten(), (torch.zeros(1, 1, 97, 128),))
    rubbish.write_bytes(bytes(to_edge(other).to_executorch().buffer))
    with pytest.raises(ExportError, match=r"rubbish\.pte (does not run|has other outputs)"):
        check(rubbish, shapes)


def test_the_command_line_answers_with_it(bundle_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "predict", str(bundle_folder), str(bundle_folder / "golden/0001.png"),
         "--artifact", "executorch-int8", "--json"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"backend":"executorch"' in done.stdout.replace(" ", "")

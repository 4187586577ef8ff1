"""Every format through its backend answers the same; what does not fit is named."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_runtime import backends
from edge_runtime.backends import BACKENDS, open_backend
from edge_runtime.bundle import file_entry, open_bundle, rewrite_manifest
from edge_runtime.choice import choose
from edge_runtime.errors import BackendError, UsageError
from edge_runtime.manifest import FORMATS
from edge_runtime.predictor import Predictor
from tests.edge_runtime.tiny_bundle import LABELS, gradient, reference

INSTALLED = [name for name in BACKENDS if name != "executorch"]  # that one: tests/export/test_executorch.py


def test_each_format_has_one_backend() -> None:
    assert sorted(b.format for b in BACKENDS.values()) == sorted(FORMATS)
    assert all(name == b.name for name, b in BACKENDS.items())


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("shape", [(64, 64), (31, 77), (200, 150)])
def test_every_backend_answers_as_the_full_model(every_format_bundle: Path, name: str, shape: tuple[int, int]) -> None:
    pixels = gradient(*shape, seed=5)
    wanted = reference(pixels)
    with open_bundle(every_format_bundle) as bundle:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            predictor = Predictor.open(bundle, backend=name, threads=1)
        got = predictor.run_raw(pixels)
        assert predictor.artifact.format == BACKENDS[name].format
        for output, array in wanted.items():
            np.testing.assert_allclose(got[output], array, atol=2e-5, err_msg=output)
        prediction = predictor.predict(pixels)
    assert prediction.label == LABELS[int(wanted["probabilities"].argmax())]
    assert list(prediction.probabilities) == list(LABELS)
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.heatmap.shape == (3, 16, 16)
    assert prediction.embedding.shape == (4,)


@pytest.mark.parametrize("name", INSTALLED)
def test_outputs_are_the_callers_own(every_format_bundle: Path, name: str) -> None:
    with open_bundle(every_format_bundle) as bundle, Predictor.open(bundle, backend=name) as predictor:
        first = predictor.run_raw(gradient(seed=1))
        kept = {output: array.copy() for output, array in first.items()}
        predictor.run_raw(gradient(seed=2))
        for output, array in first.items():
            np.testing.assert_array_equal(array, kept[output])
            array[...] = 0  # writable, and nobody else's
        again = predictor.run_raw(gradient(seed=1))
        np.testing.assert_array_equal(again["logits"], kept["logits"])


def test_read_only_and_strided_pixels_are_taken(every_format_bundle: Path) -> None:
    pixels = np.asfortranarray(gradient())
    pixels.flags.writeable = False
    with open_bundle(every_format_bundle) as bundle:
        for name in INSTALLED:
            with Predictor.open(bundle, backend=name) as predictor, warnings.catch_warnings():
                warnings.simplefilter("error")
                got = predictor.run_raw(pixels[::-1])["logits"]
            wanted = reference(np.ascontiguousarray(pixels[::-1]))["logits"]
            np.testing.assert_allclose(got, wanted, atol=2e-5)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_file_with_other_outputs_than_the_manifest_says_is_not_opened(
    every_format_bundle: Path, tmp_path: Path, name: str
) -> None:
    own = Path(shutil.copytree(every_format_bundle, tmp_path / "own"))
    with open_bundle(own) as bundle:
        manifest = bundle.manifest
        wrong = tuple(
            msgspec.structs.replace(o, shape=(1, 5)) if o.name == "embedding" else o for o in manifest.outputs
        )
        bundle.manifest = msgspec.structs.replace(manifest, outputs=wrong)
        with pytest.raises(BackendError, match="the shape of embedding") as caught:
            Predictor.open(bundle, backend=name)
    assert caught.value.got == "[1, 4]"
    assert caught.value.expected == "[1, 5]"


def test_openvino_weights_that_nobody_hashed_are_not_opened(every_format_bundle: Path) -> None:
    with open_bundle(every_format_bundle) as bundle:
        artifact = bundle.manifest.artifacts[1]
        assert artifact.format == "openvino"
        alone = msgspec.structs.replace(artifact, files=artifact.files[:1])
        with pytest.raises(BackendError, match="does not list its weights"):
            open_backend(bundle, alone)


def test_a_module_that_returns_something_else_is_named(every_format_bundle: Path) -> None:
    with open_bundle(every_format_bundle) as bundle:
        bundle.manifest = msgspec.structs.replace(bundle.manifest, outputs=bundle.manifest.outputs[::-1])
        with (
            Predictor.open(bundle, backend="torchscript") as predictor,
            pytest.raises(BackendError, match="output gate_score"),
        ):
            predictor.run_raw(gradient())


def test_a_file_that_is_no_model_gives_one_clear_error(own_bundle: Path) -> None:
    (own_bundle / "artifacts/onnx-fp32.onnx").write_bytes(b"no model")
    with open_bundle(own_bundle) as bundle:
        artifact = msgspec.structs.replace(
            bundle.manifest.artifacts[0], files=(file_entry(own_bundle, "artifacts/onnx-fp32.onnx"),)
        )
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, artifacts=(artifact,)))
        with pytest.raises(BackendError, match="onnxruntime cannot open artifact onnx-fp32") as caught:
            open_backend(bundle, artifact)
    assert caught.value.remedy


def test_a_missing_package_is_named_with_the_line_that_installs_it(
    every_format_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uninstall(monkeypatch, "openvino")
    with open_bundle(every_format_bundle) as bundle:
        manifest = bundle.manifest
        with pytest.raises(BackendError, match="openvino-fp32 cannot be opened") as caught:
            choose(manifest, "openvino-fp32")
        assert 'pip install "cxr-edge-runtime[openvino]"' in str(caught.value)
        assert "onnx-fp32" in str(caught.value), "it names what can be opened instead"
        with pytest.raises(BackendError):
            choose(manifest, backend="openvino")
        with pytest.raises(BackendError):
            open_backend(bundle, manifest.artifacts[1])


def test_auto_follows_the_recommendation_and_says_when_it_cannot(
    every_format_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bundle(every_format_bundle) as bundle:
        manifest = msgspec.structs.replace(bundle.manifest, recommended={"cpu": "openvino-fp32"})
        choice = choose(manifest)
        assert (choice.artifact.name, choice.backend, choice.note) == ("openvino-fp32", "openvino", None)
        assert choose(manifest, backend="lite").artifact.name == "lite-fp32"
        _uninstall(monkeypatch, "openvino")
        choice = choose(manifest)
        assert (choice.artifact.name, choice.backend) == ("onnx-fp32", "onnxruntime")
        assert choice.note is not None
        assert "openvino-fp32" in choice.note
        assert "onnx-fp32" in choice.note
        _uninstall(monkeypatch, "openvino", "onnxruntime", "torch")
        with pytest.raises(BackendError, match="no artifact of the bundle"):
            choose(manifest)


@pytest.mark.parametrize(
    ("artifact", "backend"),
    [("onnx-int4", "auto"), (None, "tensorflow"), ("onnx-fp32", "openvino"), (None, "lite")],
)
def test_what_the_bundle_does_not_have_is_wrong_usage(tiny_bundle: Path, artifact: str | None, backend: str) -> None:
    with open_bundle(tiny_bundle) as bundle, pytest.raises(UsageError):
        choose(bundle.manifest, artifact, backend)


def _uninstall(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    # taking an imported module out of sys.modules would break it for others: hide the finding of it
    real = {b.package for b in BACKENDS.values()} - set(packages)
    monkeypatch.setattr(backends, "sys", type("Sys", (), {"modules": dict.fromkeys(real)}))
    monkeypatch.setattr(backends, "find_spec", lambda name: None)

"""The predictor, the answers that never raise, and the golden vectors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_runtime import answer as answer_module
from edge_runtime.answer import answer_file
from edge_runtime.bundle import file_entry, open_bundle, rewrite_manifest
from edge_runtime.errors import BackendError, BundleError
from edge_runtime.golden import load_golden, write_golden
from edge_runtime.heatmap import PALETTE, overlay
from edge_runtime.predictor import Predictor
from edge_runtime.selftest import run_selftest
from tests.edge_runtime.tiny_bundle import LABELS, SHAPES, gradient


def test_threads_wait_for_each_other_and_get_their_own_answer(every_format_bundle: Path) -> None:
    with open_bundle(every_format_bundle) as bundle, Predictor.open(bundle, backend="openvino") as predictor:
        wanted = [predictor.predict(gradient(seed=s)).probabilities for s in range(8)]
        got: list[Any] = [None] * 8

        def work(seed: int) -> None:
            for _ in range(5):
                got[seed] = predictor.predict(gradient(seed=seed)).probabilities

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == wanted


class _Failing:
    def __init__(self, error: Exception | None = None, fill: float = 0.0) -> None:
        self.error, self.fill = error, fill
        self.versions: dict[str, str] = {}

    def run(self, image: Any) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {name: np.full(shape, self.fill, np.float32) for name, shape in SHAPES.items()}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (_Failing(RuntimeError("no kernel\nsecond line")), "backend_failed"),
        (_Failing(MemoryError()), "out_of_memory"),
        (_Failing(fill=float("nan")), "backend_failed"),
    ],
)
def test_a_failing_backend_gives_an_answer_with_a_reason(
    tiny_bundle: Path, chest_png: Path, backend: _Failing, reason: str
) -> None:
    with open_bundle(tiny_bundle) as bundle, Predictor.open(bundle) as predictor:
        predictor._backend = backend  # type: ignore[assignment]
        outcome = answer_file(predictor, chest_png)
    assert (outcome.answer.status, outcome.answer.reason) == ("error", reason)
    assert outcome.answer.message
    assert "second line" not in outcome.answer.message
    assert outcome.prediction is None
    assert outcome.radiograph is not None


def test_our_own_fault_is_an_answer_too(tiny_bundle: Path, chest_png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> None:
        raise KeyError("rows")

    monkeypatch.setattr(answer_module, "read_radiograph", broken)
    with open_bundle(tiny_bundle) as bundle, Predictor.open(bundle) as predictor:
        answer = answer_file(predictor, chest_png, "as given").answer
    assert (answer.file, answer.status, answer.reason) == ("as given", "error", "internal_error")


def test_a_model_trained_on_synthetic_images_says_so_in_every_answer(own_bundle: Path, chest_png: Path) -> None:
    with open_bundle(own_bundle) as bundle:
        provenance = msgspec.structs.replace(bundle.manifest.provenance, trained_on_synthetic_data=True)
        bundle.manifest = msgspec.structs.replace(bundle.manifest, provenance=provenance)
        with Predictor.open(bundle) as predictor:
            answer = answer_file(predictor, chest_png).answer
    assert any("synthetic" in note for note in answer.notes)


def test_golden_numbers_read_back_to_the_same_bits(own_bundle: Path) -> None:
    random = np.random.default_rng(1)
    outputs = {n: random.normal(0, 10 ** random.uniform(-9, 9), s).astype(np.float32) for n, s in SHAPES.items()}
    outputs["embedding"][0, :3] = [np.float32(0.1), np.finfo(np.float32).tiny, np.finfo(np.float32).max]
    pixels = gradient(50, 40)
    with open_bundle(own_bundle) as bundle:
        golden = write_golden(own_bundle, LABELS, [(pixels, outputs)], synthetic=False)
        bundle.manifest = msgspec.structs.replace(bundle.manifest, golden=golden)
        (vector,) = load_golden(bundle)
    np.testing.assert_array_equal(vector.pixels, pixels)
    for name, array in outputs.items():
        np.testing.assert_array_equal(vector.outputs[name].view(np.uint32), array.view(np.uint32), err_msg=name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"labels":["normal"', b'"labels":["healthy"'),
        (b"golden/0001.png", b"golden/0009.png"),
        (b'"gate_score":[', b'"gate_score":[0.5,'),
        (b'"schema_version":1', b'"schema_version":2'),
    ],
)
def test_golden_vectors_that_do_not_fit_are_refused(own_bundle: Path, old: bytes, new: bytes) -> None:
    path = own_bundle / "golden/vectors.json"
    changed = path.read_bytes().replace(old, new)
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with open_bundle(own_bundle) as bundle:
        with pytest.raises(BundleError, match="changed"):
            load_golden(bundle)
        vectors = file_entry(own_bundle, "golden/vectors.json")
        golden = msgspec.structs.replace(bundle.manifest.golden, vectors=vectors)
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, golden=golden))
        with pytest.raises(BundleError, match="do not fit"):
            load_golden(bundle)


def test_the_self_test_tells_apart_what_agrees_differs_and_is_damaged(every_format_bundle: Path) -> None:
    with open_bundle(every_format_bundle) as bundle:
        result = run_selftest(bundle)
        assert result.passed
        assert [t.status for t in result.artifacts] == ["agrees"] * 4
        assert all(t.p50_ms and t.p50_ms > 0 for t in result.artifacts)

        strict = msgspec.structs.replace(
            bundle.manifest.artifacts[0].golden_agreement, max_abs_probability_difference=0.0
        )
        changed = [msgspec.structs.replace(a, golden_agreement=strict) for a in bundle.manifest.artifacts[:2]]
        gone = msgspec.structs.replace(
            bundle.manifest.artifacts[2],
            files=(msgspec.structs.replace(bundle.manifest.artifacts[2].files[0], path="artifacts/gone.pt"),),
        )
        bundle.manifest = msgspec.structs.replace(
            bundle.manifest, artifacts=(*changed, gone, bundle.manifest.artifacts[3])
        )
        result = run_selftest(bundle)
    assert not result.passed
    assert [t.status for t in result.artifacts] == ["differs", "differs", "damaged", "agrees"]


def test_a_backend_error_while_opening_is_a_failed_self_test(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise BackendError("it does not open")

    monkeypatch.setattr("edge_runtime.predictor.open_backend", broken)
    with open_bundle(tiny_bundle) as bundle:
        result = run_selftest(bundle)
    assert [t.status for t in result.artifacts] == ["failed"]
    assert not result.passed


def test_the_overlay_leaves_cold_places_grey_and_warms_hot_ones() -> None:
    pixels = np.full((80, 60), 100, np.uint8)
    heat = np.zeros((4, 3), np.float32)
    heat[0, 0] = 1
    picture = overlay(pixels, heat)
    assert picture.shape == (80, 60, 3)
    assert (picture[-1, -1] == 100).all()
    red, green, blue = picture[2, 2].astype(int)
    assert red > green > blue
    assert (overlay(pixels, heat, alpha=0) == 100).all()
    lightness = [0.2 * r + 0.7 * g + 0.1 * b for r, g, b, _ in PALETTE[::15]]
    assert lightness == sorted(lightness)
    assert len(PALETTE) == 256

"""The operating curve: counted by hand, read by the page, null where it would say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import open_bundle
from edge_runtime.web.operating import curve_of, described
from export import build_bundle
from export.graph import deployable_graph
from export.operating import FEWEST, learn_operating_curve, operating_curve
from tests.export.making import ARCHITECTURE, LABELS, make_classifier, make_dataset, make_run
from train.data.tables import load_dataset
from train.run import load_run


def random_answers(count: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[targets]
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(1, keepdims=True), targets


@pytest.mark.parametrize("count", [90, 3000])
def test_a_point_says_what_holds_at_every_threshold_of_the_slider(count: int) -> None:
    """The page takes the last point at or below the slider, which has a thousand steps."""
    probabilities, targets = random_answers(count)
    curve = operating_curve(probabilities, targets, LABELS)
    assert curve is not None and curve["split"] == "valid" and curve["radiographs"] == count
    for index, label in enumerate(LABELS):
        points = curve["curves"][label]
        thresholds = [point["threshold"] for point in points]
        assert thresholds[0] == 0 and thresholds[-1] == 1 and thresholds == sorted(set(thresholds))
        assert len(points) <= 201
        # of many radiographs there are coarser steps, and a point speaks for its own threshold
        for step in range(1001) if count == 90 else [round(1000 * t) for t in thresholds]:
            at = [point for point in points if point["threshold"] <= step / 1000][-1]
            called = probabilities[:, index] >= step / 1000
            assert at["true_positives"] == (called & (targets == index)).sum(), step
            assert at["false_positives"] == (called & (targets != index)).sum(), step
            assert at["true_positives"] + at["false_negatives"] == (targets == index).sum()
            assert at["false_positives"] + at["true_negatives"] == (targets != index).sum()


def test_a_class_with_few_radiographs_has_no_curve() -> None:
    probabilities, targets = random_answers(200)
    rare = np.where(targets == 2)[0][FEWEST - 1 :]
    keep = np.setdiff1d(np.arange(200), rare)
    curve = operating_curve(probabilities[keep], targets[keep], LABELS)
    assert curve is not None and set(curve["curves"]) == set(LABELS[:2])
    few = np.concatenate([np.where(targets == index)[0][: FEWEST - 1] for index in range(3)])
    assert operating_curve(probabilities[few], targets[few], LABELS) is None
    assert operating_curve(np.empty((0, 3)), np.empty(0, int), LABELS) is None


def test_the_bundle_carries_the_full_models_curve(
    tmp_path: Path, run_folder: Path, data_folder: Path, bundle_folder: Path
) -> None:
    with open_bundle(bundle_folder) as bundle:
        assert bundle.manifest.operating_curve is None, "two validation radiographs of a class say nothing"
    data = make_dataset(tmp_path / "data", per_class=(3, FEWEST, 1))
    run = make_run(tmp_path / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, data)
    said: list[str] = []
    result = build_bundle(
        run, data, tmp_path / "bundle", formats=["onnx"], int8=False, on_step=lambda what, *_: said.append(what)
    )
    assert any(what.endswith(f"{3 * FEWEST} of {3 * FEWEST} radiographs") for what in said if "curve" in what)
    with open_bundle(tmp_path / "bundle") as bundle:
        manifest = bundle.manifest
    curve = curve_of(manifest)
    assert curve is not None and set(curve.curves) == set(LABELS) and curve.radiographs == 3 * FEWEST
    for label, points in described(curve)["curves"].items():
        assert points[0]["sensitivity"][0] == 1 and points[0]["specificity"][0] == 0, label
        assert points[-1]["sensitivity"][0] < 1
    notes: list[str] = []
    graph = deployable_graph(load_run(run))
    assert learn_operating_curve(graph, load_dataset(data), notes) == manifest.operating_curve and not notes
    assert not any("operating curve" in note for note in result.notes)

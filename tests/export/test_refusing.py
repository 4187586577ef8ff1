"""The gate and the prediction sets: learnt on phantoms, carried by every format, refused by the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge_runtime.answer import answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.manifest import Manifest
from edge_runtime.predictor import Predictor
from export.build import build_bundle
from export.conformal import conformal_thresholds, fewest_radiographs
from export.errors import ExportError
from export.gate import Gate, GateParameters, TappedBody, gate_features
from export.gate_fitting import Seen, _limit, fit_gate
from export.gate_pictures import drawn_pictures, load_given, rotated
from export.graph import deployable_graph
from tests.export.making import ARCHITECTURE, LABELS, make_classifier, make_dataset, make_run
from train.data.phantom import phantom_pixels
from train.run import load_run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data, run and bundle with a gate that has also seen given pictures; fp32 in every format."""
    root = tmp_path_factory.mktemp("gate")
    data = make_dataset(root / "data", per_class=(40, 10, 4))
    run = make_run(root / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, data)
    (root / "given/lateral").mkdir(parents=True)
    for seed in range(8):  # half a phantom: one lung, as a lateral view has
        half = phantom_pixels("normal", 900 + seed, 160)[:, :80]
        Image.fromarray(np.asarray(half)).resize((150, 160)).save(root / f"given/lateral/{seed}.png")
    build_bundle(run, data, root / "bundle", int8=False, not_frontal=root / "given", minimum_age=16)
    return data, run, root / "bundle"


@pytest.fixture(scope="module")
def manifest(built: tuple[Path, Path, Path]) -> Manifest:
    """The manifest of the bundle with a gate."""
    with open_bundle(built[2]) as bundle:
        return bundle.manifest


def test_the_manifest_says_what_was_learnt(manifest: Manifest) -> None:
    gate, conformal = manifest.gate, manifest.conformal
    assert gate is not None and conformal is not None
    assert set(gate.reasons) == {"not_a_radiograph", "inverted", "rotated", "lateral_view"}
    assert gate.other_pictures == {"not_a_radiograph": 400, "inverted": 120, "rotated": 120, "lateral_view": 16}
    assert (gate.training_radiographs, gate.validation_radiographs, gate.minimum_age_years) == (120, 30, 16)
    assert gate.validation_refused <= 1
    assert set(conformal.thresholds) == set(LABELS) and conformal.radiographs == dict.fromkeys(LABELS, 10)


@pytest.mark.parametrize("artifact", ["onnx-fp32", "openvino-fp32", "torchscript-fp32", "lite-fp32"])
def test_every_format_gives_the_same_score(built: tuple[Path, Path, Path], artifact: str) -> None:
    pictures = [phantom_pixels("normal", 5, 200), 255 - phantom_pixels("normal", 6, 180), *drawn_pictures(5, seed=9)]
    with (
        open_bundle(built[2]) as bundle,
        Predictor.open(bundle, "onnx-fp32") as first,
        Predictor.open(bundle, artifact) as second,
    ):
        wanted = [first.predict(picture).gate_score for picture in pictures]
        found = [second.predict(picture).gate_score for picture in pictures]
    assert wanted[0] < 1 <= min(wanted[1:3])
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_the_runtime_refuses_what_is_no_radiograph(built: tuple[Path, Path, Path], tmp_path: Path) -> None:
    phantoms = [phantom_pixels(LABELS[n % 3], 5000 + n, 170) for n in range(30)]
    kinds = {
        "ok": phantoms,
        "inverted": [255 - p for p in phantoms],
        "rotated": [np.rot90(p, 1 + n % 3) for n, p in enumerate(phantoms)],
        "not_a_radiograph": list(drawn_pictures(30, seed=77)),
    }
    refused, named = {}, {}
    with open_bundle(built[2]) as bundle, Predictor.open(bundle) as predictor:
        for kind, pictures in kinds.items():
            answers = []
            for pixels in pictures:
                Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png")
                answers.append(answer_file(predictor, tmp_path / "a.png").answer)
            refused[kind] = sum(a.status == "refused" for a in answers)
            named[kind] = sum(a.reason == kind for a in answers)
    assert refused["ok"] <= 2, "a gate that refuses phantoms is of no use"
    assert refused["inverted"] >= 28 and named["inverted"] >= 26
    assert refused["rotated"] >= 28 and named["rotated"] >= 26
    assert refused["not_a_radiograph"] >= 28


def test_the_eager_graph_of_a_run_has_no_gate(built: tuple[Path, Path, Path]) -> None:
    graph = deployable_graph(load_run(built[1]))
    assert graph(torch.zeros(1, 1, 150, 150, dtype=torch.uint8)).gate_score.tolist() == [0.0]


def test_too_little_data_gives_no_gate_and_says_so(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", per_class=(3, 2, 1))
    run = make_run(tmp_path / "run", make_classifier(ARCHITECTURE), ARCHITECTURE, data)
    result = build_bundle(run, data, tmp_path / "bundle", formats=["onnx"], int8=False)
    assert (result.manifest.gate, result.manifest.conformal) == (None, None)
    assert any(note.startswith("No gate") for note in result.notes)
    assert any(note.startswith("No prediction sets") for note in result.notes)
    with pytest.raises(ExportError, match="too few"):
        fit_gate(Seen(np.zeros((9, 4))), Seen(np.zeros((9, 4))), {})


def test_the_score_has_its_verdict_in_the_whole_part() -> None:
    """By hand: one direction, and a regression that only looks at the first feature."""
    weights = np.zeros((3, 4))
    weights[1, 0], weights[2, 0] = -1.0, 1.0  # the first reason where it is negative, the second where positive
    gate = Gate(
        GateParameters(
            centre=np.zeros(4), scale=np.ones(4), directions=np.array([[1.0, 0, 0, 0]]), deviations=np.array([1.0]),
            rest=1.0, weights=weights, bias=np.array([100.0, 0, 0]), limits=(2.0, 1e3),
            reasons=("not_a_radiograph", "inverted"),
        )
    )  # fmt: skip

    def score(x: float) -> float:
        return float(gate.score(torch.tensor([[x, 0.0, 0, 0]])))

    assert score(2.0) == pytest.approx(0.5)  # distance |x| / sqrt(4) = 1 of 2
    assert score(3.99) == pytest.approx(0.9975)
    assert score(8.0) == pytest.approx(2.5)  # twice the limit: the second reason, 1 - 1/2
    assert score(-8.0) == pytest.approx(1.5)
    assert score(1e9) == score(50.0) and 2.9 < score(1e9) < 3, "cut, so that it cannot run away"
    assert np.isnan(score(float("nan"))), "the runtime must see that nothing is known"


def test_the_regression_refuses_from_its_limit_on() -> None:
    weights = np.zeros((2, 4))
    weights[1, 1] = 1.0
    gate = Gate(
        GateParameters(
            centre=np.zeros(4), scale=np.full(4, 2.0), directions=np.eye(4)[:1], deviations=np.ones(1), rest=1.0,
            weights=weights, bias=np.zeros(2), limits=(1e3, 1.5), reasons=("rotated",),
        )
    )  # fmt: skip
    # log odds = the standardised second feature
    assert float(gate.score(torch.tensor([[0, 2.9, 0, 0]]))) < 1 <= float(gate.score(torch.tensor([[0, 3.1, 0, 0]])))


def test_features_are_quarters_and_deviations() -> None:
    quarters = torch.arange(4.0).reshape(2, 2).repeat_interleave(3, 0).repeat_interleave(4, 1)[None, None]
    assert gate_features(quarters).tolist() == [[0, 1, 2, 3, pytest.approx(np.sqrt(1.25))]]
    odd = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])[None, None]
    assert gate_features(odd)[0, :4].tolist() == [3, 4, 6, 7], "an odd number of rows: quarters share the middle one"


def test_the_gate_looks_at_the_last_map_of_a_sixteenth() -> None:
    def halve(channels: int) -> torch.nn.Conv2d:
        return torch.nn.Conv2d(channels, channels + 1, 3, stride=2, padding=1)

    body = torch.nn.Sequential(*(halve(3 + n) for n in range(5)))  # edges 32, 16, 8, 4, 2 of 64
    tapped = TappedBody(body, 64)
    picture = torch.rand(1, 3, 64, 64)
    last, middle = tapped(picture)
    assert torch.equal(tapped.until_tap(picture), middle)
    assert (tapped.tap, last.shape[1:], middle.shape[1:]) == (3, (8, 2, 2), (7, 4, 4))
    assert [name for name, _ in tapped.named_children()] == [name for name, _ in body.named_children()]

    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = halve(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    whole = TappedBody(Other(), 64)
    last, middle = whole(torch.zeros(1, 3, 64, 64))
    assert last is middle and [name for name, _ in whole.named_children()] == ["whole"]


def test_limits_rest_on_radiographs_that_were_not_fitted_on() -> None:
    """Two patients of a hospital apart: the distance's limit has to reach to them, though each is fitted on."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (200, 6))
    features[:20] += 4
    groups = tuple(f"p{n // 10}" for n in range(200))
    others = {"rotated": Seen(rng.normal(0, 1, (50, 6)) - 8)}
    valid = Seen(rng.normal(0, 1, (40, 6)))
    kept_whole = fit_gate(Seen(features, groups), valid, others)
    alone = fit_gate(Seen(features), valid, others)
    assert kept_whole.limits[0] >= alone.limits[0] > 1
    assert kept_whole.limits[1] >= 1
    scores = Gate(kept_whole).score(torch.from_numpy(features).float())
    assert (scores < 1).all() and (
        Gate(kept_whole).score(torch.from_numpy(others["rotated"].features).float()) >= 1
    ).all()


def test_turned_is_never_upright() -> None:
    grey = torch.rand(2, 1, 64, 64) * 100
    assert [tuple(rotated(grey, n).shape) for n in range(3)] == [(2, 1, 64, 64)] * 3
    assert not any(torch.equal(rotated(grey, n), grey) for n in range(6))


def test_limits_are_conformal_quantiles() -> None:
    scores = np.arange(1.0, 101.0)
    assert _limit(scores, 0.05) == 96
    assert _limit(scores, 0.001) == 100, "too few to tell: the largest"


def test_given_pictures_are_read_by_folder(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no picture"):
        list(load_given(tmp_path))
    (tmp_path / "other/deep").mkdir(parents=True)
    Image.fromarray(phantom_pixels("normal", 1, 150)).save(tmp_path / "other/deep/a.png")
    (tmp_path / "other/b.png").write_text("no image")
    assert [kind for kind, _ in load_given(tmp_path)] == ["not_a_radiograph"]


def test_thresholds_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5], [0.1, 0.9]])
    targets = np.array([0, 0, 0, 0, 1, 1])
    # Of four "a": rank ceil(5 * 0.7) = 4, the smallest; of two "b": ceil(3 * 0.7) = 3 of 2, so always in the set.
    assert conformal_thresholds(p, targets, ("a", "b"), 0.7) == {"a": 0.3, "b": 0.0}
    assert (fewest_radiographs(0.9), fewest_radiographs(0.5), fewest_radiographs(0.95)) == (9, 1, 19)
    nine = conformal_thresholds(np.linspace(0.1, 0.9, 9)[:, None], np.zeros(9, np.intp), ("a",), 0.9)
    assert nine["a"] == pytest.approx(0.1)


def test_each_class_is_covered_as_stated() -> None:
    """500 draws of a calibration set and one new radiograph of each class: the promise is about this average."""
    rng = np.random.default_rng(3)
    covered = np.zeros(3)
    draws = 500
    for _ in range(draws):
        targets = np.repeat(np.arange(3), [40, 12, 25])
        logits = rng.normal(0, 1.5, (80, 3))
        targets = np.concatenate([targets, np.arange(3)])
        logits[np.arange(80), targets] += 1 + targets * 0.5
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        thresholds = conformal_thresholds(p[:77], targets[:77], LABELS, 0.9)
        covered += [p[77 + c, c] >= thresholds[LABELS[c]] for c in range(3)]
    rates = covered / draws
    assert (rates > 0.9 - 3 * np.sqrt(0.09 / draws)).all(), rates
    assert (rates < 1.0).all(), "sets that always hold everything promise nothing"

"""The parts of the pipeline, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from train.augmentation import batch_transforms
from train.calibration import expected_calibration_error, fit_temperature, operating_points, softmax
from train.image_cache import CacheError, cached_images
from train.intervals import wilson_interval
from train.loading import CachedLoader, CachedRadiographs, class_weights
from train.loss import TrainingLoss
from train.model import build_classifier
from train.preprocessing import Normalization, squish
from train.recipe import RecipeError, load_recipe, recipe_names
from train.swish import MemorySavingSwish, memory_saving_swish
from train.weights import WeightsError, load_starting_weights


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_reads(name: str) -> None:
    assert load_recipe(name).name == name


def test_the_seeds_recipes_hold_the_seeds_numbers() -> None:
    repository, report = load_recipe("repository"), load_recipe("report")
    assert [(s.size, s.epochs, s.frozen) for s in repository.stages] == [(240, 6, False), (300, 3, True)]
    assert [(s.size, s.epochs, s.lr, s.wd, s.pct_start, s.frozen) for s in report.stages] == [
        (450, 6, 3e-3, 2e-2, 0.4, False),
        (600, 6, 2e-3, 2e-1, 0.4, True),
    ]
    assert repository.stages[0].lr == pytest.approx(5e-3 / 6, rel=1e-6)
    assert repository.batch_size == report.batch_size == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batch_size", "no '='"),
        ("bach_size=3", "no recipe field"),
        ("stages.7.epochs=2", "no recipe field"),
        ("batch_size=0", "batch_size"),
        ("normalization=minmax", "normalization"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("quick", (override,))


def test_overrides_are_applied() -> None:
    recipe = load_recipe("quick", ("stages.0.epochs=2", "augmentation.flip_p=1", "architecture=mobilenetv2_wd4"))
    assert recipe.stages[0].epochs == 2
    assert recipe.augmentation.flip_p == 1.0
    assert recipe.architecture == "mobilenetv2_wd4"


def test_squish_agrees_with_pillow_to_one_grey_level() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (333, 257), dtype=np.uint8)
    ours = squish(torch.from_numpy(pixels)[None, None], 96)[0, 0].numpy()
    pillow = np.asarray(Image.fromarray(pixels).resize((96, 96), Image.Resampling.BILINEAR), dtype=np.float32)
    assert np.abs(ours - pillow).max() < 1.0


def test_per_image_normalisation_ignores_exposure_and_survives_a_blank_image() -> None:
    image = torch.rand(1, 1, 32, 32) * 100 + 50
    normalization = Normalization("per_image")
    assert torch.allclose(normalization(image), normalization(image * 0.5 + 30), atol=1e-4)
    assert torch.isfinite(normalization(torch.zeros(1, 1, 8, 8))).all()


def test_memory_saving_swish_has_swishs_values_and_gradients_and_leaves_no_trace() -> None:
    x = torch.randn(64, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MemorySavingSwish(), (x,))
    model = build_classifier("efficientnet_b0", 3)
    before = {name: type(module) for name, module in model.named_modules()}
    with memory_saving_swish(model) as replaced:
        assert replaced > 40
        assert any(isinstance(module, MemorySavingSwish) for module in model.modules())
    assert {name: type(module) for name, module in model.named_modules()} == before


def _radiographs(counts: tuple[int, ...]) -> CachedRadiographs:
    targets = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    return CachedRadiographs(np.zeros((len(targets), 32, 32), np.uint8), targets)


def test_oversampling_evens_out_the_classes_and_repeats_by_epoch() -> None:
    data = _radiographs((900, 80, 20))
    loader = CachedLoader(data, bs=50, weights=class_weights(data.targets), seed=1, shuffle=True, drop_last=True)
    drawn = data.targets[loader.get_idxs()]
    assert len(drawn) == 1000
    assert np.bincount(drawn).min() > 270
    again = data.targets[loader.get_idxs()]
    assert (drawn == again).all()
    loader.set_epoch(1)
    assert (data.targets[loader.get_idxs()] != drawn).any()


def test_validation_is_in_order_and_whole() -> None:
    loader = CachedLoader(_radiographs((30, 5, 2)), bs=16, shuffle=False)
    seen = torch.cat([targets for _, targets in loader])
    assert seen.tolist() == [0] * 30 + [1] * 5 + [2] * 2


def test_validation_batches_are_not_augmented() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    data = CachedRadiographs(images, np.zeros(6, np.int64))
    normalization = Normalization("imagenet")
    expected = normalization(torch.from_numpy(images).float()[:, None])
    batches = {}
    for split in (0, 1):
        transforms = batch_transforms(load_recipe("repository").augmentation, normalization)
        loader = CachedLoader(data, bs=6, shuffle=False, after_batch=transforms)
        loader.after_batch.split_idx = split
        torch.manual_seed(0)
        batches[split] = next(iter(loader))[0]
        assert batches[split].shape == (6, 3, 48, 48)
    assert torch.allclose(batches[1].as_subclass(torch.Tensor), expected, atol=1e-4)
    assert not torch.allclose(batches[0].as_subclass(torch.Tensor), expected, atol=0.1)


def test_label_smoothing_belongs_to_training() -> None:
    logits, target = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([0])
    loss = TrainingLoss(label_smoothing=0.2)
    with torch.no_grad():
        validation = loss(logits, target)
    assert loss(logits, target) > validation


def test_an_unreadable_image_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CacheError, match=r"broken\.png"):
        cached_images(tmp_path, ["broken.png"], ["0"], 32, tmp_path / "cache", workers=1)
    assert not list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", no_room)
    with pytest.raises(CacheError, match="No space left"):
        cached_images(tmp_path, ["a.png"], ["0"], 32, tmp_path / "cache", workers=1)


def test_temperature_repairs_overconfidence() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, 3000)
    honest = generator.normal(0, 1, (3000, 3)) + 1.5 * np.eye(3)[targets]
    honest_t = fit_temperature(honest, targets)
    overconfident = honest * 4
    assert fit_temperature(overconfident, targets) == pytest.approx(4 * honest_t, rel=0.02)
    before = expected_calibration_error(softmax(overconfident), targets)
    after = expected_calibration_error(softmax(overconfident, 4 * honest_t), targets)
    assert after < before / 3


def test_operating_point_keeps_the_wanted_sensitivity() -> None:
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 3, 400)
    probabilities = softmax(generator.normal(0, 1, (400, 3)) + 2 * np.eye(3)[targets])
    point = operating_points(probabilities, targets, ("a", "b", "c"), 0.9)["b"]
    called = probabilities[:, 1] >= point["threshold"]
    assert called[targets == 1].mean() == pytest.approx(point["sensitivity"]["value"])
    assert point["sensitivity"]["value"] >= 0.9
    stricter = probabilities[:, 1] > point["threshold"]
    assert stricter[targets == 1].mean() < 0.9


@pytest.mark.parametrize(
    ("hits", "cases", "low", "high"), [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (62, 62, 0.9417, 1.0)]
)
def test_wilson_interval_against_published_values(hits: int, cases: int, low: float, high: float) -> None:
    assert wilson_interval(hits, cases) == pytest.approx((low, high), abs=5e-4)


def test_starting_weights_that_do_not_fit_or_exist_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    classifier = build_classifier("mobilenetv2_wd4", 3)
    with pytest.raises(WeightsError, match="no starting weights"):
        load_starting_weights(classifier, str(tmp_path / "absent.pth"), "mobilenetv2_wd4")
    save_file({"features.x": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        load_starting_weights(classifier, str(tmp_path / "odd.safetensors"), "mobilenetv2_wd4")


def test_starting_weights_from_a_file_reach_the_body(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    donor, classifier = build_classifier("mobilenetv2_wd4", 3), build_classifier("mobilenetv2_wd4", 5)
    save_file({f"features.{k}": v for k, v in donor[0].state_dict().items()}, tmp_path / "w.safetensors")
    load_starting_weights(classifier, str(tmp_path / "w.safetensors"), "mobilenetv2_wd4")
    for mine, theirs in zip(classifier[0].state_dict().values(), donor[0].state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_imagenet_weights_without_a_network_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import pytorchcv.model_provider

    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    classifier = build_classifier("mobilenetv2_wd4", 3)
    monkeypatch.setattr(pytorchcv.model_provider, "get_model", offline)
    with pytest.raises(WeightsError, match="--weights none"):
        load_starting_weights(classifier, "imagenet", "mobilenetv2_wd4")


def test_every_recipes_augmentation_runs_on_a_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    data = CachedRadiographs(images, np.zeros(4, np.int64))
    for name in recipe_names():
        recipe = load_recipe(name, ("augmentation.erase_p=1.0", "augmentation.noise=3.0", "augmentation.flip_p=0.5"))
        for kind in ("imagenet", "per_image"):
            transforms = batch_transforms(recipe.augmentation, Normalization(kind))
            loader = CachedLoader(data, bs=4, shuffle=False, after_batch=transforms)
            loader.after_batch.split_idx = 0
            pixels, _ = next(iter(loader))
            assert pixels.shape == (4, 3, 64, 64)
            assert torch.isfinite(pixels).all()

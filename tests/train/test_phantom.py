"""The drawing of one phantom: reproducible, a thorax by its brightness, opacities where the boxes are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from train.data.phantom import Phantom, build_phantom, phantom_pixels
from train.data.rows import LABELS, Box, DataError

SIZE = 128


def inside(box: Box, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    rows, columns = shape
    mask = np.zeros(shape, dtype=bool)
    top, left = round(box.y * rows), round(box.x * columns)
    mask[top : top + round(box.height * rows), left : left + round(box.width * columns)] = True
    return mask


def signal(phantom: Phantom) -> NDArray[np.float64]:
    """What the detector stored; comparable between phantoms of one seed, whatever the window."""
    return phantom.stored.astype(np.float64)


@pytest.mark.parametrize("label", LABELS)
def test_the_same_call_gives_the_same_pixels(label: str) -> None:
    first, second = build_phantom(label, 7, SIZE), build_phantom(label, 7, SIZE)
    assert np.array_equal(first.stored, second.stored)
    assert first.boxes == second.boxes
    assert first.facts == second.facts
    assert np.array_equal(phantom_pixels(label, 7, SIZE), first.pixels)


def test_other_seeds_give_other_pictures() -> None:
    pictures = {phantom_pixels("normal", seed, SIZE).tobytes() for seed in range(6)}
    assert len(pictures) == 6


@pytest.mark.parametrize("size", [64, 128, 200])
def test_shape_type_and_range(size: int) -> None:
    for seed in range(3):
        phantom = build_phantom("normal", seed, size)
        assert min(phantom.pixels.shape) == size
        assert max(phantom.pixels.shape) <= 1.25 * size
        assert phantom.pixels.dtype == np.uint8
        assert phantom.stored.dtype == np.uint16
        assert phantom.stored.max() <= 4095
        assert np.ptp(phantom.pixels) > 150


def test_there_are_upright_square_and_wide_pictures() -> None:
    shapes = [phantom_pixels("normal", seed, 64).shape for seed in range(24)]
    assert {int(np.sign(rows - columns)) for rows, columns in shapes} == {-1, 0, 1}


def test_a_normal_phantom_looks_like_a_chest() -> None:
    """Averages over many: lungs darker than heart and abdomen, the heart on the picture's right."""
    pictures = []
    for seed in range(12):
        pixels = phantom_pixels("normal", seed, 96)
        rows = (np.arange(60) + 0.5) / 60 * pixels.shape[0]
        columns = (np.arange(60) + 0.5) / 60 * pixels.shape[1]
        pictures.append(pixels[np.ix_(rows.astype(int), columns.astype(int))].astype(float))
    mean = np.mean(pictures, axis=0)
    right_lung, left_lung = mean[18:28, 15:22].mean(), mean[18:28, 39:46].mean()
    heart, mirrored = mean[34:38, 36:40].mean(), mean[34:38, 20:24].mean()
    abdomen = mean[50:56, 20:40].mean()
    assert abdomen > right_lung + 60
    assert abdomen > left_lung + 60
    assert heart > mirrored + 15
    assert mean[:2, :4].mean() < mean[30, 4:56].mean()


@pytest.mark.parametrize("label", ["pneumonia", "COVID-19"])
@pytest.mark.parametrize("seed", range(6))
def test_opacities_brighten_their_boxes(label: str, seed: int) -> None:
    ill, well = build_phantom(label, seed, SIZE), build_phantom("normal", seed, SIZE)
    change = signal(ill) - signal(well)
    marked = np.zeros(change.shape, dtype=bool)
    for box in ill.boxes:
        assert min(box.x, box.y) >= 0
        assert max(box.x + box.width, box.y + box.height) <= 1
        mask = inside(box, change.shape)
        assert change[mask].mean() > 15, "brighter than the same person without disease"
        marked |= mask
    assert abs(np.median(change[~marked])) < 0.25 * change[marked].mean()
    assert float(ill.opacity[marked].sum()) > 0.8 * float(ill.opacity.sum())


def test_a_one_sided_opacity_is_brighter_than_the_other_side() -> None:
    """Against the mirrored place, with the healthy picture's own asymmetry taken off; medians over many."""
    gains = []
    for seed in range(10):
        ill, well = build_phantom("pneumonia", seed, SIZE), build_phantom("normal", seed, SIZE)
        if len(ill.facts.where) != 1:
            continue
        mask = inside(ill.boxes[0], ill.stored.shape)
        here = signal(ill)[mask].mean() - signal(ill)[:, ::-1][mask].mean()
        before = signal(well)[mask].mean() - signal(well)[:, ::-1][mask].mean()
        gains.append(here - before)
    assert len(gains) >= 4
    assert np.median(gains) > 30


def test_the_diseases_differ_in_where_they_are() -> None:
    sides = {"pneumonia": 0, "COVID-19": 0}
    for label in sides:
        for seed in range(12):
            opacity = build_phantom(label, seed, 96).opacity
            middle = opacity.shape[1] // 2
            left, right = float(opacity[:, :middle].sum()), float(opacity[:, middle:].sum())
            sides[label] += min(left, right) > 0.15 * (left + right)
    assert sides["COVID-19"] >= 10
    assert sides["pneumonia"] <= 6


def test_normal_has_no_opacity() -> None:
    phantom = build_phantom("normal", 3, SIZE)
    assert phantom.boxes == ()
    assert not phantom.opacity.any()
    assert phantom.facts.where == ()


def test_exposure_and_body_do_not_depend_on_the_label() -> None:
    facts = [build_phantom(label, 11, 96).facts for label in LABELS]
    for name in ("sex", "age", "view", "erect", "distance", "pixel_spacing", "inverted", "sigmoid"):
        assert len({getattr(item, name) for item in facts}) == 1, name


def test_the_word_is_in_the_border_and_the_same_for_every_label() -> None:
    strips = []
    for label in LABELS:
        stored = build_phantom(label, 5, 256).stored
        strip = stored[-7:]
        assert len(np.unique(strip)) == 2, "letters on a plain border"
        strips.append(strip)
    assert all(np.array_equal(strips[0], strip) for strip in strips)


def test_one_patient_seed_is_one_body() -> None:
    first, second = (build_phantom("normal", seed, 96, patient_seed=4).facts for seed in (1, 2))
    assert (first.sex, first.age) == (second.sex, second.age)
    assert (first.distance, first.pixel_spacing) != (second.distance, second.pixel_spacing)


@pytest.mark.parametrize(
    ("label", "seed", "size", "word"),
    [
        ("flu", 0, 128, "label"),
        ("normal", -1, 128, "seed"),
        ("normal", 0, 32, "size"),
        ("normal", 0, 5000, "size"),
    ],
)
def test_bad_arguments_are_named(label: str, seed: int, size: int, word: str) -> None:
    with pytest.raises(DataError, match=word):
        build_phantom(label, seed, size)

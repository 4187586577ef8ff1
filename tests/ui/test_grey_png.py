"""The quick PNG writer against Pillow's decoder: every pixel, and a file that a strict reader takes."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from edge_runtime.grey_png import grey_png
from tests.ui.scripted import drawn_radiograph


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (3, 5), (400, 361)])
def test_pillow_reads_back_what_was_written(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for each in (pixels, drawn_radiograph(*shape), pixels[::-1, ::-1], np.asfortranarray(pixels)):
        with Image.open(BytesIO(grey_png(each)), formats=["PNG"]) as image:
            image.verify()  # its checksums too
        with Image.open(BytesIO(grey_png(each))) as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), each)


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2), np.uint16), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        grey_png(pixels)

"""The perceptual hash: a copy in another size and format is found, another radiograph is not."""

from __future__ import annotations

import imagehash
import numpy as np
from PIL import Image

from tests.train.covidx_sources import picture
from train.data.near_duplicates import MAX_DISTANCE, PERCEPTUAL_HASH_SIZE, find_alike


def perceptual_hash(image: Image.Image) -> str:
    return str(imagehash.phash(image, hash_size=PERCEPTUAL_HASH_SIZE))


def test_a_resized_and_brightened_copy_is_alike_and_others_are_not() -> None:
    images = [Image.fromarray(picture(seed, 320)) for seed in range(30)]
    copy = images[7].resize((211, 240)).point(lambda value: 30 + 0.8 * value)
    pairs = find_alike([perceptual_hash(image) for image in (*images, copy)])
    assert [(first, second) for first, second, _ in pairs] == [(7, 30)]


def test_distances_are_counted_in_bits_and_blocks_meet() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, (5000, 32), dtype=np.uint8)
    bits[4321] = bits[17]
    bits[4321, 3] ^= 0b10110000
    bits[4999] = bits[4998]
    pairs = find_alike([row.tobytes().hex() for row in bits])
    assert pairs == [(17, 4321, 3), (4998, 4999, 0)]
    assert find_alike([row.tobytes().hex() for row in bits], max_distance=2) == [(4998, 4999, 0)]


def test_the_limit_is_inclusive() -> None:
    one = np.zeros(32, dtype=np.uint8)
    other = one.copy()
    other[: MAX_DISTANCE // 8] = 255
    assert find_alike([one.tobytes().hex(), other.tobytes().hex()]) == [(0, 1, MAX_DISTANCE)]
    assert find_alike([]) == []

"""Images that look alike, by perceptual hash.

The hash (imagehash's ``phash``) keeps the signs of the low frequencies of a shrunk image: it survives another
size, file format or compression, and little else. All frontal radiographs look somewhat alike, so the usual
64 bits are too few; see ``docs/data.md`` for how the limit was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["MAX_DISTANCE", "PERCEPTUAL_HASH_SIZE", "find_alike"]

PERCEPTUAL_HASH_SIZE = 16
"""Edge of the block of frequencies: 16 x 16 = 256 bits."""

MAX_DISTANCE = 32
"""Bits, of 256, that near duplicates may differ in."""

_BLOCK = 2048


def find_alike(hashes: Sequence[str], max_distance: int = MAX_DISTANCE) -> list[tuple[int, int, int]]:
    """Return the pairs of perceptual hashes that differ in at most ``max_distance`` bits.

    Parameters
    ----------
    hashes
        Hexadecimal, all of one length.

    Returns
    -------
    list of (first, second, distance)
        Positions in ``hashes``, first < second, and the Hamming distance in bits.
    """
    if len(hashes) < 2:
        return []
    packed = np.array([list(bytes.fromhex(text)) for text in hashes], dtype=np.uint8)
    # With bits as -1 and +1 the distance is a matrix product: (bits - a . b) / 2.
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    pairs = []
    for start in range(0, len(hashes), _BLOCK):
        distances = (signs.shape[1] - signs[start : start + _BLOCK] @ signs[start:].T) / 2
        for row, column in zip(*np.nonzero(distances <= max_distance), strict=True):
            if row < column:
                pairs.append((start + int(row), start + int(column), int(distances[row, column])))
    return pairs

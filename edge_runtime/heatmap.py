"""Heat maps drawn over a radiograph: what weighed for a class, in colour; the grey stays grey where nothing
did.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["PALETTE", "overlay", "overlay_png"]

# Equal steps of lightness, so that it reads in order without colour vision too:
# OKLCH lightness 0.42 to 0.88, chroma 0.15, hue 305 to 90 degrees.
_STOPS = (
    (97, 47, 141),
    (131, 57, 141),
    (164, 67, 134),
    (194, 81, 123),
    (219, 100, 109),
    (239, 122, 92),
    (251, 149, 77),
    (255, 179, 70),
    (254, 210, 82),
)
_STRONGEST = 0.6  # opacity at 1: the radiograph stays readable under the warmest colour


def _palette() -> tuple[tuple[int, int, int, int], ...]:
    levels = np.linspace(0, 1, 256)
    stops = np.linspace(0, 1, len(_STOPS))
    channels = [np.interp(levels, stops, channel) for channel in zip(*_STOPS, strict=True)]
    table = np.rint(np.stack([*channels, levels * _STRONGEST * 255], axis=1)).astype(int)
    return tuple((int(r), int(g), int(b), int(a)) for r, g, b, a in table)


PALETTE = _palette()
"""256 colours (red, green, blue, opacity), 0 to 255, for heat map values from 0 to 1; clear at 0."""


def overlay(pixels: NDArray[np.uint8], heatmap: NDArray[np.float32], alpha: float = 1.0) -> NDArray[np.uint8]:
    """Lay one class's heat map over the radiograph it came from.

    Parameters
    ----------
    pixels
        uint8 [H, W].
    heatmap
        float32 [h, w] in [0, 1]; it covers the whole image.
    alpha
        Times the palette's opacity, in [0, 1].

    Returns
    -------
    NDArray[np.uint8]
        RGB [H, W, 3].
    """
    height, width = pixels.shape
    # 8-bit images throughout: a 12-megapixel radiograph in float RGB would take 144 MB
    levels = Image.fromarray(np.rint(heatmap.clip(0, 1) * 255).astype(np.uint8))
    levels = levels.resize((width, height), Image.Resampling.BILINEAR)
    opacity = levels.point([round(alpha * colour[3]) for colour in PALETTE])
    channels = [levels.point([colour[c] for colour in PALETTE]) for c in range(3)]
    grey = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    return np.array(Image.composite(Image.merge("RGB", channels), grey, opacity), np.uint8)


def overlay_png(pixels: NDArray[np.uint8], heatmap: NDArray[np.float32], longest_side: int = 1600) -> bytes:
    """Return the overlay as PNG, shrunk to at most ``longest_side`` pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((longest_side, longest_side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream = BytesIO()
    Image.fromarray(overlay(np.asarray(image), heatmap)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()

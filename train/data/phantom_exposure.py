"""From attenuation to a picture: Beer-Lambert law, scatter, detector, noise, log signal, window, letters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from train.data.phantom_patient import Array, Positioning, resample

__all__ = ["BITS", "display", "expose", "find_window", "letter", "store"]

BITS = 12
_OFFSET, _SPAN = 0.8, 7.2
"""Log signal that is stored as 0, and the span up to the largest value."""

_GLYPHS = {
    "S": "111100111001111", "Y": "101101010010010", "N": "111101101101101", "T": "111010010010010",
    "H": "101101111101101", "E": "111100111100111", "I": "111010010010111", "C": "111100100100111",
    "L": "100100100100111", "R": "110101110101101", "A": "010101111101101", "P": "110101110100100",
}  # fmt: skip


def expose(attenuation: Array, positioning: Positioning, pitch: float, rng: np.random.Generator) -> Array:
    """Log signal (0 behind nothing, larger behind more) of an exposure.

    Parameters
    ----------
    attenuation
        The ray-sum of attenuation coefficients, dimensionless, [H, W].
    pitch
        Pixel spacing on the detector, cm.
    """
    primary = np.exp(-attenuation)
    # Scatter comes out of tissue and is spread wide; a coarse grid is enough for it.
    step = max(1, round(0.8 / pitch))
    coarse = resample(np.minimum(primary, 0.12), (primary.shape[0] // step, primary.shape[1] // step))
    coarse = ndimage.gaussian_filter(coarse, 4.5 / (pitch * step), mode="nearest", truncate=3.0)
    scatter = resample(coarse, primary.shape)
    signal = ndimage.gaussian_filter(primary, 0.05 / pitch, truncate=3.0) + positioning.scatter * scatter
    quanta = positioning.dose * 1e5 * (pitch / 0.1) ** 2
    counts = signal * quanta
    noise = np.sqrt(counts + 30.0) * rng.standard_normal(counts.shape)
    noise = ndimage.gaussian_filter(noise, 0.4, truncate=3.0)
    return np.asarray(-np.log(np.maximum(counts + noise, 1.0) / quanta))


def find_window(signal: Array, positioning: Positioning) -> tuple[float, float]:
    """The log signals shown black and white: from lungs to abdomen, with some spread between devices."""
    body = signal[signal > 0.9]
    if body.size < 16:
        return 0.0, 5.0
    low, high = (float(v) for v in np.percentile(body, (3.0, 94.0)))
    span = high - low
    below, above = 0.12 + 0.22 * positioning.window[0], 0.06 + 0.16 * positioning.window[1]
    return low - below * span, high + above * span


def store(signal: Array | float) -> Array:
    """Log signal as 12-bit values, not yet rounded."""
    largest = 2.0**BITS - 1.0
    return np.asarray(np.clip((np.asarray(signal) + _OFFSET) / _SPAN * largest, 0.0, largest))


def display(stored: NDArray[np.uint16], centre: float, width: float, sigmoid: bool) -> NDArray[np.uint8]:
    """The picture as DICOM PS3.3 C.11.2.1.2 (LINEAR) or C.11.2.1.3.1 (SIGMOID) shows it, uint8 [H, W]."""
    value = stored.astype(np.float64)
    if sigmoid:
        shown = 1.0 / (1.0 + np.exp(-4.0 * (value - centre) / width))
    else:
        shown = np.clip((value - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
    return np.round(shown * 255.0).astype(np.uint8)


def letter(text: str, scale: int) -> NDArray[np.bool_]:
    """Lead letters as a mask: 3 x 5 squares each, `scale` pixels a square."""
    rows = []
    for row in range(5):
        bits = "0".join(_GLYPHS[glyph][3 * row : 3 * row + 3] for glyph in text)
        rows.append([bit == "1" for bit in bits])
    return np.kron(np.array(rows, dtype=np.uint8), np.ones((scale, scale), dtype=np.uint8)).astype(bool)

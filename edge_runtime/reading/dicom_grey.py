"""From stored values to 8-bit display values: the greyscale pipeline of DICOM PS3.3.

Which rules a header asks for is read in `dicom_grey_rules`; here they are carried out.

Every step maps one value to one value, so the whole pipeline runs on a table of the stored values that can
occur (at most 65,536) and the image is looked up in it once: exact in float64, without a float copy.

The steps and their source:

1. padding mask: Pixel Padding Value and Range Limit (C.7.5.1.1.2); padding is black and left out of ranges
2. Modality LUT or Rescale Slope and Intercept (C.11.1)
3. VOI LUT, else window with LINEAR, LINEAR_EXACT or SIGMOID (C.11.2), else the non-padding pixels' full range
4. one inversion if MONOCHROME1 (C.7.6.3.1.2) or Presentation LUT Shape INVERSE (C.11.6)
5. scale to 0..255, rounded to nearest

pydicom's own functions are not used for 2 and 3: they make float64 images, refuse a LINEAR window of width
below 1, and in them a VOI LUT of 8-bit depth with more than 256 entries wraps. The tests compare with them
where they are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import Reason, Refusal

__all__ = ["Floats", "GreyRules", "LookupTable", "Rescale", "Window", "to_display"]

Floats = NDArray[np.float64]

_BLOCK_PIXELS: Final = 1 << 16


@dataclass(frozen=True)
class Rescale:
    """Rescale Slope and Intercept, PS3.3 C.11.1.1.2."""

    slope: float
    intercept: float

    def __call__(self, values: Floats) -> Floats:
        """Return slope x value + intercept."""
        return values * self.slope + self.intercept


@dataclass(frozen=True)
class LookupTable:
    """A Modality or VOI LUT (PS3.3 C.11.1.1, C.11.2.1.1): ``entries`` for the inputs from ``first`` on."""

    first: int
    entries: Floats
    maximum: float
    """The largest output that the LUT's bits allow."""

    def __call__(self, values: Floats) -> Floats:
        """Return the entry of each value, rounded to a whole input."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[index.astype(np.intp)])

    def fraction(self, values: Floats) -> Floats:
        """Return the entry as a fraction of the output range, 0..1."""
        return self(values) / self.maximum


@dataclass(frozen=True)
class Window:
    """A window, PS3.3 C.11.2.1.2 and C.11.2.1.3."""

    center: float
    width: float
    function: str = "LINEAR"

    def fraction(self, values: Floats) -> Floats:
        """Return the display value as a fraction, 0 black to 1 white, before any inversion."""
        if self.function == "SIGMOID":  # C.11.2.1.3.1
            power = np.clip(-4.0 * (values - self.center) / self.width, -700.0, 700.0)
            return np.asarray(1.0 / (1.0 + np.exp(power)))
        center, width = self.center, self.width
        if self.function == "LINEAR":  # C.11.2.1.2.1; LINEAR_EXACT is C.11.2.1.3.2
            center, width = center - 0.5, width - 1.0
        if width == 0.0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)


@dataclass(frozen=True)
class GreyRules:
    """What a header says about turning stored values into grey.

    ``voi`` maps modality values to a fraction of white, None is the full range; ``padding`` is inclusive.
    """

    padding: tuple[int, int] | None = None
    modality: Callable[[Floats], Floats] | None = None
    voi: Callable[[Floats], Floats] | None = None
    inverted: bool = False


def to_display(stored: NDArray[Any], rules: GreyRules) -> NDArray[np.uint8]:
    """Map stored pixel values to 8-bit grey.

    Parameters
    ----------
    stored
        int or uint of up to 32 bits, [H, W].

    Returns
    -------
    uint8 [H, W]
        0 black, 255 white, padding 0.

    Raises
    ------
    Refusal
        ``no_contrast``: what is not padding comes out in one grey.
    """
    low, high = int(stored.min()), int(stored.max())
    if high - low > 0xFFFF:
        return _display_values(stored.astype(np.int64), rules, None)
    occurs = None
    if rules.padding is not None or (rules.voi is None and isinstance(rules.modality, LookupTable)):
        occurs = np.zeros(high - low + 1, dtype=bool)
        for _, index in _indexes(stored, low):
            occurs[index] = True
    table = _display_values(np.arange(low, high + 1, dtype=np.int64), rules, occurs)
    if stored.dtype == np.uint8:
        if np.array_equal(table, np.arange(low, high + 1)):
            return np.ascontiguousarray(stored)
        whole = np.zeros(256, dtype=np.uint8)
        whole[low : high + 1] = table
        looked_up = bytearray(stored.tobytes()).translate(whole.tobytes())  # a quarter of the time of take
        shown = np.frombuffer(looked_up, dtype=np.uint8).reshape(stored.shape)
    else:
        shown = np.empty(stored.shape, dtype=np.uint8)
        if stored.dtype.itemsize == 2 and stored.dtype.isnative:  # by the bits as they are: no index is worked out
            whole = np.zeros(1 << 16, dtype=np.uint8)
            whole[np.arange(low, high + 1) & 0xFFFF] = table
            table, low, stored = whole, 0, stored.view(np.uint16)
        for rows, index in _indexes(stored, low):
            np.take(table, index, out=shown[rows], mode="clip")
    if occurs is None and shown.min() == shown.max():
        raise _no_contrast()
    return shown


def _indexes(stored: NDArray[Any], low: int) -> Iterator[tuple[slice, NDArray[np.intp]]]:
    """Yield the image as indexes into the table, a band of rows at a time in one buffer (8 bytes a pixel)."""
    step = max(1, _BLOCK_PIXELS // stored.shape[1])
    buffer = np.empty((step, stored.shape[1]), dtype=np.intp)
    for start in range(0, stored.shape[0], step):
        band = stored[start : start + step]
        index = buffer[: len(band)]
        if low:
            np.subtract(band, low, out=index, dtype=np.intp)
        else:
            np.copyto(index, band)
        yield slice(start, start + len(band)), index


def _display_values(values: NDArray[np.int64], rules: GreyRules, occurs: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Run the pipeline on values; ``occurs`` marks those that the image has (None: all)."""
    padding = np.zeros(values.shape, dtype=bool)
    if rules.padding is not None:
        padding = (values >= rules.padding[0]) & (values <= rules.padding[1])
    judged = ~padding if occurs is None else ~padding & occurs
    if not judged.any():
        raise _no_contrast()
    modality = values.astype(np.float64)
    if rules.modality is not None:
        modality = rules.modality(modality)
    if rules.voi is not None:
        fraction = rules.voi(modality)
    else:
        darkest, brightest = float(modality[judged].min()), float(modality[judged].max())
        if not brightest > darkest:
            raise _no_contrast()
        fraction = np.clip((modality - darkest) / (brightest - darkest), 0.0, 1.0)
    if rules.inverted:
        fraction = 1.0 - fraction
    shown = np.rint(255.0 * fraction).astype(np.uint8)
    if occurs is not None and shown[judged].min() == shown[judged].max():
        raise _no_contrast()
    shown[padding] = 0
    return shown


def _no_contrast() -> Refusal:
    return Refusal(
        Reason.NO_CONTRAST,
        "the image is one even grey",
        expected="a radiograph with light and dark parts",
        remedy="check the exposure and the window, and export the image again",
    )

"""Colour images: grey in fact (then converted to grey) or really coloured (then refused).

A scanned or photographed film can have a tint: its colour is a function of its brightness. In a photograph
of anything else the same brightness comes in many colours. So what is measured is the chroma that a smooth
(cubic) curve over brightness does not explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import Reason, Refusal

__all__ = ["ColourFigures", "grey_from_colour", "measure_colour"]


MAX_OFF_TONE: Final = 0.06
"""Largest share of pixels whose chroma is off the image's own tone curve by more than `OFF_TONE_CHROMA`."""
OFF_TONE_CHROMA: Final = 12.0
"""In units of 8-bit Cb and Cr; twice what JPEG at quality 75 leaves on a tinted film."""
MAX_VIVID: Final = 0.02
"""Largest share of pixels of a chroma above `VIVID_CHROMA`, which only markers and arrows on a film have."""
VIVID_CHROMA: Final = 70.0
MAX_MEAN_CHROMA: Final = 30.0
"""Stronger than any tint of a film, its base or a screen (a sepia print has about 20)."""
_SAMPLE_EDGE: Final = 512


@dataclass(frozen=True)
class ColourFigures:
    """How coloured an image is: mean chroma, and the shares of pixels off the tone curve and vivid (0..1)."""

    mean_chroma: float
    off_tone: float
    vivid: float

    @property
    def is_coloured(self) -> bool:
        """True for a really coloured image, false for one that is grey or tinted as a whole."""
        return self.off_tone > MAX_OFF_TONE or self.vivid > MAX_VIVID or self.mean_chroma > MAX_MEAN_CHROMA


def measure_colour(rgb: NDArray[np.uint8]) -> ColourFigures:
    """Measure the colour of an image on a sample of at most 512 x 512 of its pixels.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3].
    """
    step_y, step_x = (max(1, -(-edge // _SAMPLE_EDGE)) for edge in rgb.shape[:2])
    sample = rgb[::step_y, ::step_x].astype(np.float32)
    red, green, blue = sample[..., 0], sample[..., 1], sample[..., 2]
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).ravel()  # ITU-R BT.601, as JFIF has it
    blueness = 0.564 * (blue.ravel() - luma)
    redness = 0.713 * (red.ravel() - luma)
    tone = (luma / 16).astype(np.intp)
    count = np.bincount(tone, minlength=16)
    present = count > 0
    mean_luma = np.bincount(tone, luma, minlength=16)[present] / count[present]
    degree = min(3, int(present.sum()) - 1)
    off = np.zeros_like(luma)
    for chroma in (blueness, redness):
        mean_chroma = np.bincount(tone, chroma, minlength=16)[present] / count[present]
        # Weights are of the residual, not its square: the root of the count makes each pixel count once.
        curve = np.polyfit(mean_luma, mean_chroma, degree, w=np.sqrt(count[present]))
        off += np.square(chroma - np.polyval(curve, luma)).astype(np.float32)
    strength = np.hypot(blueness, redness)
    return ColourFigures(
        mean_chroma=float(strength.mean()),
        off_tone=float((off > OFF_TONE_CHROMA**2).mean()),
        vivid=float((strength > VIVID_CHROMA).mean()),
    )


def grey_from_colour(name: str, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Turn a colour image that is grey in fact into grey; refuse one that is really coloured.

    Parameters
    ----------
    rgb
        uint8 [H, W, 3].

    Returns
    -------
    grey, notes
        uint8 [H, W] (the ITU-R BT.601 luma where the channels differ), and a note where they do.

    Raises
    ------
    Refusal
        ``colour_photo``.
    """
    red = rgb[..., 0]
    if np.array_equal(red, rgb[..., 1]) and np.array_equal(red, rgb[..., 2]):
        return np.ascontiguousarray(red), ()
    figures = measure_colour(rgb)
    if figures.is_coloured:
        raise Refusal(
            Reason.COLOUR_PHOTO,
            f"{name} is a colour picture, not a radiograph",
            got=f"{figures.off_tone:.0%} of the pixels beyond a tint, mean chroma {figures.mean_chroma:.0f}",
            expected="a grey image, or a film with one tint",
            remedy="export the radiograph itself from the workstation, in grey",
        )
    from PIL import Image

    grey = np.array(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    return grey, ("The file is in colour but grey in fact (tinted); its brightness was used.",)

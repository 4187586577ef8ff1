"""Plain images as radiographs: PNG, JPEG and TIFF, whatever mode, depth or rotation they come in."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EdgeRuntimeError, Reason, Refusal
from edge_runtime.radiograph import Radiograph
from edge_runtime.reading.colour import grey_from_colour
from edge_runtime.reading.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from PIL import Image

    from edge_runtime.reading.content import Kind
    from edge_runtime.reading.limits import ReadingLimits

__all__ = ["read_image"]

_WHITE_IS_ZERO: Final = 0
_PHOTOMETRIC_TAG: Final = 262


def read_image(
    file: BinaryIO,
    kind: Kind,
    name: str,
    limits: ReadingLimits = DEFAULT_LIMITS,
    *,
    frame: int | None = None,
) -> Radiograph:
    """Read a PNG, JPEG or TIFF as a radiograph.

    8-bit grey is taken as it is; deeper grey is scaled from the full range of its values; transparent parts
    are black; colour must be grey in fact; EXIF and TIFF rotation is applied.

    Parameters
    ----------
    kind
        The format that the content shows; no other is tried.
    frame
        Which page of a TIFF or picture of an animated PNG, 1 the first; None accepts single pictures only.

    Raises
    ------
    Refusal
        With a reason code.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of "bombs" above 89 megapixels; the limit here is lower and checked next.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=(kind,)) as image:
                limits.check_pixels(name, image.height, image.width)
                _choose_page(image, kind, name, limits, frame)
                pixels, notes = _grey(image, name)
    except EdgeRuntimeError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise Refusal(
            Reason.TOO_LARGE,
            f"{name} is larger than this runtime decodes",
            remedy="export it at a smaller size",
        ) from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and others
        lines = str(error).strip().splitlines()
        raise Refusal(
            Reason.UNREADABLE,
            f"{name} is a damaged or truncated {kind} image",
            got=lines[0][:200] if lines else type(error).__name__,
            remedy="copy or export the file again",
        ) from error
    limits.check_edge(name, *pixels.shape)
    if pixels.min() == pixels.max():
        raise Refusal(
            Reason.NO_CONTRAST,
            f"{name} is one even grey",
            expected="a radiograph with light and dark parts",
            remedy="export the image again",
        )
    return Radiograph(pixels, kind, notes=notes)


def _choose_page(image: Image.Image, kind: Kind, name: str, limits: ReadingLimits, frame: int | None) -> None:
    # A JPEG with several pictures (MPO) carries previews of the first; other formats carry pages.
    count = 1 if kind == "JPEG" else int(getattr(image, "n_frames", 1))
    if frame is None and count > 1:
        raise Refusal(
            Reason.MULTI_FRAME,
            f"{name} holds {count} pictures; a radiograph has one",
            remedy="choose the picture to judge, or export it alone",
        )
    if frame is not None:
        if not 1 <= frame <= count:
            raise Refusal(Reason.MULTI_FRAME, f"{name} has no picture {frame}", expected=f"1 to {count}")
        if frame > 1:
            image.seek(frame - 1)
            limits.check_pixels(name, image.height, image.width)


def _grey(image: Image.Image, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    from PIL import ImageOps

    deep = image.mode.startswith("I")
    if image.mode == "F":
        raise Refusal(
            Reason.UNREADABLE,
            f"{name} holds floating-point values",
            expected="whole numbers of 8 or 16 bits",
            remedy="export the image with 8 or 16 bits",
        )
    photometric = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG)
    image = ImageOps.exif_transpose(image)
    if deep:
        values = np.asarray(image)
        # Pillow turns white-is-zero around for 8 bits but not for 16.
        return _full_range(values, inverted=photometric == _WHITE_IS_ZERO)
    notes: tuple[str, ...] = ()
    if "A" in image.mode or "transparency" in image.info or image.mode in ("La", "RGBa"):
        image, notes = _on_black(image)
    if image.mode in ("1", "L"):
        return np.array(image.convert("L")), notes
    grey, more_notes = grey_from_colour(name, np.asarray(image.convert("RGB")))
    return grey, (*notes, *more_notes)


def _on_black(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Put a transparent image on black: what a film's surroundings are."""
    from PIL import Image

    image = image.convert("RGBA")
    opaque = image.getchannel("A").tobytes()
    if opaque.count(b"\xff") == len(opaque):
        return image.convert("RGB"), ()
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert("RGB"), ("Transparent parts were shown black.",)


def _full_range(values: NDArray[Any], *, inverted: bool) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Scale more than 8 bits from the full range of the values, as for DICOM without a window."""
    from edge_runtime.reading.dicom_grey import GreyRules, to_display

    shown = to_display(values, GreyRules(inverted=inverted))
    low, high = int(values.min()), int(values.max())
    return shown, (f"The image has more than 8 bits: its full range ({low} to {high}) is shown.",)

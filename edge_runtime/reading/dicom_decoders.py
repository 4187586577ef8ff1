"""imagecodecs as a plugin of pydicom, for JPEG Lossless, 12-bit JPEG Extended and RLE.

pydicom reads native data itself; Pillow, pyjpegls and pylibjpeg-openjpeg do the other syntaxes through its
own plugins. No GPL decoder is needed or used. The names `is_available` and `DECODER_DEPENDENCIES` are
pydicom's plugin contract. RLE is here because pydicom's own decoder is pure Python and expands
without a limit.
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder

from edge_runtime.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DECODER_DEPENDENCIES", "decode_frame", "decoder_for", "is_available"]

PLUGIN: Final = "imagecodecs"
_JPEG: Final = frozenset((uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1))
DECODER_DEPENDENCIES: Final = dict.fromkeys((*_JPEG, uid.RLELossless), ("imagecodecs",))

# For each compressed syntax the plugins in the order of trust and the package that brings the first.
_PREFERRED: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    uid.JPEGBaseline8Bit: (("pillow",), "pillow"),
    uid.JPEGExtended12Bit: ((PLUGIN, "pillow"), "imagecodecs"),
    uid.JPEGLossless: ((PLUGIN,), "imagecodecs"),
    uid.JPEGLosslessSV1: ((PLUGIN,), "imagecodecs"),
    uid.JPEGLSLossless: (("pyjpegls",), "pyjpegls"),
    uid.JPEGLSNearLossless: (("pyjpegls",), "pyjpegls"),
    uid.JPEG2000Lossless: (("pylibjpeg", "pillow"), "pylibjpeg-openjpeg"),
    uid.JPEG2000: (("pylibjpeg", "pillow"), "pylibjpeg-openjpeg"),
    uid.HTJ2KLossless: (("pylibjpeg",), "pylibjpeg-openjpeg"),
    uid.HTJ2KLosslessRPCL: (("pylibjpeg",), "pylibjpeg-openjpeg"),
    uid.HTJ2K: (("pylibjpeg",), "pylibjpeg-openjpeg"),
    uid.RLELossless: ((PLUGIN, "pydicom"), "imagecodecs"),
}

_registering: Final = threading.Lock()


def is_available(syntax: str) -> bool:
    """Tell pydicom whether this plugin can decode a transfer syntax here."""
    return syntax in DECODER_DEPENDENCIES and find_spec("imagecodecs") is not None


def decoder_for(syntax: str) -> tuple[Decoder, str]:
    """Return pydicom's decoder for a transfer syntax and the plugin to decode with ("" for native data).

    Raises
    ------
    NotImplementedError
        The transfer syntax is none that pydicom knows pixel data of (a video, or a private one).
    InputError
        The package that decodes it is not installed.
    """
    decoder = get_decoder(syntax)
    if decoder.is_native:
        return decoder, ""
    if syntax in DECODER_DEPENDENCIES:
        with _registering:
            if PLUGIN not in decoder.available_plugins and is_available(syntax):
                decoder.add_plugin(PLUGIN, (__name__, decode_frame.__name__))
    wanted, package = _PREFERRED[syntax]
    for plugin in wanted:
        if plugin in decoder.available_plugins:
            return decoder, plugin
    raise InputError(
        f"the decoder for {uid.UID(syntax).name} is not installed",
        expected=f"the package {package}",
        remedy=f"pip install {package}",
    )


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one frame for pydicom: raw samples, no colour transform, little endian."""
    import imagecodecs

    if runner.transfer_syntax == uid.RLELossless:
        return _decode_rle(src, runner)
    # The same colour space in and out: whatever the samples are, they come out untouched.
    space = None if runner.samples_per_pixel == 1 else "RGB"
    image: NDArray[np.uint8 | np.uint16] = imagecodecs.jpeg8_decode(src, colorspace=space, outcolorspace=space)
    if image.size != runner.frame_length(unit="pixels"):
        raise ValueError(f"the JPEG stream has the shape {image.shape}")
    runner.set_option("bits_allocated", 8 * image.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return image.tobytes()


def _decode_rle(src: bytes, runner: DecodeRunner) -> bytearray:
    """Decode PS3.5 Annex G: up to 15 PackBits segments, most significant byte of each sample first.

    Each segment goes into a buffer of its known size, so a stream that expands to more is an error and no
    memory is spent on it. One-bit frames are packed (PS3.5 8.2.2).
    """
    import imagecodecs

    pixels = runner.rows * runner.columns
    packed = runner.bits_allocated == 1
    plane = -(-pixels // 8) if packed else pixels
    width = 1 if packed else runner.bits_allocated // 8
    count = runner.samples_per_pixel * width
    header = np.frombuffer(src, "<u4", 16)
    if header[0] != count:
        raise ValueError(f"{header[0]} RLE segments where {count} are needed")
    ends = [*(int(offset) for offset in header[1 : count + 1]), len(src)]
    samples = np.zeros((runner.samples_per_pixel, plane, width), np.uint8)
    buffer = bytearray(plane + 2)  # PS3.5 G.3.1 pads a segment to even length; some encoders' padding decodes
    for segment in range(count):
        decoded = imagecodecs.packbits_decode(src[ends[segment] : ends[segment + 1]], out=buffer)
        if len(decoded) < plane:
            raise ValueError(f"RLE segment {segment + 1} holds {len(decoded)} of {plane} bytes")
        sample, byte = divmod(segment, width)
        samples[sample, :, width - 1 - byte] = np.frombuffer(decoded, np.uint8, plane)
    runner.set_option("planar_configuration", 1)
    if packed:
        return bytearray(np.unpackbits(samples.ravel(), count=pixels, bitorder="little").tobytes())
    return bytearray(samples.tobytes())

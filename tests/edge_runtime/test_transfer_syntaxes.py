"""Every compressed transfer syntax that is read: streams made here by another library's encoder, pixels compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder

from edge_runtime.errors import Refusal
from edge_runtime.reading import read_radiograph
from edge_runtime.reading.dicom_file import load_data_set
from edge_runtime.reading.dicom_frame import decode_frame
from edge_runtime.reading.limits import DEFAULT_LIMITS
from tests.edge_runtime.dicom_samples import radiograph, ramp, save

Values = NDArray[Any]


def film(bits: int) -> Values:
    """A ramp through every value with noise on its right half: no predictor has an easy time."""
    values = ramp(bits)
    noise = np.random.default_rng(bits).integers(0, 2**bits, (128, 80))
    values[:, 80:] = noise
    return values


def htj2k(values: Values, level: float | None = None, **options: Any) -> bytes:
    """The encoder's own progression is RPCL, as 202 asks for."""
    return bytes(imagecodecs.htj2k_encode(values, level, **options))


def lossless_jpeg(predictor: int) -> Any:
    def encode(values: Values, bits: int) -> bytes:
        return bytes(imagecodecs.jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=bits))

    return encode


def rle(values: Values, bits: int) -> bytes:
    encoder = get_encoder(uid.RLELossless)
    return encoder.encode(
        values, rows=values.shape[0], columns=values.shape[1], samples_per_pixel=1, bits_stored=bits,
        photometric_interpretation="MONOCHROME2", pixel_representation=0, bits_allocated=8 * values.itemsize,
        number_of_frames=1, encoding_plugin="pydicom",
    )  # fmt: skip


LOSSLESS = {
    **{f"57, predictor {n}": (uid.JPEGLossless, lossless_jpeg(n)) for n in range(1, 8)},
    "70": (uid.JPEGLosslessSV1, lossless_jpeg(1)),
    "57, predictor 1, another encoder": (
        uid.JPEGLossless, lambda values, bits: bytes(imagecodecs.ljpeg_encode(values, bitspersample=bits)),
    ),
    "80": (uid.JPEGLSLossless, lambda values, _: bytes(imagecodecs.jpegls_encode(values))),
    "90": (
        uid.JPEG2000Lossless,
        lambda values, bits: bytes(
            imagecodecs.jpeg2k_encode(values, codecformat="j2k", reversible=True, level=0, bitspersample=bits)
        ),
    ),
    "201": (uid.HTJ2KLossless, lambda values, _: htj2k(values, reversible=True)),
    "202": (uid.HTJ2KLosslessRPCL, lambda values, _: htj2k(values, reversible=True, tlm=True)),
    "203, reversible": (uid.HTJ2K, lambda values, _: htj2k(values, reversible=True)),
    "5": (uid.RLELossless, rle),
}  # fmt: skip
LOSSY = {
    "50": (uid.JPEGBaseline8Bit, lambda values, _: bytes(imagecodecs.jpeg8_encode(values, 100))),
    "51": (
        uid.JPEGExtended12Bit,
        lambda values, bits: bytes(imagecodecs.jpeg8_encode(values, 100, bitspersample=bits)),
    ),
    "81": (uid.JPEGLSNearLossless, lambda values, _: bytes(imagecodecs.jpegls_encode(values, level=3))),
    "91": (
        uid.JPEG2000,
        lambda values, bits: bytes(imagecodecs.jpeg2k_encode(values, 45, codecformat="j2k", bitspersample=bits)),
    ),
    "203": (uid.HTJ2K, lambda values, bits: htj2k(values, 0.002 if bits == 8 else 0.0001, reversible=False)),
}


def write(path: Path, stream: bytes, syntax: uid.UID, values: Values, bits: int) -> Path:
    data_set = radiograph(values, bits=bits)
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.PixelData = encapsulate([stream])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return save(data_set, path)


def decoded(path: Path) -> Values:
    with path.open("rb") as file:
        data_set: Dataset = load_data_set(file, path.stat().st_size, DEFAULT_LIMITS)
    return decode_frame(data_set, path.name).values


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_syntaxes_are_exact(tmp_path: Path, name: str, bits: int) -> None:
    syntax, encode = LOSSLESS[name]
    values = film(bits)
    path = write(tmp_path / "a.dcm", encode(values, bits), syntax, values, bits)
    np.testing.assert_array_equal(decoded(path), values)
    plain = save(radiograph(values, bits=bits), tmp_path / "plain.dcm")
    np.testing.assert_array_equal(read_radiograph(path).pixels, read_radiograph(plain).pixels)


@pytest.mark.parametrize(
    ("name", "bits", "largest"), [("50", 8, 4), ("51", 8, 4), ("51", 12, 8), ("81", 8, 3), ("81", 12, 3),
                                  ("91", 8, 16), ("91", 12, 256), ("203", 8, 4), ("203", 12, 16)],
)  # fmt: skip
def test_lossy_syntaxes_are_near(tmp_path: Path, name: str, bits: int, largest: int) -> None:
    syntax, encode = LOSSY[name]
    values = film(bits)
    stream = encode(values, bits)
    found = decoded(write(tmp_path / "a.dcm", stream, syntax, values, bits)).astype(int)
    difference = np.abs(found - values)
    assert 0 < difference.max() <= largest, "near the picture, and not the picture itself"


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_a_stream_of_any_syntax_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    syntax, encode = {**LOSSLESS, **LOSSY}[name]
    values = film(8)
    stream = encode(values, 8)
    for length in (3, len(stream) // 3, len(stream) - 4):
        with pytest.raises(Refusal) as caught:
            read_radiograph(write(tmp_path / "a.dcm", stream[:length], syntax, values, 8))
        assert caught.value.reason == "unreadable"

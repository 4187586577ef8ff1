"""Plain images: modes, depths, rotations, transparency, colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.errors import Reason, Refusal
from edge_runtime.reading import ReadingLimits, read_radiograph
from edge_runtime.reading.colour import measure_colour
from tests.edge_runtime.dicom_samples import ramp

GREY = ramp(8)


def reason_of(path: Path, **options: int) -> Reason:
    with pytest.raises(Refusal) as caught:
        read_radiograph(path, **options)  # type: ignore[arg-type]
    return caught.value.reason


def tinted(grey: NDArray[np.uint8], red: float, green: float, blue: float, base: int = 0) -> NDArray[np.uint8]:
    return np.stack([np.clip(base + grey * gain, 0, 255) for gain in (red, green, blue)], -1).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_modes_that_hold_the_same_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    source = Image.fromarray(GREY)
    (source.convert("RGB").convert(mode) if mode == "CMYK" else source.convert(mode)).save(path)
    image = read_radiograph(path)
    np.testing.assert_array_equal(image.pixels, GREY)
    assert image.notes == ()


def test_cmyk_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(GREY).convert("RGB").convert("CMYK").save(path, quality=100)
    assert np.abs(read_radiograph(path).pixels.astype(int) - GREY).max() <= 3


def test_one_bit(tmp_path: Path) -> None:
    path = tmp_path / "bits.png"
    bits = GREY > 127
    Image.fromarray(bits).save(path)
    np.testing.assert_array_equal(read_radiograph(path).pixels, bits * np.uint8(255))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_from_their_full_range(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    deep = ramp(12).astype(np.uint16) + 100
    Image.fromarray(deep).save(path)
    image = read_radiograph(path)
    np.testing.assert_array_equal(image.pixels, np.rint((deep - 100.0) / 4095 * 255))
    assert any("100 to 4195" in note for note in image.notes)


@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_that_is_white_at_zero(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "inverted.tiff"
    values = ramp(bits)
    path.write_bytes(_tiff(values, photometric=0))
    np.testing.assert_array_equal(read_radiograph(path).pixels, 255 - np.rint(values / (2**bits - 1) * 255))


def _tiff(values: NDArray[np.uint8], photometric: int, orientation: int = 1) -> bytes:
    rows, columns = values.shape
    depth = 8 * values.dtype.itemsize
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = [
        (256, columns),
        (257, rows),
        (258, depth),
        (259, 1),
        (262, photometric),
        (273, 8),
        (274, orientation),
        (277, 1),
        (278, rows),
    ]
    tags.append((279, len(data)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return header + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "rotated.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(GREY).save(path, quality=100, exif=exif)
    found = read_radiograph(path).pixels
    assert found.shape == GREY.T.shape
    assert np.abs(found.astype(int) - np.rot90(GREY, -1)).max() <= 3


TURNED = {
    1: lambda v: v, 2: np.fliplr, 3: lambda v: np.rot90(v, 2), 4: np.flipud,
    5: np.transpose, 6: lambda v: np.rot90(v, -1), 7: lambda v: np.rot90(v.T, 2), 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", TURNED)
def test_tiff_orientation_is_applied(tmp_path: Path, orientation: int, bits: int) -> None:
    path = tmp_path / "turned.tiff"
    values = ramp(bits)
    path.write_bytes(_tiff(values, photometric=1, orientation=orientation))
    shown = np.rint(values / (2**bits - 1) * 255)
    np.testing.assert_array_equal(read_radiograph(path).pixels, TURNED[orientation](shown))


def _deep_png(values: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> bytes:
    """A PNG of colour type 4: grey and alpha, 16 bits each (PNG specification, 11.2.1)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows, columns = values.shape
    samples = np.stack([values, alpha], -1).astype(">u2").reshape(rows, -1)
    lines = b"".join(b"\0" + line.tobytes() for line in samples)
    header = struct.pack(">IIBBBBB", columns, rows, 16, 4, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_sixteen_bit_png_with_alpha(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    values = ramp(16)
    opaque = np.full_like(values, 0xFFFF)
    path.write_bytes(_deep_png(values, opaque))
    image = read_radiograph(path)
    np.testing.assert_allclose(image.pixels, values / 257, atol=1)
    assert image.notes == ()
    opaque[:64] = 0
    path.write_bytes(_deep_png(values, opaque))
    image = read_radiograph(path)
    assert image.pixels[:64].max() == 0
    np.testing.assert_allclose(image.pixels[64:], values[64:] / 257, atol=1)
    assert image.notes == ("Transparent parts were shown black.",)


def test_transparent_parts_are_black(tmp_path: Path) -> None:
    path = tmp_path / "alpha.png"
    rgba = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    rgba[:64, :, 3] = 0
    Image.fromarray(rgba).save(path)
    image = read_radiograph(path)
    assert image.pixels[:64].max() == 0
    np.testing.assert_array_equal(image.pixels[64:], GREY[64:])
    assert image.notes == ("Transparent parts were shown black.",)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "pages.tiff"
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert reason_of(path) is Reason.MULTI_FRAME
    np.testing.assert_array_equal(read_radiograph(path, frame=2).pixels, 255 - GREY)
    assert reason_of(path, frame=3) is Reason.MULTI_FRAME


def test_floating_point_tiff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    Image.fromarray(GREY.astype(np.float32)).save(path)
    assert reason_of(path) is Reason.UNREADABLE


def test_no_contrast_and_too_small(tmp_path: Path) -> None:
    for name, values in (
        ("eight.png", np.full((200, 200), 90, np.uint8)),
        ("deep.png", np.full((200, 200), 9, "u2")),
    ):
        Image.fromarray(values).save(tmp_path / name)
        assert reason_of(tmp_path / name) is Reason.NO_CONTRAST
    Image.fromarray(GREY[:100]).save(tmp_path / "small.png")
    assert reason_of(tmp_path / "small.png") is Reason.TOO_SMALL


def test_decompression_bomb(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 65000, 65000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))))
    assert reason_of(path) is Reason.TOO_LARGE
    big = tmp_path / "big.png"
    Image.fromarray(GREY).save(big)
    with pytest.raises(Refusal, match="more pixels"):
        read_radiograph(big, ReadingLimits(max_pixels=1000))


@pytest.mark.parametrize(
    ("name", "gains"),
    [
        ("film", (0.80, 0.90, 0.98, 15)),
        ("green screen", (0.75, 1.0, 0.8, 0)),
        ("sepia", (1.351, 1.203, 0.937, 0)),
    ],
)
def test_tints_are_grey_in_fact(tmp_path: Path, name: str, gains: tuple[float, float, float, int]) -> None:
    path = tmp_path / "tinted.jpg"
    Image.fromarray(tinted(GREY, *gains)).save(path, quality=75)
    image = read_radiograph(path)
    assert any("tinted" in note for note in image.notes)
    assert np.corrcoef(image.pixels.ravel(), GREY.ravel())[0, 1] > 0.98


def test_a_coloured_marker_does_not_make_a_radiograph_a_photograph(tmp_path: Path) -> None:
    path = tmp_path / "marked.png"
    rgb = np.dstack([GREY] * 3)
    rgb[10:20, 10:30] = (255, 0, 0)
    Image.fromarray(rgb).save(path)
    assert read_radiograph(path).pixels.shape == GREY.shape


def test_colour_pictures_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    blobs = np.kron(rng.integers(0, 256, (8, 10, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    text = np.full((160, 160, 3), 128, np.uint8)
    for number in range(3):
        text[20 + 40 * number : 40 + 40 * number, 20:120] = np.eye(3, dtype=np.uint8)[number] * 255
    for name, rgb in (("blobs", blobs), ("text", text)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(rgb).save(path)
        assert reason_of(path) is Reason.COLOUR_PHOTO


def test_photographs_of_installed_packages_are_refused() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    datasets = pytest.importorskip("sklearn.datasets")
    photographs = [Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"]
    photographs += sorted((Path(datasets.__file__).parent / "images").glob("*.jpg"))
    assert len(photographs) == 3
    for path in photographs:
        assert reason_of(path) is Reason.COLOUR_PHOTO


@pytest.mark.real_data
def test_tinted_real_radiographs_keep_away_from_the_limit(cxr_data: Path) -> None:
    for path in sorted((cxr_data / "sources/cohen/images").iterdir())[::25]:
        grey = np.asarray(Image.open(path).convert("L"))
        assert not measure_colour(tinted(grey, 0.80, 0.90, 0.98, 15)).is_coloured
        assert not measure_colour(tinted(grey, 1.351, 1.203, 0.937)).is_coloured

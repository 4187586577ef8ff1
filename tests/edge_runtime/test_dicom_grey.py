"""The greyscale pipeline against values computed by hand and, where it is right, against pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.sequence import Sequence

from edge_runtime.errors import Reason, Refusal
from edge_runtime.radiograph import Radiograph
from edge_runtime.reading import read_radiograph
from edge_runtime.reading.dicom_grey import GreyRules, LookupTable, Rescale, Window, to_display
from tests.edge_runtime.dicom_samples import radiograph, ramp, save


def shown(
    tmp_path: Path, pixels: NDArray[Any], *, window: int = 1, bits: int | None = None, **elements: Any
) -> Radiograph:
    return read_radiograph(save(radiograph(pixels, bits=bits, **elements), tmp_path / "a.dcm"), window=window)


def table(first: int, entries: list[int], bits: int = 16) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.add_new("LUTData", "US", entries)
    return Sequence([item])


@pytest.mark.parametrize(
    ("function", "center", "width", "value", "fraction"),
    [
        # C.11.2.1.2.1, its own example: c=2048, w=4096: 0 and below is black, 4095 and above is white
        ("LINEAR", 2048, 4096, 0, 0.0),
        ("LINEAR", 2048, 4096, 4095, 1.0),
        ("LINEAR", 2048, 4096, 2048, (2048 - 2047.5) / 4095 + 0.5),
        ("LINEAR", 2048, 4096, 5000, 1.0),
        # c=2048, w=1: a step between 2047 and 2048
        ("LINEAR", 2048, 1, 2047, 0.0),
        ("LINEAR", 2048, 1, 2048, 1.0),
        ("LINEAR", 0, 100, -50, 0.0),
        ("LINEAR", 0, 100, 0, (0 + 0.5) / 99 + 0.5),
        # C.11.2.1.3.2
        ("LINEAR_EXACT", 2048, 4096, 0, 0.0),
        ("LINEAR_EXACT", 2048, 4096, 2048, 0.5),
        ("LINEAR_EXACT", 2048, 4096, 4095, 4095 / 4096),
        ("LINEAR_EXACT", 0.5, 0.5, 0.5, 0.5),
        ("LINEAR_EXACT", 0.5, 0.5, 0.75, 1.0),
        # C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w))
        ("SIGMOID", 2048, 4096, 2048, 0.5),
        ("SIGMOID", 2048, 4096, 2048 + 1024, 0.7310585786300049),
        ("SIGMOID", 2048, 4096, 2048 - 2048, 0.11920292202211755),
        ("SIGMOID", 0, 1, -1e9, 0.0),
    ],
)
def test_window_functions(function: str, center: float, width: float, value: float, fraction: float) -> None:
    found = Window(center, width, function).fraction(np.array([value], dtype=np.float64))
    assert found[0] == pytest.approx(fraction, abs=1e-12)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (600.5, 1600), (40, 100), (1, 1), (1000, 1.5)])
@pytest.mark.parametrize("signed", [False, True])
def test_windows_agree_with_pydicom(tmp_path: Path, function: str, center: float, width: float, signed: bool) -> None:
    pixels = ramp(12, signed)
    elements = {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}
    found = shown(tmp_path, pixels, bits=12, RescaleSlope=1, RescaleIntercept=-24, **elements)
    data_set = radiograph(pixels, bits=12, RescaleSlope=1, RescaleIntercept=-24, **elements)
    y = apply_windowing(apply_modality_lut(pixels, data_set), data_set)
    low = (-2048 if signed else 0) - 24
    # Both round halves, but their sums differ in the last digit of a float.
    assert np.abs(found.pixels - (y - low) / 4095 * 255).max() <= 0.5 + 1e-9


def test_without_a_window_the_full_range_is_shown(tmp_path: Path) -> None:
    pixels = ramp(12) // 2 + 300
    found = shown(tmp_path, pixels, bits=12)
    np.testing.assert_array_equal(found.pixels, np.rint((pixels - 300) / 2047 * 255))
    assert any("no window" in note for note in found.notes)


def test_eight_bits_of_full_range_stay_as_they_are(tmp_path: Path) -> None:
    np.testing.assert_array_equal(shown(tmp_path, ramp(8)).pixels, ramp(8))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless],
)
def test_depths_and_signs_in_every_native_syntax(tmp_path: Path, bits: int, signed: bool, syntax: uid.UID) -> None:
    pixels = ramp(bits, signed)
    data_set = radiograph(pixels, bits=bits)
    if syntax == uid.RLELossless:
        data_set.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax == uid.ExplicitVRBigEndian:
        data_set.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    data_set.file_meta.TransferSyntaxUID = syntax
    found = read_radiograph(save(data_set, tmp_path / "a.dcm"))
    wide = pixels.astype(np.int64)
    np.testing.assert_array_equal(found.pixels, np.rint((wide - wide.min()) / (2**bits - 1) * 255))


def test_unused_bits_are_ignored(tmp_path: Path) -> None:
    """Overlays used to live in the bits above Bits Stored (PS3.5 8.1.1)."""
    pixels = ramp(12)
    found = shown(tmp_path, pixels | np.uint16(0xA000), bits=12)
    np.testing.assert_array_equal(found.pixels, np.rint(pixels / 4095 * 255))


@pytest.mark.parametrize("signed", [False, True])
def test_high_bit_above_the_stored_bits(tmp_path: Path, signed: bool) -> None:
    pixels = ramp(12, signed)
    found = shown(tmp_path, (pixels << 4) | 0x5, bits=12, HighBit=15)
    wide = pixels.astype(np.int64)
    np.testing.assert_array_equal(found.pixels, np.rint((wide - wide.min()) / 4095 * 255))
    assert any("High Bit" in note for note in found.notes)


def test_impossible_high_bit(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        shown(tmp_path, ramp(12), bits=12, HighBit=20)
    assert caught.value.reason is Reason.UNREADABLE


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME1", "INVERSE", True),  # once, not twice
    ],
)
def test_inverted_once(tmp_path: Path, photometric: str, shape: str | None, inverted: bool) -> None:
    found = shown(tmp_path, ramp(8), PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    np.testing.assert_array_equal(found.pixels, 255 - ramp(8) if inverted else ramp(8))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_outside_the_range(tmp_path: Path, photometric: str) -> None:
    pixels = ramp(12).astype(np.uint16) // 4 + 1000
    padded = pixels.copy()
    padded[:20], padded[20:30] = 4095, 4090
    found = shown(
        tmp_path,
        padded,
        bits=12,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=4095,
        PixelPaddingRangeLimit=4090,
    )
    assert found.pixels[:30].max() == 0
    rest = pixels[30:].astype(float)
    fraction = (rest - rest.min()) / (rest.max() - rest.min())
    np.testing.assert_array_equal(
        found.pixels[30:], np.rint(255 * (1 - fraction if photometric == "MONOCHROME1" else fraction))
    )


def test_negative_padding_in_an_implicit_file(tmp_path: Path) -> None:
    pixels = ramp(11, signed=True)
    pixels[:10] = -2000
    data_set = radiograph(pixels, bits=16, PixelPaddingValue=-2000)
    data_set.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    found = read_radiograph(save(data_set, tmp_path / "a.dcm")).pixels
    assert found[:10].max() == 0
    assert found[10:].min() == 0
    assert found[10:].max() == 255
    assert np.mean(found[10:]) == pytest.approx(127.5, abs=1)


@pytest.mark.parametrize("window", [None, (1000, 2000)])
def test_nothing_but_padding_and_one_value(tmp_path: Path, window: tuple[int, int] | None) -> None:
    pixels = np.full((150, 150), 700, np.uint16)
    pixels[:50] = 0
    elements = {} if window is None else {"WindowCenter": window[0], "WindowWidth": window[1]}
    with pytest.raises(Refusal) as caught:
        shown(tmp_path, pixels, PixelPaddingValue=0, **elements)
    assert caught.value.reason is Reason.NO_CONTRAST


@pytest.mark.parametrize(
    "elements", [{}, {"WindowCenter": 9000, "WindowWidth": 10}, {"RescaleSlope": 0, "RescaleIntercept": 5}]
)
def test_no_contrast(tmp_path: Path, elements: dict[str, float]) -> None:
    pixels = ramp(12) if elements else np.full((150, 150), 7, np.uint16)
    with pytest.raises(Refusal) as caught:
        shown(tmp_path, pixels, bits=12, **elements)
    assert caught.value.reason is Reason.NO_CONTRAST


def test_rescale_before_the_window(tmp_path: Path) -> None:
    pixels = ramp(12)
    found = shown(
        tmp_path,
        pixels,
        bits=12,
        RescaleSlope="0.5",
        RescaleIntercept=-100,
        WindowCenter=500,
        WindowWidth=1001,
    )
    fraction = np.clip((pixels * 0.5 - 100 - 499.5) / 1000 + 0.5, 0, 1)
    np.testing.assert_array_equal(found.pixels, np.rint(255 * fraction))


def test_negative_slope_turns_the_scale(tmp_path: Path) -> None:
    pixels = ramp(12)
    found = shown(
        tmp_path, pixels, bits=12, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=2048, WindowWidth=4096
    )
    np.testing.assert_array_equal(found.pixels, np.rint((4095.0 - pixels) / 4095 * 255))


def test_modality_lut(tmp_path: Path) -> None:
    entries = [7 * (300 - index) for index in range(300)]
    pixels = ramp(12)
    found = shown(tmp_path, pixels, bits=12, ModalityLUTSequence=table(1000, entries))
    looked_up = np.array(entries, float)[np.clip(pixels.astype(int) - 1000, 0, 299)]
    np.testing.assert_array_equal(found.pixels, np.rint((looked_up - 7) / (2100 - 7) * 255))


def test_voi_lut_of_eight_bits_and_many_entries(tmp_path: Path) -> None:
    """pydicom 3.0.2 wraps here: it keeps the index in as many bits as an entry has."""
    entries = [index // 16 for index in range(4096)]
    pixels = ramp(12)
    found = shown(tmp_path, pixels, bits=12, VOILUTSequence=table(0, entries, bits=8))
    np.testing.assert_array_equal(found.pixels, pixels // 16)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("packed", [False, True])
def test_voi_lut_as_words_and_packed_bytes(tmp_path: Path, syntax: uid.UID, packed: bool) -> None:
    entries = np.arange(255, -1, -1)
    item = Dataset()
    item.LUTDescriptor = [256, 0, 8]
    order = "<u2" if syntax.is_little_endian else ">u2"
    item.add_new("LUTData", "OW", entries.astype(np.uint8 if packed else order).tobytes())
    data_set = radiograph(ramp(8), VOILUTSequence=Sequence([item]))
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set["PixelData"].VR = "OB"
    found = read_radiograph(save(data_set, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(found.pixels, 255 - ramp(8))


def test_voi_lut_comes_before_the_window(tmp_path: Path) -> None:
    entries = [65535 - 16 * index for index in range(4096)]
    found = shown(tmp_path, ramp(12), bits=12, VOILUTSequence=table(0, entries), WindowCenter=10, WindowWidth=20)
    np.testing.assert_array_equal(found.pixels, np.rint((65535 - 16.0 * ramp(12)) / 65535 * 255))


@pytest.mark.parametrize("descriptor", [[4096, 0], [4096, 0, 40], [4096, 0, 16]])
def test_damaged_lut_is_refused(tmp_path: Path, descriptor: list[int]) -> None:
    sequence = table(0, list(range(100)))
    sequence[0].LUTDescriptor = descriptor
    with pytest.raises(Refusal) as caught:
        shown(tmp_path, ramp(12), bits=12, VOILUTSequence=sequence)
    assert caught.value.reason is Reason.UNREADABLE


def test_several_windows(tmp_path: Path) -> None:
    elements = {"WindowCenter": [2048, 1000], "WindowWidth": [4096, 500]}
    first = shown(tmp_path, ramp(12), bits=12, **elements)
    second = shown(tmp_path, ramp(12), bits=12, window=2, **elements)
    np.testing.assert_array_equal(first.pixels, np.rint(ramp(12) / 4095 * 255))
    np.testing.assert_array_equal(second.pixels, np.rint(255 * np.clip((ramp(12) - 999.5) / 499 + 0.5, 0, 1)))
    assert any("Window 1 of 2" in note for note in first.notes)
    with pytest.raises(Refusal, match="no window 3"):
        shown(tmp_path, ramp(12), bits=12, window=3, **elements)


@pytest.mark.parametrize(("width", "words"), [(0, "invalid width"), (-5, "invalid width"), (0.5, "LINEAR_EXACT")])
def test_forbidden_widths_are_said(tmp_path: Path, width: float, words: str) -> None:
    found = shown(tmp_path, ramp(12), bits=12, WindowCenter=2048, WindowWidth=width)
    assert any(words in note for note in found.notes)


def test_unknown_window_function_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="window function"):
        shown(tmp_path, ramp(12), bits=12, WindowCenter=2048, WindowWidth=10, VOILUTFunction="CUBIC")


def test_windows_of_functional_groups(tmp_path: Path) -> None:
    """An enhanced object has its window and rescale in its frames' functional groups (PS3.3 C.7.6.16)."""
    frames = np.stack([ramp(12), ramp(12)[::-1]])
    data_set = radiograph(ramp(12), bits=12, NumberOfFrames=2)
    data_set.PixelData = frames.tobytes()
    groups = []
    for center in (500, 3000):
        voi, transform, group = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 1000
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = 1, 10, "US"
        group.FrameVOILUTSequence = Sequence([voi])
        group.PixelValueTransformationSequence = Sequence([transform])
        groups.append(group)
    data_set.PerFrameFunctionalGroupsSequence = Sequence(groups)
    path = save(data_set, tmp_path / "a.dcm")
    with pytest.raises(Refusal) as caught:
        read_radiograph(path)
    assert caught.value.reason is Reason.MULTI_FRAME
    found = read_radiograph(path, frame=2).pixels
    fraction = np.clip((frames[1] + 10 - 2999.5) / 999 + 0.5, 0, 1)
    np.testing.assert_array_equal(found, np.rint(255 * fraction))
    with pytest.raises(Refusal, match="no frame 3"):
        read_radiograph(path, frame=3)


def test_wide_values_go_through_the_same_rules() -> None:
    """Values that span more than 16 bits have no table; the result is the same function of each value."""
    stored = np.array([[0, 70_000, 200_000]], dtype=np.uint32)
    rules = GreyRules(modality=Rescale(2.0, 0.0), voi=Window(100_000, 200_001).fraction, inverted=True)
    expected = np.rint(255 * (1 - np.clip((stored * 2.0 - 99_999.5) / 200_000 + 0.5, 0, 1)))
    np.testing.assert_array_equal(to_display(stored, rules), expected)


def test_lookup_holds_its_ends() -> None:
    lut = LookupTable(first=-2, entries=np.array([10.0, 20.0, 30.0]), maximum=40.0)
    np.testing.assert_array_equal(lut(np.array([-9.0, -2.0, -1.0, 0.0, 9.0])), [10, 10, 20, 30, 30])

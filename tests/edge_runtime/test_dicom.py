"""DICOM files: real ones of every transfer syntax, what headers say about suitability, colour, damage."""

from __future__ import annotations

import hashlib
import logging
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from edge_runtime.errors import InputError, Reason, Refusal
from edge_runtime.reading import ReadingLimits, dicom_decoders, read_radiograph
from edge_runtime.reading.dicom import show_frame
from edge_runtime.reading.dicom_file import load_data_set
from edge_runtime.reading.dicom_frame import Frame, decode_frame
from edge_runtime.reading.limits import DEFAULT_LIMITS
from tests.edge_runtime.dicom_samples import radiograph, ramp, save

WHEEL = Path(pydicom.__file__).parent / "data/test_files"

NO_IMAGE = {
    *(
        "ExplVR_BigEndNoMeta",
        "ExplVR_LitEndNoMeta",
        "UN_sequence",
        "badVR",
        "empty_charset_LEI",
        "nested_priv_SQ",
    ),
    *(
        "meta_missing_tsyntax",
        "no_meta",
        "no_meta_group_length",
        "priv_SQ",
        "reportsi",
        "rtplan",
        "rtplan_truncated",
    ),
    *("reportsi_with_empty_number_tags", "rtstruct", "test-SR", "waveform_ecg"),
}
"""Test files of pydicom's wheel without pixel data, or (badVR) with a number of frames that is no number."""
MALFORMED = {"MR_truncated", "JPEG2000-embedded-sequence-delimiter"}
"""Pixel data that end too early; a JPEG 2000 stream whose size is nonsense."""


def parse(path: Path) -> Dataset:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_data_set(file, path.stat().st_size, DEFAULT_LIMITS)


def decode(path: Path, frame: int = 1) -> Frame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode_frame(parse(path), path.name, frame=frame)


def reason_of(path: Path, **options: Any) -> Reason:
    with pytest.raises(Refusal) as caught:
        read_radiograph(path, **options)
    return caught.value.reason


def reference(path: Path) -> np.ndarray[Any, Any]:
    """What pydicom makes of the first frame by itself, without the plugin that is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        data_set = pydicom.dcmread(path, force=True)
        decoder = pydicom.pixels.get_decoder(data_set.file_meta.TransferSyntaxUID)
        plugins = [name for name in decoder.available_plugins if name != dicom_decoders.PLUGIN]
        plugins = ["pylibjpeg"] if "pylibjpeg" in plugins else plugins
        if not plugins and not decoder.is_native:
            pytest.skip("no other decoder to compare with")
        try:
            return decoder.as_array(data_set, index=0, decoding_plugin="" if decoder.is_native else plugins[0])[0]
        except (RuntimeError, NotImplementedError):
            pytest.skip("pydicom alone cannot decode it")


wheel_images = sorted(path for path in WHEEL.glob("*.dcm") if path.stem not in NO_IMAGE | MALFORMED)


@pytest.mark.parametrize("path", wheel_images, ids=lambda path: path.stem)
def test_every_image_of_pydicoms_wheel_agrees_with_pydicom(path: Path) -> None:
    found = decode(path)
    np.testing.assert_array_equal(found.values, reference(path))


@pytest.mark.parametrize("stem", sorted(NO_IMAGE | MALFORMED))
def test_what_is_no_image_is_refused(stem: str) -> None:
    path = WHEEL / f"{stem}.dcm"
    with pytest.raises(Refusal):
        decode(path)
    assert reason_of(path) in (Reason.UNREADABLE, Reason.NOT_A_RADIOGRAPH)


@pytest.mark.parametrize("syntax", ["implicit", "RLE", "jpeg_ls_lossless", "jp2klossless", "bigendian", "padded"])
def test_lossless_syntaxes_of_one_image_agree(syntax: str) -> None:
    np.testing.assert_array_equal(
        decode(WHEEL / f"MR_small_{syntax}.dcm").values, decode(WHEEL / "MR_small.dcm").values
    )


def test_jpeg_lossless_is_exact() -> None:
    """The colour bars of one picture, JPEG Lossless by imagecodecs and uncompressed by pydicom."""
    np.testing.assert_array_equal(
        decode(WHEEL / "SC_rgb_jpeg_gdcm.dcm").values, decode(WHEEL / "SC_rgb_rle.dcm").values
    )


def test_twelve_bit_jpeg_extended() -> None:
    found = decode(WHEEL / "JPGExtended.dcm").values
    lossless = decode(WHEEL / "JPEG2000.dcm").values
    assert (found.dtype, found.shape, int(found.max())) == (np.dtype("u2"), (1024, 256), 264)
    assert float(found.mean()) == pytest.approx(14.37, abs=0.05)
    assert np.corrcoef(found.ravel(), lossless.ravel())[0, 1] > 0.95


# Known values: SHA-256 (its first 16 digits) of the first frame's stored values in little endian. Each was
# equal to what pydicom 3.0.2 decodes, one-bit RLE (which it lacks) to the uncompressed original.
ZOO_SHA256 = {
    "693_J2KR": "6b3b6bb553a0b569",
    "693_UNCR": "6b3b6bb553a0b569",
    "HTJ2K_08_RGB": "16463ac9d0b0c70e",
    "JLSL_16_15_1_1F": "bb0a20c386271e83",
    "JLSL_RGB_ILV1": "ed1fce22a62e4194",
    "JLSN_RGB_ILV0": "646fdbe8c1803837",
    "JPEG2000_UNC": "0b1224a6dcd0dceb",
    "MR-SIEMENS-DICOM-WithOverlays": "8c042a175e4a49ca",
    "MR2_J2KR": "7d1a676f3c012d0c",
    "OBXXXX1A_2frame": "48abdc16b5064b61",
    "OBXXXX1A_expb_2frame": "48abdc16b5064b61",
    "OBXXXX1A_rle_2frame": "48abdc16b5064b61",
    "RG1_J2KI": "88aa9135b12d8582",
    "RG3_J2KI": "25559cb05640e9e9",
    "RG3_J2KR": "85480a0287e37795",
    "SC_rgb_16bit": "36de0258708d3af7",
    "SC_rgb_2frame": "169e619557b12114",
    "SC_rgb_32bit_2frame": "1a243c9351e3a9ae",
    "SC_rgb_dcmtk_ebcyn1_dcmd": "e0b1a561989d6f71",
    "SC_rgb_dcmtk_ebcynp_dcmd": "e0b1a561989d6f71",
    "SC_rgb_dcmtk_ebcys4_dcmd": "ddb100d8f45a7fbf",
    "SC_rgb_expb_16bit": "36de0258708d3af7",
    "SC_rgb_expb_2frame": "169e619557b12114",
    "SC_rgb_expb_32bit_2frame": "1a243c9351e3a9ae",
    "SC_ybr_full_uncompressed": "ddb100d8f45a7fbf",
    "US1_J2KR": "e16892020c73095e",
    "US1_UNCR": "e16892020c73095e",
    "color-pl": "4631a14e915f1a7f",
    "eCT_Supplemental": "fd4b6d58bc02947d",
    "emri_small_RLE": "c789183acdfdfb1c",
    "emri_small_jpeg_2k_lossless": "c789183acdfdfb1c",
    "emri_small_jpeg_ls_lossless": "c789183acdfdfb1c",
    "gdcm-US-ALOKA-16": "ee2a4d1309ce1587",
    "liver": "e036a07b502fdfd1",
    "liver_expb": "e036a07b502fdfd1",
    "liver_nonbyte_aligned": "58317fad9a9ddeea",
    "liver_nonbyte_aligned_j2k": "58317fad9a9ddeea",
    "liver_rle": "e036a07b502fdfd1",
    "parametric_map_double_float": "not_a_radiograph",
    "rsna_challenge_sample": "938432fbb18d79f4",
    "vlut_04": "74853be063ef5655",
}


def sha256(values: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()).hexdigest()[
        :16
    ]


@pytest.mark.real_data
def test_the_zoo(cxr_data: Path) -> None:
    found = {}
    for path in sorted((cxr_data / "dicom_zoo").glob("*.dcm")):
        try:
            found[path.stem] = sha256(decode(path).values)
        except Refusal as refusal:
            found[path.stem] = refusal.reason.value
    assert found == ZOO_SHA256


@pytest.mark.real_data
def test_what_of_the_zoo_is_read_and_why_not(cxr_data: Path) -> None:
    outcomes: dict[str, list[str]] = {}
    for path in sorted((cxr_data / "dicom_zoo").glob("*.dcm")):
        try:
            read_radiograph(path)
            outcome = "ok"
        except Refusal as refusal:
            outcome = refusal.reason.value
        outcomes.setdefault(outcome, []).append(path.stem)
    assert outcomes.pop("ok") == ["JLSL_16_15_1_1F", "RG1_J2KI", "rsna_challenge_sample", "vlut_04"]
    assert {reason: len(stems) for reason, stems in outcomes.items()} == {
        "not_a_radiograph": 24,
        "colour_photo": 3,
        "multi_frame": 4,
        "too_small": 6,
    }


@pytest.mark.real_data
def test_one_bit_rle_is_the_uncompressed_segmentation(cxr_data: Path) -> None:
    zoo = cxr_data / "dicom_zoo"
    for frame in (1, 2, 3):
        np.testing.assert_array_equal(
            decode(zoo / "liver_rle.dcm", frame).values, decode(zoo / "liver.dcm", frame).values
        )


@pytest.mark.real_data
def test_palettes_of_both_byte_orders_look_alike(cxr_data: Path) -> None:
    """pydicom 3.0.2 reads a big-endian palette with swapped bytes; here both give the same picture."""
    pictures = []
    for stem in ("OBXXXX1A_2frame", "OBXXXX1A_expb_2frame", "OBXXXX1A_rle_2frame"):
        data_set = parse(cxr_data / f"dicom_zoo/{stem}.dcm")
        pictures.append(show_frame(data_set, decode_frame(data_set, stem, frame=1), stem, frame=1)[0])
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert pictures[0].std() > 10


def test_bare_data_sets_without_preamble_or_meta(tmp_path: Path) -> None:
    whole = save(radiograph(ramp(8)), tmp_path / "whole.dcm").read_bytes()
    start = whole.index(b"\x08\x00\x16\x00UI")
    path = tmp_path / "bare.dcm"
    for content in (whole[132:], whole[start:]):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_radiograph(path).pixels, ramp(8))
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        data_set = radiograph(ramp(8))
        data_set.file_meta.TransferSyntaxUID = syntax
        content = save(data_set, path).read_bytes()
        element = b"\x08\x00\x16\x00" if syntax.is_little_endian else b"\x00\x08\x00\x16"
        path.write_bytes(content[content.index(element, 200) :])
        np.testing.assert_array_equal(read_radiograph(path).pixels, ramp(8))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, Reason.NOT_A_RADIOGRAPH),
        ({"Modality": "MR"}, Reason.NOT_A_RADIOGRAPH),
        ({"Modality": "US"}, Reason.NOT_A_RADIOGRAPH),
        ({"Modality": "MG"}, Reason.NOT_A_RADIOGRAPH),
        ({"Modality": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, Reason.NOT_A_RADIOGRAPH),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, Reason.NOT_A_RADIOGRAPH),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, Reason.NOT_A_RADIOGRAPH),
        ({"BodyPartExamined": "ABDOMEN"}, Reason.NOT_A_RADIOGRAPH),
        ({"BodyPartExamined": "T-Spine"}, Reason.NOT_A_RADIOGRAPH),
        ({"BodyPartExamined": "left knee"}, Reason.NOT_A_RADIOGRAPH),
        ({"ViewPosition": "LL"}, Reason.LATERAL_VIEW),
        ({"ViewPosition": "RL"}, Reason.LATERAL_VIEW),
        ({"ViewPosition": "LATERAL"}, Reason.LATERAL_VIEW),
        ({"ViewPosition": "Lat. left"}, Reason.LATERAL_VIEW),
        ({"ViewPosition": "LAO"}, Reason.LATERAL_VIEW),
        ({"ViewPosition": None, "PatientOrientation": ["P", "F"]}, Reason.LATERAL_VIEW),
        ({"NumberOfFrames": 3}, Reason.MULTI_FRAME),
        ({"Rows": 65535, "Columns": 65535}, Reason.TOO_LARGE),
        ({"Rows": 40, "Columns": 512}, Reason.TOO_SMALL),
        ({"Rows": 129}, Reason.UNREADABLE),
        ({"Rows": 0}, Reason.UNREADABLE),
        ({"Rows": None}, Reason.UNREADABLE),
        ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, Reason.UNREADABLE),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, Reason.UNREADABLE),
        ({"BitsStored": 9}, Reason.UNREADABLE),
        ({"SamplesPerPixel": 4}, Reason.UNREADABLE),
        ({"PhotometricInterpretation": "CMYK"}, Reason.UNREADABLE),
        ({"PhotometricInterpretation": "FANCY"}, Reason.UNREADABLE),
    ],
)
def test_headers_that_refuse(tmp_path: Path, elements: dict[str, Any], reason: Reason) -> None:
    assert reason_of(save(radiograph(ramp(8), **elements), tmp_path / "a.dcm")) is reason


@pytest.mark.parametrize(
    ("elements", "note"),
    [
        ({"Modality": "CR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}, None),
        ({"Modality": None}, "modality absent"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "modality OT"),
        ({"BodyPartExamined": None}, None),
        ({"BodyPartExamined": "THORAX"}, None),
        ({"BodyPartExamined": "PORT CHEST"}, None),
        ({"BodyPartExamined": "XYZ"}, "unknown part"),
        ({"ViewPosition": "AP"}, None),
        ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, None),
        ({"ViewPosition": "LLD"}, None),
        ({"PresentationIntentType": "FOR PROCESSING"}, "FOR PROCESSING"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "FOR PROCESSING"),
        ({"PatientAge": "very old", "StudyDate": "yesterday"}, None),
    ],
)
def test_headers_that_pass(tmp_path: Path, elements: dict[str, Any], note: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(radiograph(ramp(8), **elements), tmp_path / "a.dcm")
    notes = [text for text in read_radiograph(path).notes if "no window" not in text]
    assert [note in text for text in notes] == [True] if note else notes == []


def test_views_and_regions_as_codes(tmp_path: Path) -> None:
    def code(meaning: str) -> Sequence:
        item = Dataset()
        item.CodeMeaning = meaning
        return Sequence([item])

    path = tmp_path / "a.dcm"
    lateral = radiograph(ramp(8), ViewPosition=None, ViewCodeSequence=code("left lateral"))
    assert reason_of(save(lateral, path)) is Reason.LATERAL_VIEW
    knee = radiograph(ramp(8), BodyPartExamined=None, AnatomicRegionSequence=code("Knee"))
    assert reason_of(save(knee, path)) is Reason.NOT_A_RADIOGRAPH
    frontal = radiograph(ramp(8), ViewPosition=None, ViewCodeSequence=code("postero-anterior"))
    assert read_radiograph(save(frontal, path)).facts.view is None


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    data_set = radiograph(ramp(8), Modality="OT")
    del data_set.PixelData
    data_set.add_new("FloatPixelData", "OF", ramp(8).astype("<f4").tobytes())
    with pytest.raises(Refusal, match="floating-point") as caught:
        read_radiograph(save(data_set, tmp_path / "a.dcm"))
    assert caught.value.reason is Reason.NOT_A_RADIOGRAPH


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_rgb_that_is_grey_in_fact(tmp_path: Path, bits: int) -> None:
    grey = ramp(bits)
    path = save(radiograph(np.dstack([grey] * 3), bits=bits), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_radiograph(path).pixels, grey >> (bits - 8))


def test_rgb_that_is_coloured(tmp_path: Path) -> None:
    coloured = np.random.default_rng(0).integers(0, 256, (128, 160, 3), np.uint8)
    assert reason_of(save(radiograph(coloured), tmp_path / "a.dcm")) is Reason.COLOUR_PHOTO


def test_grey_palette(tmp_path: Path) -> None:
    ends = np.arange(255, -1, -1).astype("<u2") * 257
    palette: dict[str, Any] = {}
    for channel in ("Red", "Green", "Blue"):
        palette[f"{channel}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{channel}PaletteColorLookupTableData"] = ends.tobytes()
    path = save(radiograph(ramp(8), PhotometricInterpretation="PALETTE COLOR", **palette), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_radiograph(path).pixels, 255 - ramp(8))
    del palette["RedPaletteColorLookupTableData"]
    path = save(radiograph(ramp(8), PhotometricInterpretation="PALETTE COLOR", **palette), path)
    assert reason_of(path) is Reason.UNREADABLE


def _compressed(stream: bytes, syntax: uid.UID, **elements: Any) -> Dataset:
    data_set = radiograph(ramp(8), **elements)
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.PixelData = encapsulate([stream])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    return data_set


def test_rle_that_expands_beyond_the_image(tmp_path: Path) -> None:
    bomb = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 500_000
    path = save(_compressed(bomb, uid.RLELossless), tmp_path / "a.dcm")
    assert reason_of(path) is Reason.UNREADABLE


def test_a_stream_that_claims_another_size_is_refused_before_decoding(tmp_path: Path) -> None:
    import imagecodecs

    path = tmp_path / "a.dcm"
    jpeg = bytearray(imagecodecs.jpeg8_encode(ramp(8)))
    whole = save(_compressed(bytes(jpeg), uid.JPEGBaseline8Bit), path)
    assert read_radiograph(whole).pixels.shape == (128, 160)
    frame_header = jpeg.index(b"\xff\xc0")
    jpeg[frame_header + 5 : frame_header + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(Refusal, match="disagree"):
        read_radiograph(save(_compressed(bytes(jpeg), uid.JPEGBaseline8Bit), path))
    j2k = bytearray(imagecodecs.jpeg2k_encode(ramp(8), codecformat="j2k", reversible=True, level=0))
    np.testing.assert_array_equal(
        read_radiograph(save(_compressed(bytes(j2k), uid.JPEG2000Lossless), path)).pixels, ramp(8)
    )
    j2k[8:16] = struct.pack(">II", 2**31, 2**31)
    with pytest.raises(Refusal, match="disagree"):
        read_radiograph(save(_compressed(bytes(j2k), uid.JPEG2000Lossless), path))


@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEGBaseline8Bit]
)
def test_compressed_frames_cut_or_damaged(tmp_path: Path, syntax: uid.UID) -> None:
    import imagecodecs

    noisy = np.random.default_rng(1).integers(0, 64, (128, 160), np.uint8)
    stream = {
        uid.JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(noisy, codecformat="j2k", reversible=True, level=0),
        uid.JPEGLSLossless: lambda: imagecodecs.jpegls_encode(noisy),
        uid.JPEGLosslessSV1: lambda: imagecodecs.jpeg8_encode(noisy, lossless=True, predictor=1),
        uid.JPEGBaseline8Bit: lambda: imagecodecs.jpeg8_encode(noisy),
    }[syntax]()
    path = tmp_path / "a.dcm"
    found = read_radiograph(save(_compressed(stream, syntax), path)).pixels
    if syntax != uid.JPEGBaseline8Bit:
        np.testing.assert_array_equal(found, np.rint(noisy / 63 * 255))
    for length in (2, 30, len(stream) // 2, len(stream) - 3):
        assert reason_of(save(_compressed(stream[:length], syntax), path)) is Reason.UNREADABLE


def test_video_and_unknown_syntaxes(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    for syntax in (uid.MPEG4HP41, uid.UID("1.2.3.999")):
        data_set = _compressed(b"\x00" * 64, uid.JPEGBaseline8Bit)
        content = save(data_set, path).read_bytes()
        old = uid.JPEGBaseline8Bit.encode()
        new = syntax.encode().ljust(len(old), b"\x00")[: len(old)] if len(syntax) <= len(old) else syntax.encode()
        if len(new) != len(old):
            data_set.file_meta.TransferSyntaxUID = syntax
            data_set.save_as(path, enforce_file_format=True)
        else:
            path.write_bytes(content.replace(old, new))
        with pytest.raises(Refusal) as caught:
            read_radiograph(path)
        assert caught.value.reason is Reason.UNREADABLE
        assert str(syntax) in str(caught.value) or syntax.name in str(caught.value)


def test_a_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    decoder = pydicom.pixels.get_decoder(uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(dicom_decoders, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"JPEG Lossless.*pip install imagecodecs"):
        read_radiograph(save(_compressed(b"\xff\xd8", uid.JPEGLosslessSV1), tmp_path / "a.dcm"))


def test_large_sequences_are_not_parsed(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [0, 0, 16]
    item.add_new("LUTData", "OW", bytes(5 * 2**20))
    path = save(radiograph(ramp(8), VOILUTSequence=Sequence([item])), tmp_path / "a.dcm")
    assert reason_of(path) is Reason.TOO_LARGE


def test_pixel_limit_is_a_setting(tmp_path: Path) -> None:
    path = save(radiograph(ramp(8)), tmp_path / "a.dcm")
    with pytest.raises(Refusal, match="more pixels"):
        read_radiograph(path, ReadingLimits(max_pixels=128 * 160 - 1))
    assert read_radiograph(path, ReadingLimits(max_pixels=128 * 160)).pixels.shape == (128, 160)

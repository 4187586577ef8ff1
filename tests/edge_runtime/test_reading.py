"""What `read_radiograph` says to any file: by content, within limits, with a reason."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import InputError, Reason, Refusal
from edge_runtime.reading import ReadingLimits, looks_readable, read_radiograph
from tests.edge_runtime.dicom_samples import radiograph, ramp, save


def reason_of(path: Path, limits: ReadingLimits | None = None) -> Reason:
    with pytest.raises(Refusal) as caught:
        read_radiograph(path, limits or ReadingLimits())
    assert caught.value.what
    assert "Traceback" not in str(caught.value)
    return caught.value.reason


def test_a_radiograph_comes_with_its_facts(tmp_path: Path) -> None:
    source = radiograph(ramp(8), PatientAge="058Y", PatientSex="F", StudyDate="20200401")
    image = read_radiograph(save(source, tmp_path / "a.dcm"))
    assert image.source_format == "DICOM"
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    facts = image.facts
    assert (facts.modality, facts.view, facts.body_part, facts.age, facts.sex) == (
        "DX",
        "PA",
        "CHEST",
        "058Y",
        "F",
    )
    assert (facts.study_date, facts.patient_id, facts.sop_instance_uid) == ("20200401", "P1", "1.2.3.4")


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    dicom = save(radiograph(ramp(8)), tmp_path / "radiograph.png")
    assert read_radiograph(dicom).source_format == "DICOM"
    for kind in ("PNG", "JPEG", "TIFF"):
        named_dicom = tmp_path / f"{kind}.dcm"
        Image.fromarray(ramp(8)).save(named_dicom, format=kind)
        assert read_radiograph(named_dicom).source_format == kind


def test_a_dicom_file_whose_preamble_is_a_tiff_header_is_dicom(tmp_path: Path) -> None:
    path = save(radiograph(ramp(8)), tmp_path / "dual.dcm")
    content = bytearray(path.read_bytes())
    content[:4] = b"II*\x00"
    path.write_bytes(content)
    assert read_radiograph(path).source_format == "DICOM"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Dear colleague,\nplease find the radiograph attached.\n" * 9, "a text file"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        (b"PK\x03\x04" + bytes(40), "a zip archive"),
        (b"GIF89a" + bytes(40), "a GIF image"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (bytes(4096), "nothing but zero bytes"),
        (np.random.default_rng(0).bytes(4096), "data of an unknown kind"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "renamed.dcm"
    path.write_bytes(content)
    with pytest.raises(Refusal) as caught:
        read_radiograph(path)
    assert caught.value.reason is Reason.UNREADABLE
    assert words in str(caught.value.got)


def test_what_cannot_be_reached_is_an_error_and_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_radiograph(tmp_path / "absent.dcm")
    with pytest.raises(InputError, match="folder"):
        read_radiograph(tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(InputError, match="not a regular file"):
        read_radiograph(fifo)


def test_no_permission_is_an_error(tmp_path: Path) -> None:
    path = save(radiograph(ramp(8)), tmp_path / "a.dcm")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything (root)")
    with pytest.raises(InputError, match="may not be read"):
        read_radiograph(path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.dcm"
    path.touch()
    assert reason_of(path) is Reason.UNREADABLE


def test_truncated_at_any_byte_is_refused_or_whole(tmp_path: Path) -> None:
    """Cut a file anywhere: it is refused or, cut in the padding at its end, gives the whole image."""
    originals = {}
    for syntax in ("native", "deflated", "png", "jpeg"):
        path = tmp_path / syntax
        if syntax == "native":
            save(radiograph(ramp(12), bits=12, WindowCenter=2048, WindowWidth=4096), path)
        elif syntax == "deflated":
            path.write_bytes(deflated(radiograph_bytes()))
        else:
            Image.fromarray(ramp(8)).save(path, format=syntax)
        originals[syntax] = (path.read_bytes(), read_radiograph(path).pixels)
    cut = tmp_path / "cut"
    for content, pixels in originals.values():
        for length in np.linspace(1, len(content) - 1, 60).astype(int):
            cut.write_bytes(content[:length])
            try:
                found = read_radiograph(cut).pixels
            except Refusal:
                continue
            np.testing.assert_array_equal(found, pixels)


def radiograph_bytes(pixels: NDArray[np.uint8] | None = None) -> bytes:
    """A data set alone, Explicit VR Little Endian, as it stands inside a deflated file."""
    buffer = BytesIO()
    data_set = radiograph(ramp(8) if pixels is None else pixels)
    data_set.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    return content[content.index(b"\x08\x00\x16\x00UI") :]


def deflated(data_set: bytes) -> bytes:
    """A Part 10 file in Deflated Explicit VR Little Endian around an encoded data set."""
    syntax = b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element
    packer = zlib.compressobj(wbits=-15)
    return bytes(128) + b"DICM" + group + packer.compress(data_set) + packer.flush()


def test_deflated_data_set(tmp_path: Path) -> None:
    path = tmp_path / "deflated.dcm"
    path.write_bytes(deflated(radiograph_bytes()))
    np.testing.assert_array_equal(read_radiograph(path).pixels, ramp(8))


def test_deflate_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(deflated(radiograph_bytes() + bytes(300 * 2**20)))
    assert path.stat().st_size < 2**20
    assert reason_of(path, ReadingLimits(max_inflated_bytes=8 * 2**20)) is Reason.TOO_LARGE
    # A second bomb, without preamble: pydicom would inflate it on its own.
    path.write_bytes(path.read_bytes()[132:])
    assert reason_of(path, ReadingLimits(max_inflated_bytes=8 * 2**20)) is Reason.TOO_LARGE


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_what_deflates_too_well_is_refused_by_its_ratio(tmp_path: Path) -> None:
    """Below 16 MiB any ratio will do; above it, a hundred times the deflated size."""
    path = tmp_path / "film.dcm"
    even = np.zeros((2000, 4000), np.uint8)
    even[:, 2000:] = 1
    path.write_bytes(deflated(radiograph_bytes(even)))
    assert path.stat().st_size * 100 < 8_000_000 < 16 * 2**20
    assert read_radiograph(path).pixels.shape == (2000, 4000)
    path.write_bytes(deflated(radiograph_bytes() + bytes(30 * 2**20)))
    with pytest.raises(Refusal, match="inflates to more") as caught:
        read_radiograph(path)
    assert caught.value.expected == "at most 16 MiB"
    large = np.zeros((4400, 4400), np.uint8)  # 18 MiB
    large[:, :400] = np.random.default_rng(1).integers(0, 256, (4400, 400), np.uint8)
    path.write_bytes(deflated(radiograph_bytes(large)))
    np.testing.assert_array_equal(read_radiograph(path).pixels, large)


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """Both bombs in a process of its own: the peak stays far below what they claim."""
    bomb = tmp_path / "bomb.dcm"
    bomb.write_bytes(deflated(radiograph_bytes() + bytes(300 * 2**20)))
    wide = save(radiograph(ramp(8), Rows=65535, Columns=65535), tmp_path / "wide.dcm")
    program = (
        "import sys\n"
        "from edge_runtime.errors import Refusal\n"
        "from edge_runtime.reading import ReadingLimits, read_radiograph\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_radiograph(path, ReadingLimits(max_inflated_bytes=16 * 2**20))\n"
        "    except Refusal as refusal: print(refusal.reason.value)\n"
        "status = open('/proc/self/status').read()\n"  # getrusage would count the parent's peak too
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bomb), str(wide)], capture_output=True, text=True, check=True
    )
    *reasons, peak = done.stdout.split()
    assert reasons == ["too_large", "too_large"]
    assert int(peak) < 200


def test_file_size_is_capped_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.dcm"
    with path.open("wb") as file:
        file.truncate(2**40)
    assert reason_of(path) is Reason.TOO_LARGE


def test_a_header_of_millions_of_elements_is_given_up(tmp_path: Path) -> None:
    path = save(radiograph(ramp(8)), tmp_path / "many.dcm")
    head = path.read_bytes()
    start = head.index(b"\x08\x00\x16\x00UI")
    many = b"".join(struct.pack("<HH2sH", 9, number, b"LO", 0) for number in range(0x1000, 0xFFFF)) * 20
    path.write_bytes(head[:start] + many + head[start:])
    begun = time.perf_counter()
    assert reason_of(path) is Reason.TOO_LARGE
    assert time.perf_counter() - begun < 30


def test_a_length_field_of_four_gigabytes(tmp_path: Path) -> None:
    path = save(radiograph(ramp(8)), tmp_path / "long.dcm")
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00OB\x00\x00") + 8
    path.write_bytes(content[:at] + struct.pack("<I", 0xFFFFFFFE) + content[at + 4 :])
    # What is there is the whole image: pydicom takes it up to the end of the file.
    try:
        np.testing.assert_array_equal(read_radiograph(path).pixels, ramp(8))
    except Refusal as refusal:
        assert refusal.reason is Reason.UNREADABLE


def contents() -> dict[str, bytes]:
    """One whole file of every kind that has a decoder of its own."""
    import imagecodecs
    from pydicom import uid
    from pydicom.encaps import encapsulate

    def dicom(stream: bytes | None, syntax: uid.UID) -> bytes:
        data_set = radiograph(ramp(8))
        if stream is None:
            data_set.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        else:
            data_set.file_meta.TransferSyntaxUID = syntax
            data_set.PixelData = encapsulate([bytes(stream)])
            data_set["PixelData"].VR = "OB"
            data_set["PixelData"].is_undefined_length = True
        out = BytesIO()
        data_set.save_as(out, enforce_file_format=True)
        return out.getvalue()

    def picture(kind: str, **options: object) -> bytes:
        out = BytesIO()
        Image.fromarray(ramp(8)).save(out, format=kind, **options)
        return out.getvalue()

    values = ramp(8)
    return {
        "native": bytes(128) + b"DICM" + radiograph_bytes(),
        "deflated": deflated(radiograph_bytes()),
        "RLE": dicom(None, uid.RLELossless),
        "JPEG": dicom(imagecodecs.jpeg8_encode(values), uid.JPEGBaseline8Bit),
        "JPEG Lossless": dicom(imagecodecs.jpeg8_encode(values, lossless=True, predictor=1), uid.JPEGLosslessSV1),
        "JPEG-LS": dicom(imagecodecs.jpegls_encode(values), uid.JPEGLSLossless),
        "JPEG 2000": dicom(
            imagecodecs.jpeg2k_encode(values, codecformat="j2k", reversible=True, level=0), uid.JPEG2000Lossless
        ),
        "HTJ2K": dicom(imagecodecs.htj2k_encode(values, reversible=True), uid.HTJ2KLossless),
        "PNG file": picture("PNG"),
        "JPEG file": picture("JPEG"),
        "TIFF file": picture("TIFF"),
        "TIFF file, LZW": picture("TIFF", compression="tiff_lzw"),
        "TIFF file, deflated": picture("TIFF", compression="tiff_adobe_deflate"),
    }


KINDS = ("native", "deflated", "RLE", "JPEG", "JPEG Lossless", "JPEG-LS", "JPEG 2000", "HTJ2K", "PNG file", "JPEG file",
         "TIFF file", "TIFF file, LZW", "TIFF file, deflated")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_never_escapes(tmp_path: Path, kind: str) -> None:
    """Bytes changed at random, or the end cut off: an image or a refusal, nothing else, and no crash.

    In a decoding process, as in the field: a crash would be an error of the file. In which of the bytes the damage is
    decides what sees it, so headers and streams get as much of it.
    """
    content = contents()[kind]
    rng = np.random.default_rng(len(kind))
    path = tmp_path / "damaged"
    path.write_bytes(content)
    refused = 0
    with DecodingPool(1, seconds=10, memory_bytes=512 * 2**20) as pool:
        assert pool.read(path).pixels.shape == (128, 160), "the whole file is read"
        for number in range(40):
            damaged = np.frombuffer(content, np.uint8).copy()
            end = len(damaged) if number % 2 else min(len(damaged), 1200)
            at = rng.integers(0, end, size=rng.integers(1, 9))
            damaged[at] = rng.integers(0, 256, size=at.size)
            path.write_bytes(damaged[: rng.integers(1, len(damaged))] if number % 5 == 0 else damaged)
            try:
                assert pool.read(path).pixels.dtype == np.uint8
            except Refusal as refusal:
                refused += 1
                assert refusal.what
    assert refused >= 8, "at least what was cut"


def test_the_walk_picks_up_what_may_be_read(tmp_path: Path) -> None:
    bare = save(radiograph(ramp(8)), tmp_path / "IM000001")
    (tmp_path / "note.txt").write_text("no image")
    (tmp_path / "text.dcm").write_text("no image either, but to be refused by name")
    (tmp_path / "._a.dcm").write_bytes(bare.read_bytes())
    (tmp_path / "DICOMDIR").write_bytes(bare.read_bytes())
    (tmp_path / "folder.dcm").mkdir()
    picked = sorted(path.name for path in tmp_path.iterdir() if looks_readable(path))
    assert picked == ["IM000001", "text.dcm"]
    assert not looks_readable(tmp_path / "absent")


def test_importing_the_reader_imports_no_library() -> None:
    program = (
        "import sys, edge_runtime.reading\n"
        "print([name for name in ('pydicom', 'PIL', 'imagecodecs', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real_data
def test_no_frontal_radiograph_of_the_real_sets_is_refused(cxr_data: Path) -> None:
    import csv

    with (cxr_data / "sources/cohen/metadata.csv").open(encoding="utf-8") as table:
        frontal = {row["filename"] for row in csv.DictReader(table) if row["view"] != "L"}
    folders = [cxr_data / "sources" / name / "images" for name in ("cohen", "figure1", "actualmed")]
    images = [path for folder in folders for path in sorted(folder.iterdir())]
    images = [path for path in images if path.parent.parent.name != "cohen" or path.name in frontal]
    images += sorted((cxr_data / "sources/rsna/stage_2_train_images").glob("*.dcm"))[::10]
    assert len(images) > 600
    refused = []
    for path in images:
        try:
            read_radiograph(path)
        except Refusal as refusal:
            refused.append((path.name, str(refusal)))
    assert refused == []

"""The phone's page in real headless Chromium: offline, with the full model's answers, and never a wrong file's."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from edge_runtime.bundle import open_bundle
from edge_runtime.errors import Refusal
from edge_runtime.golden import load_golden
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph
from tests.mobile.phone_page import Phone, StaticServer, as_array, changed_copy
from tests.ui.scripted import dicom_bytes, drawn_radiograph, png_bytes, written

pytestmark = [pytest.mark.mobile, pytest.mark.browser]

JPEG_GREY_LEVELS = 1
"""Largest difference of a pixel between two decoders of one JPEG: their inverse cosine transforms round apart."""


@pytest.fixture(scope="module")
def offline(browser: Any, web_site: Path) -> Iterator[Phone]:
    """A phone that has visited the page once, and whose server is then gone for good."""
    server = StaticServer(web_site)
    phone = Phone(browser, server.url)
    phone.open()
    assert phone.ready == "onnx-fp32"
    first_visit = list(phone.requests)
    server.stop()
    phone.open()
    assert phone.ready == "onnx-fp32"
    assert any(url.endswith(".onnx") for url in first_visit)
    yield phone
    assert not phone.faults
    phone.close()


def probabilities(card: Any) -> np.ndarray:
    return np.array(json.loads(card.get_attribute("data-probabilities")))


def self_test(phone: Phone) -> dict[str, Any]:
    return json.loads(phone.page.get_attribute("#phone", "data-test"))


def test_in_flight_mode_it_answers_as_the_runtime_does(offline: Phone, mobile_bundle: Path, tmp_path: Path) -> None:
    with open_bundle(mobile_bundle) as bundle:
        predictors = {name: Predictor.open(bundle, name) for name in ("onnx-fp32", "onnx-int8")}
        vectors = load_golden(bundle)
    files = [tmp_path / Path(vector.name).name for vector in vectors if min(vector.pixels.shape) >= 128]
    for file in files:
        file.write_bytes((mobile_bundle / "golden" / file.name).read_bytes())
    for file in [*files, written(tmp_path, "drawn.png", png_bytes())]:
        card = offline.answer(file)
        expected = predictors["onnx-fp32"].predict(read_radiograph(file).pixels)
        assert card.locator(".verdict-label").inner_text().lower() == expected.label.lower()
        assert np.abs(probabilities(card) - list(expected.probabilities.values())).max() <= 1e-4, file.name
    assert files and self_test(offline)["status"] == "agrees"
    assert self_test(offline)["vectors"] == len(vectors)
    assert self_test(offline)["difference"] <= 1e-4
    assert self_test(offline)["heatMapDifference"] <= 1e-3


def test_the_second_visit_has_threads_on_a_server_that_knows_nothing_of_them(offline: Phone) -> None:
    assert offline.page.evaluate("crossOriginIsolated")
    assert self_test(offline)["threads"] == min(4, offline.page.evaluate("navigator.hardwareConcurrency"))


def test_int8_decides_as_it_does_in_the_runtime(browser: Any, web_site: Path, mobile_bundle: Path) -> None:
    server = StaticServer(web_site)
    phone = Phone(browser, server.url)
    phone.open()
    phone.page.locator("#phone summary").click()
    phone.page.get_by_role("radio", name="onnx-int8").check(force=True)
    phone.page.wait_for_selector("body[data-ready=onnx-int8]")
    server.stop()
    phone.open()
    assert phone.ready == "onnx-int8"
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, "onnx-int8") as predictor:
        for entry in bundle.manifest.golden.inputs:
            file = bundle.path(entry)
            if min(np.asarray(Image.open(file)).shape) < 128:
                continue
            expected = predictor.predict(np.asarray(Image.open(file)))
            card = phone.answer(file)
            assert card.locator(".verdict-label").inner_text().lower() == expected.label.lower(), entry.path
    assert self_test(phone)["status"] in ("agrees", "as_built")
    assert not phone.faults
    phone.close()


def jpeg_bytes(pixels: np.ndarray, quality: int = 90, **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, **options)
    return stream.getvalue()


def compressed(syntax: Any) -> bytes:
    data_set = dcmread(BytesIO(dicom_bytes()))
    if syntax == JPEGBaseline8Bit:
        from pydicom.encaps import encapsulate

        data_set.file_meta.TransferSyntaxUID = syntax
        data_set.PixelData = encapsulate([jpeg_bytes(drawn_radiograph())])
        data_set["PixelData"].is_undefined_length = True
    else:
        data_set.compress(syntax)
    stream = BytesIO()
    data_set.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def deep_dicom(**facts: Any) -> bytes:
    """12 bits of 16, with padding, a window and a rescale where ``facts`` have them."""
    values = drawn_radiograph().astype(np.uint16) * 16 + 7
    values[:20] = 0
    changes = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelData": values.tobytes(), **facts}
    return dicom_bytes(None, **changes)


def transcoded(syntax: Any, content: bytes) -> bytes:
    data_set = dcmread(BytesIO(content))
    stream = BytesIO()
    if syntax == ExplicitVRBigEndian:
        data_set.PixelData = np.frombuffer(data_set.PixelData, "<u2").astype(">u2").tobytes()
    data_set.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    dcmwrite(  # pydicom writes big endian only when it is forced to
        stream, data_set, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not big,
        enforce_file_format=not big, force_encoding=big,
    )  # fmt: skip
    return stream.getvalue()


def with_table(content: bytes) -> bytes:
    from pydicom import Dataset

    data_set = dcmread(BytesIO(content))
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 10]
    item.LUTData = (np.sqrt(np.arange(4096) / 4095) * 1023).astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    data_set.VOILUTSequence = [item]
    stream = BytesIO()
    data_set.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


WINDOWED = {"WindowCenter": "1800", "WindowWidth": "2500"}
SAME_PIXELS = {
    "grey PNG": png_bytes,
    "RGB PNG of equal channels": lambda: png_bytes(np.stack([drawn_radiograph()] * 3, -1)),
    "8-bit DICOM": dicom_bytes,
    "MONOCHROME1": lambda: dicom_bytes(PhotometricInterpretation="MONOCHROME1"),
    "16-bit, no window, padding": lambda: deep_dicom(PixelPaddingValue=0),
    "LINEAR": lambda: deep_dicom(**WINDOWED),
    "LINEAR_EXACT, rescaled": lambda: deep_dicom(
        **WINDOWED, VOILUTFunction="LINEAR_EXACT", RescaleSlope="1.5", RescaleIntercept="-200"
    ),
    "SIGMOID": lambda: deep_dicom(**WINDOWED, VOILUTFunction="SIGMOID"),
    "INVERSE": lambda: deep_dicom(**WINDOWED, PresentationLUTShape="INVERSE"),
    "signed": lambda: deep_dicom(**WINDOWED, PixelRepresentation=1),
    "VOI LUT": lambda: with_table(deep_dicom()),
    "implicit VR": lambda: transcoded(ImplicitVRLittleEndian, deep_dicom(**WINDOWED)),
    "big endian": lambda: transcoded(ExplicitVRBigEndian, deep_dicom(**WINDOWED)),
}


@pytest.mark.parametrize("name", SAME_PIXELS)
def test_a_file_becomes_the_runtimes_own_pixels(name: str, offline: Phone, tmp_path: Path) -> None:
    content = SAME_PIXELS[name]()
    here = offline.pixels(content)
    there = read_radiograph(written(tmp_path, "file", content))
    np.testing.assert_array_equal(as_array(here), there.pixels)
    assert here["notes"] == list(there.notes)


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG", "DICOM with JPEG"])
def test_decoders_of_jpeg_round_apart_and_no_further(kind: str, offline: Phone, tmp_path: Path) -> None:
    content = {
        "JPEG": lambda: jpeg_bytes(drawn_radiograph()),
        "progressive JPEG": lambda: jpeg_bytes(drawn_radiograph(), 75, progressive=True),
        "DICOM with JPEG": lambda: compressed(JPEGBaseline8Bit),
    }[kind]()
    here = as_array(offline.pixels(content)).astype(int)
    there = read_radiograph(written(tmp_path, "file", content)).pixels.astype(int)
    assert here.shape == there.shape
    assert np.abs(here - there).max() <= JPEG_GREY_LEVELS


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(12)


def deep_png() -> bytes:
    stream = BytesIO()
    Image.fromarray(drawn_radiograph().astype(np.uint16) * 200).save(stream, "PNG")
    return stream.getvalue()


def colourful() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    return png_bytes(pixels)


REFUSED = {
    "0 x 0": (lambda: png_header(0, 0), "unreadable"),
    "20,000 x 20,000": (lambda: png_header(20_000, 20_000), "too_large"),
    "a DICOM header of 65535 x 65535": (lambda: dicom_bytes(Rows=65535, Columns=65535), "too_large"),
    "a truncated PNG": (lambda: png_bytes()[:2000], "unreadable"),
    "a truncated JPEG": (lambda: jpeg_bytes(drawn_radiograph())[:4000], "unreadable"),
    "a truncated DICOM": (lambda: dicom_bytes()[:-5000], "unreadable"),
    "a DICOM header alone": (lambda: dicom_bytes()[:200], "unreadable"),
    "text": (lambda: b"Dear colleague, ...", "unreadable"),
    "nothing": (lambda: b"", "unreadable"),
    "RLE": (lambda: compressed(RLELossless), "unreadable"),
    "a 16-bit PNG": (deep_png, "unreadable"),
    "a colour photograph": (colourful, "colour_photo"),
    "an icon": (lambda: png_bytes(drawn_radiograph(64, 64)), "too_small"),
    "one grey": (lambda: png_bytes(np.full((200, 200), 90, np.uint8)), "no_contrast"),
    "a CT": (lambda: dicom_bytes(Modality="CT"), "not_a_radiograph"),
    "a knee": (lambda: dicom_bytes(BodyPartExamined="KNEE"), "not_a_radiograph"),
    "a lateral view": (lambda: dicom_bytes(ViewPosition="LL"), "lateral_view"),
    "several frames": (lambda: dicom_bytes(NumberOfFrames=2), "multi_frame"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_judged_is_refused_with_a_reason(name: str, offline: Phone) -> None:
    make, reason = REFUSED[name]
    refused = offline.pixels(make())
    assert refused.get("reason") == reason, refused
    assert refused["message"]
    assert refused["remedy"]


def test_a_refusal_is_shown_without_an_answer(offline: Phone) -> None:
    card = offline.answer({"name": "<b>letter</b>.txt", "mimeType": "", "buffer": b"Dear colleague, ..."})
    assert card.locator("[data-part=refusal-title]").inner_text() == "Not judged"
    assert card.locator("[data-part=name]").inner_text() == "<b>letter</b>.txt"
    assert card.locator("[data-part=reading]").is_hidden()


def test_the_gate_and_the_prediction_sets_of_the_bundle_are_kept(offline: Phone) -> None:
    found = offline.page.evaluate(
        """async () => {
            const gates = await import(new URL('gate.js', document.baseURI).href);
            const { checkAge, checkGate, predictionSet, referral } = gates;
            const gate = { threshold: 1, reasons: ['not_a_radiograph', 'inverted'], minimum_age_years: 16 };
            const reason = (call) => {
                try { call(); return null; } catch (error) { return error.reason ?? error.name; }
            };
            const conformal = { coverage: 0.9, thresholds: { a: 0.4, b: 0.5 } };
            return [
                reason(() => checkGate(null, 5)), reason(() => checkGate(gate, 0.99)), reason(() => checkGate(gate, 1)),
                reason(() => checkGate(gate, 2.7)), reason(() => checkGate(gate, NaN)),
                reason(() => checkAge(gate, { age: '015Y' })), reason(() => checkAge(gate, { age: '016Y' })),
                reason(() => checkAge(gate, {})),
                predictionSet(conformal, ['a', 'b'], [0.45, 0.55]), predictionSet(null, ['a'], [1]),
                referral(conformal, ['a', 'b']), referral(conformal, ['a']),
            ];
        }"""
    )
    assert found == [
        None, None, "not_a_radiograph", "inverted", "Failure", "child_under_limit", None, None, ["a", "b"], None,
        "Refer to a reader: a and b cannot be told apart (at 90 % coverage).", "",
    ]  # fmt: skip


def test_no_image_can_leave_the_phone(offline: Phone) -> None:
    blocked = offline.page.evaluate(
        """async () => {
            const reports = [];
            document.addEventListener('securitypolicyviolation', (event) => reports.push(event.effectiveDirective));
            const sent = fetch('https://example.org/', { method: 'POST', body: 'x' });
            const failed = await sent.then(() => false, () => true);
            const image = new Image();
            image.src = 'https://example.org/x.png';
            await new Promise((resolve) => { image.onerror = resolve; });
            return [failed, [...new Set(reports)].sort()];
        }"""
    )
    assert blocked == [True, ["connect-src", "img-src"]]
    offline.faults.clear()  # the two that this test provoked


@pytest.mark.parametrize(
    ("name", "cut", "said"),
    [
        ("model/artifacts/onnx-fp32.onnx", 0, "SHA-256 differs"),
        ("model/artifacts/onnx-fp32.onnx", 700, "truncated"),
        ("model/golden/vectors.json", 0, "SHA-256 differs"),
    ],
    ids=["changed model", "truncated model", "changed golden vectors"],
)
def test_a_damaged_file_opens_no_model(
    name: str, cut: int, said: str, browser: Any, web_site: Path, tmp_path: Path
) -> None:
    server = StaticServer(changed_copy(web_site, tmp_path / "site", name, cut=cut))
    phone = Phone(browser, server.url)
    phone.open()
    assert phone.ready is None
    assert name in phone.page.locator("#failure-message").inner_text()
    assert said in phone.page.locator("#failure-message").inner_text()
    assert phone.page.locator("#failure-remedy").inner_text()
    assert phone.page.locator("#intake").is_hidden()
    server.stop()
    phone.close()


def test_a_changed_file_of_the_page_itself_opens_no_model(browser: Any, web_site: Path, tmp_path: Path) -> None:
    server = StaticServer(changed_copy(web_site, tmp_path / "site", "model/manifest.json"))
    phone = Phone(browser, server.url)
    phone.open()
    assert phone.ready is None
    assert "not the one that was written" in phone.page.locator("#failure-message").inner_text()
    server.stop()
    phone.close()


def test_a_file_that_was_damaged_on_the_phone_is_fetched_again(browser: Any, web_site: Path) -> None:
    server = StaticServer(web_site)
    phone = Phone(browser, server.url)
    phone.open()
    changed = phone.page.evaluate(
        """async () => {
            const cache = await caches.open(`cxr-mobile ${location.pathname}`);
            const model = (await cache.keys()).find((request) => request.url.includes('.onnx'));
            const bytes = new Uint8Array(await (await cache.match(model)).arrayBuffer());
            bytes[100] ^= 1;
            await cache.put(model, new Response(bytes));
            return model.url;
        }"""
    )
    assert "onnx-fp32" in changed
    phone.open()
    assert phone.ready == "onnx-fp32"
    server.stop()
    phone.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_small_phone(scheme: str, browser: Any, web_site: Path, tmp_path: Path) -> None:
    server = StaticServer(web_site)
    phone = Phone(browser, server.url, {"width": 320, "height": 640}, scheme)
    phone.open()
    phone.answer(written(tmp_path, "a-rather-long-file-name-of-a-radiograph.dcm", dicom_bytes()))
    phone.page.locator("#phone summary").click()
    assert phone.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    strip = phone.page.locator(".strip").bounding_box()
    assert strip["y"] + strip["height"] <= 641
    assert "Not a medical device" in phone.page.locator(".strip").inner_text()
    assert phone.page.locator("#demonstration").is_visible()
    image, heat = (phone.page.locator(f"[data-part={part}]").bounding_box() for part in ("image", "heat"))
    assert image == pytest.approx(heat, abs=1)
    server.stop()
    assert not phone.faults
    phone.close()


@pytest.mark.real_data
def test_the_dicom_zoo_is_read_alike_or_left_to_the_laptop(offline: Phone, cxr_data: Path) -> None:
    read = 0
    for file in sorted((cxr_data / "dicom_zoo").glob("*.dcm")):
        if file.stat().st_size > 3_000_000:
            continue  # over the browser's debugging channel that takes minutes
        here = offline.pixels(file.read_bytes())
        try:
            there = read_radiograph(file)
        except Refusal:
            assert "reason" in here, f"{file.name}: the runtime refuses it"
            continue
        if "reason" in here:
            assert "laptop" in here["remedy"], (file.name, here)
            continue
        read += 1
        assert np.abs(as_array(here).astype(int) - there.pixels.astype(int)).max() <= JPEG_GREY_LEVELS, file.name
    assert read

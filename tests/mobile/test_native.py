"""The C++ library and ``cxr_classify``, with AddressSanitizer and UndefinedBehaviorSanitizer, against the runtime."""

from __future__ import annotations

import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.answer import answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.golden import load_golden
from edge_runtime.predictor import Predictor
from tests.export.making import random_image
from tests.mobile.hosts import cxr_classify as classify
from tests.mobile.native_build import NativeBuild

pytestmark = pytest.mark.mobile


def test_ctest_passes_and_skips_nothing(native: NativeBuild) -> None:
    command = ["ctest", "--output-on-failure", "-j2"]
    done = subprocess.run(command, cwd=native.folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Skipped" not in done.stdout and "No tests were found" not in done.stdout + done.stderr, done.stdout


def test_self_test_agrees(native: NativeBuild, mobile_bundle: Path, lite_artifact: str) -> None:
    (line,) = classify(native, mobile_bundle, "--self-test", "--artifact", lite_artifact)
    assert line["status"] == "agrees" and line["vectors"] >= 12
    if lite_artifact == "lite-fp32":
        assert line["max_abs_probability_difference"] <= 1e-4 and line["differing_decisions"] == 0


def test_it_takes_what_is_recommended_for_a_phone(
    native: NativeBuild, choosy_bundle: Path, mobile_bundle: Path
) -> None:
    for bundle, name in ((choosy_bundle, "lite-int8"), (mobile_bundle, "lite-fp32")):
        (line,) = classify(native, bundle, "--self-test")
        assert line["artifact"] == name


def test_same_files_same_answers_as_python(
    native: NativeBuild, mobile_bundle: Path, tmp_path: Path, lite_artifact: str
) -> None:
    """PNG, PGM and grey JPEG: the same pixels in both hosts, so the same probabilities."""
    files = []
    for number, (height, width) in enumerate(((256, 200), (131, 300), (640, 512))):
        pixels = random_image(height, width, seed=number)
        for suffix in ("png", "jpg"):
            files.append(tmp_path / f"{number}.{suffix}")
            Image.fromarray(pixels).save(files[-1])
        Image.fromarray(pixels).save(tmp_path / f"{number}.pgm")
    lines = classify(native, mobile_bundle, *files, "--artifact", lite_artifact)
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, lite_artifact) as predictor:
        for file, line in zip(files, lines, strict=True):
            answer = answer_file(predictor, file).answer
            assert line["label"] == answer.label, file.name
            assert list(line["probabilities"]) == list(answer.probabilities or {})
            for label, probability in (answer.probabilities or {}).items():
                assert line["probabilities"][label] == pytest.approx(probability, abs=1e-4), file.name
    pgm = classify(native, mobile_bundle, *sorted(tmp_path.glob("*.pgm")), "--artifact", lite_artifact)
    assert [line["probabilities"] for line in pgm] == [line["probabilities"] for line in lines[::2]]


def test_golden_inputs_as_files(native: NativeBuild, mobile_bundle: Path) -> None:
    """The PNG files themselves, through each host's own decoder, against the full model's numbers."""
    with open_bundle(mobile_bundle) as bundle:
        vectors = [v for v in load_golden(bundle) if min(v.pixels.shape) >= 128]
    lines = classify(native, mobile_bundle, *(mobile_bundle / vector.name for vector in vectors))
    for vector, line in zip(vectors, lines, strict=True):
        got = np.array(list(line["probabilities"].values()))
        assert np.abs(got - vector.outputs["probabilities"][0]).max() <= 1e-4
        assert got.argmax() == vector.outputs["probabilities"][0].argmax()


def test_tinted_jpeg_differs_by_rounding_only(native: NativeBuild, mobile_bundle: Path, tmp_path: Path) -> None:
    """Colour JPEG: libjpeg and Pillow may round a grey level otherwise; the answer moves by less than 0.001."""
    grey = random_image(300, 260, seed=5).astype(float)
    file = tmp_path / "sepia.jpg"
    Image.fromarray(np.stack([grey, grey * 0.95, grey * 0.88], axis=2).astype(np.uint8)).save(file, quality=92)
    (line,) = classify(native, mobile_bundle, file)
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, "lite-fp32") as predictor:
        answer = answer_file(predictor, file).answer
    assert line["label"] == answer.label
    for label, probability in (answer.probabilities or {}).items():
        assert line["probabilities"][label] == pytest.approx(probability, abs=1e-3)


def make_bad_files(folder: Path) -> dict[str, tuple[Path, str, str]]:
    """Files that get no answer, with the status and reason that ``edge-runtime predict`` gives them."""
    good = random_image(300, 260)
    files: dict[str, tuple[Path, str, str]] = {}

    def add(name: str, content: bytes, status: str = "refused", reason: str = "unreadable") -> None:
        (folder / name).write_bytes(content)
        files[name] = (folder / name, status, reason)

    def encoded(name: str, image: Image.Image, **options: object) -> bytes:
        image.save(folder / name, **options)
        return (folder / name).read_bytes()

    png, jpeg = encoded("whole.png", Image.fromarray(good)), encoded("whole.jpg", Image.fromarray(good))
    add("empty.png", b"")
    add("text.png", b"no image at all")
    add("short.png", png[: len(png) // 2])
    add("header.png", png[:20])
    add("flipped.png", png[: len(png) // 2] + bytes([png[len(png) // 2] ^ 0xFF]) + png[len(png) // 2 + 1 :])
    add("short.jpg", jpeg[: len(jpeg) // 2])
    add("header.jpg", jpeg[:30])
    add("huge.png", png_header(20_000, 20_000), reason="too_large")
    add("small.png", encoded("small.png", Image.fromarray(random_image(127, 300))), reason="too_small")
    add("even.png", encoded("even.png", Image.new("L", (200, 200), 90)), reason="no_contrast")
    colours = np.stack([good, good[::-1], good[:, ::-1]], axis=2)
    add("photo.png", encoded("photo.png", Image.fromarray(colours)), reason="colour_photo")
    add("photo.jpg", encoded("photo.jpg", Image.fromarray(colours)), reason="colour_photo")
    files["absent.png"] = (folder / "absent.png", "error", "unreachable")
    return files


def png_header(height: int, width: int) -> bytes:
    """A PNG that claims a size and has next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_bad_files_get_the_runtimes_reasons(native: NativeBuild, mobile_bundle: Path, tmp_path: Path) -> None:
    files = make_bad_files(tmp_path)
    lines = classify(native, mobile_bundle, *(path for path, _, _ in files.values()), code=1)
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, "lite-fp32") as predictor:
        for (name, (path, status, reason)), line in zip(files.items(), lines, strict=True):
            answer = answer_file(predictor, path).answer
            python = answer.status, str(getattr(answer.reason, "value", answer.reason))
            assert (line["status"], line["reason"]) == (status, reason), (name, line)
            assert python[0] == status, (name, python)
            if reason != "unreadable":  # Python names some unreadable files by what they are instead
                assert python[1] == reason, (name, python)
            assert line["label"] is None and line["probabilities"] is None and line["message"]


def test_files_that_only_this_program_turns_down(native: NativeBuild, mobile_bundle: Path, tmp_path: Path) -> None:
    """What it does not do it says, and never guesses: depth beyond 8 bits, rotation marks, CMYK, other formats."""
    good = random_image(300, 260)
    Image.fromarray(good.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.fromarray(good).save(tmp_path / "rotated.jpg", exif=rotated)
    Image.fromarray(good).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(good).save(tmp_path / "page.tif")
    (tmp_path / "none.pgm").write_bytes(b"P5 0 0 255\n")
    (tmp_path / "short.pgm").write_bytes(b"P5 300 300 255\n" + bytes(100))
    (tmp_path / "deep.pgm").write_bytes(b"P5 300 300 65535\n" + bytes(180_000))
    (tmp_path / "huge.pgm").write_bytes(b"P5 99999 99999 255\n")
    names = ("deep.png", "rotated.jpg", "cmyk.jpg", "page.tif", "none.pgm", "short.pgm", "deep.pgm", "huge.pgm")
    words = (
        "16 bits",
        "orientation 6",
        "CMYK",
        "no PGM, PNG or JPEG",
        "no pixels",
        "truncated",
        "grey levels",
        "99999",
    )
    lines = classify(native, mobile_bundle, *(tmp_path / name for name in names))
    for line, word in zip(lines, words, strict=True):
        assert line["status"] == "refused" and word in line["message"], line
        assert line["reason"] == ("too_large" if "huge" in line["file"] else "unreadable")


def test_transparent_and_palette_png_as_in_python(native: NativeBuild, mobile_bundle: Path, tmp_path: Path) -> None:
    good = random_image(300, 260)
    alpha = np.linspace(0, 255, 300 * 260).reshape(300, 260).astype(np.uint8)
    Image.merge("LA", [Image.fromarray(good), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    Image.merge("RGBA", [Image.fromarray(good)] * 3 + [Image.fromarray(alpha)]).save(tmp_path / "rgba.png")
    Image.fromarray(good).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(good).convert("1").save(tmp_path / "bits.png")
    Image.fromarray(np.stack([good] * 3, axis=2)).save(tmp_path / "rgb.png")
    files = sorted(tmp_path.glob("*.png"))
    lines = classify(native, mobile_bundle, *files)
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, "lite-fp32") as predictor:
        for file, line in zip(files, lines, strict=True):
            answer = answer_file(predictor, file).answer
            # alpha is rounded otherwise by at most one grey level
            allowed = 1e-3 if file.stem in ("la", "rgba") else 1e-4
            for label, probability in (answer.probabilities or {}).items():
                assert line["probabilities"][label] == pytest.approx(probability, abs=allowed), file.name


def test_heat_map_file(native: NativeBuild, mobile_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(random_image(300, 260, seed=2)).save(file)
    classify(native, mobile_bundle, file, "--heatmap", tmp_path / "heat.pgm")
    with open_bundle(mobile_bundle) as bundle, Predictor.open(bundle, "lite-fp32") as predictor:
        prediction = predictor.predict(np.asarray(Image.open(file)))
    wanted = prediction.heatmap[predictor.manifest.labels.index(prediction.label)]
    got = np.asarray(Image.open(tmp_path / "heat.pgm"), float) / 255
    assert np.abs(got - wanted).max() <= 0.5 / 255 + 1e-4


def test_the_gate_refuses(native: NativeBuild, gated_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(random_image(300, 260)).save(file)
    (line,) = classify(native, gated_bundle, file)
    assert (line["status"], line["reason"], line["label"]) == ("refused", "not_a_radiograph", None)
    assert "unlike" in line["message"] and line["gate_score"] is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no bundle"),
        (["BUNDLE"], "give images"),
        (["BUNDLE", "x.png", "--self-test"], "give images"),
        (["BUNDLE", "x.png", "--artefact", "y"], "no such option"),
        (["BUNDLE", "x.png", "--artifact"], "needs a value"),
        (["BUNDLE", "x.png", "--threads", "many"], "--threads"),
        (["BUNDLE", "x.png", "y.png", "--heatmap", "h.pgm"], "one image"),
        (["BUNDLE", "x.png", "--artifact", "onnx-fp32"], "no artifact onnx-fp32"),
    ],
)
def test_wrong_usage(native: NativeBuild, mobile_bundle: Path, arguments: list[str], words: str) -> None:
    command = [native.program, *(str(mobile_bundle) if word == "BUNDLE" else word for word in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and words in done.stderr


def test_damaged_bundle_is_one_line_and_exit_1(native: NativeBuild, mobile_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(mobile_bundle, tmp_path / "bundle")
    model = copy / "artifacts/lite-fp32.ptl"
    model.write_bytes(model.read_bytes()[:-1])
    done = subprocess.run([native.program, copy, "x.png"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "file_changed" in done.stderr and "remedy" in done.stderr
    assert done.stderr.count("\n") == 1

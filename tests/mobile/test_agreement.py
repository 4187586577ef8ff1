"""The same files through Python, C++, Java and a browser, on one bundle: the same answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.mobile.hosts import HostAnswer, in_browser, in_cpp, in_java, in_python
from tests.mobile.native_build import NativeBuild
from train.data.phantom import phantom_pixels

pytestmark = [pytest.mark.mobile, pytest.mark.browser]

SAME_FLOAT = 1e-4
"""Largest difference of a probability between two hosts at fp32, on files that every decoder reads alike."""
SAME_JPEG = 1e-3
"""The same where two JPEG decoders round apart: at most one grey level a pixel."""
SHAPES = ((128, 128), (131, 300), (256, 200), (517, 400), (640, 533), (1024, 700), (1201, 1600))


def phantoms() -> list[np.ndarray]:
    """uint8 [H, W] of many sizes and all classes, cut out of square phantoms."""
    labels = ("normal", "pneumonia", "COVID-19")
    return [
        phantom_pixels(labels[number % 3], 40 + number, max(shape))[: shape[0], : shape[1]].copy()
        for number, shape in enumerate(SHAPES)
    ]


@pytest.fixture(scope="module")
def pngs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pngs")
    files = [folder / f"{number}.png" for number in range(len(SHAPES))]
    for file, pixels in zip(files, phantoms(), strict=True):
        Image.fromarray(pixels).save(file)
    return files


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Grey JPEG, from coarse to fine, baseline and progressive."""
    folder = tmp_path_factory.mktemp("jpegs")
    files = []
    for number, pixels in enumerate(phantoms()[1:5]):
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=(60, 80, 90, 97)[number], progressive=number == 1)
    return files


@pytest.fixture
def ask(
    native: NativeBuild, java: Callable[..., list[str]], browser: Any, web_site: Path, mobile_bundle: Path
) -> Callable[[str, Sequence[Path]], dict[str, list[HostAnswer]]]:
    """Every host's answers at one precision, by its name and its artifact's format."""

    def every(precision: str, files: Sequence[Path]) -> dict[str, list[HostAnswer]]:
        lite, onnx = f"lite-{precision}", f"onnx-{precision}"
        return {
            "Python, lite": in_python(mobile_bundle, lite, files),
            "C++, lite": in_cpp(native, mobile_bundle, lite, files),
            "Java, lite": in_java(java, mobile_bundle, lite, files),
            "Python, onnx": in_python(mobile_bundle, onnx, files),
            "browser, onnx": in_browser(browser, web_site, onnx, files),
        }

    return every


def largest_difference(answers: dict[str, list[HostAnswer]]) -> float:
    """Of a probability, between any two hosts."""
    stacked = np.stack([[one.probabilities for one in host] for host in answers.values()])
    return float((stacked.max(axis=0) - stacked.min(axis=0)).max())


def test_fp32_is_the_same_number_in_every_host(ask, pngs: list[Path]) -> None:
    answers = ask("fp32", pngs)
    decisions = {host: [one.label for one in given] for host, given in answers.items()}
    first = decisions["Python, onnx"]
    assert None not in first and len(set(first)) > 1, "one class for every picture: this would compare little"
    assert all(labels == first for labels in decisions.values()), decisions
    difference = largest_difference(answers)
    print(f"largest difference of a probability between two hosts: {difference:.1e}")
    assert difference <= SAME_FLOAT


def test_int8_is_the_same_decision_in_every_host(ask, pngs: list[Path]) -> None:
    """Of one artifact. Two formats are two quantizations: how far they are apart is the build's to judge."""
    answers = ask("int8", pngs)
    for format_ in ("lite", "onnx"):
        hosts = {host: given for host, given in answers.items() if host.endswith(format_)}
        decisions = {host: [one.label for one in given] for host, given in hosts.items()}
        first = decisions[f"Python, {format_}"]
        assert len(hosts) > 1 and None not in first and len(set(first)) > 1
        assert all(labels == first for labels in decisions.values()), decisions
        print(f"{format_}-int8: largest difference of a probability {largest_difference(hosts):.1e}")


def test_jpeg_differs_by_the_decoders_rounding_only(ask, jpegs: list[Path]) -> None:
    answers = ask("fp32", jpegs)
    first = [one.label for one in answers["Python, onnx"]]
    assert all([one.label for one in given] == first for given in answers.values())
    difference = largest_difference(answers)
    print(f"JPEG: largest difference of a probability between two hosts: {difference:.1e}")
    assert difference <= SAME_JPEG


def test_a_host_that_resizes_itself_would_be_found_out(mobile_bundle: Path, tmp_path: Path) -> None:
    image = Image.fromarray(phantoms()[3])
    image.save(tmp_path / "whole.png")
    image.resize((200, 258), Image.Resampling.BICUBIC).save(tmp_path / "resized.png")
    answers = {name: in_python(mobile_bundle, "onnx-fp32", [tmp_path / f"{name}.png"]) for name in ("whole", "resized")}
    assert largest_difference(answers) > SAME_FLOAT

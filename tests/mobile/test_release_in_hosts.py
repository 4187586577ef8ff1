"""The bundle that the repository carries, in every host: it agrees, and its gate refuses.

No number of it is known here: it may be built anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import open_bundle
from edge_runtime.manifest import Manifest
from tests.mobile.hosts import HostAnswer, cxr_classify, in_browser, in_cpp, in_java, in_python, phone_with
from tests.mobile.native_build import NativeBuild
from train.data.phantom import phantom_pixels

pytestmark = pytest.mark.mobile


@pytest.fixture(scope="module")
def manifest(release_bundle: Path) -> Manifest:
    with open_bundle(release_bundle) as bundle:
        return bundle.manifest


@pytest.fixture(scope="module")
def release_site(release_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mobile_demo.web.site import write_site
    from tests.mobile.phone_page import need_packages

    need_packages()
    with open_bundle(release_bundle) as bundle:
        return write_site(bundle, tmp_path_factory.mktemp("release") / "site").folder


@pytest.fixture(scope="module")
def upright_and_inverted(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A phantom of each class, then their negatives."""
    folder = tmp_path_factory.mktemp("phantoms")
    files = []
    for negative in (False, True):
        for number, label in enumerate(("normal", "pneumonia", "COVID-19")):
            pixels = phantom_pixels(label, 11 + number, 400 + 56 * number)
            files.append(folder / f"{label}-{'inverted' if negative else 'upright'}.png")
            Image.fromarray(np.uint8(255) - pixels if negative else pixels).save(files[-1])
    return files


def check_like_python(given: Sequence[HostAnswer], bundle: Path, artifact: str, files: Sequence[Path]) -> None:
    """The same decisions, and the same refusals, the gate's among them."""
    expected = in_python(bundle, artifact, files)
    assert [(a.label, a.reason) for a in given] == [(a.label, a.reason) for a in expected]
    reasons = {file.stem: answer.reason for file, answer in zip(files, given, strict=True)}
    assert all(reason == "inverted" for name, reason in reasons.items() if "inverted" in name), reasons
    assert any(reason is None for name, reason in reasons.items() if "upright" in name), reasons
    for answer in given:
        assert (answer.probabilities.size == 0) == (answer.reason is not None), "a refusal has no probabilities"


def test_cpp(native: NativeBuild, release_bundle: Path, manifest: Manifest, upright_and_inverted: list[Path]) -> None:
    (line,) = cxr_classify(native, release_bundle, "--self-test")
    assert line["artifact"] == manifest.recommended["phone"]
    assert line["status"] == "agrees" and line["vectors"] == len(manifest.golden.inputs)
    given = in_cpp(native, release_bundle, line["artifact"], upright_and_inverted)
    check_like_python(given, release_bundle, line["artifact"], upright_and_inverted)


def test_cpp_shows_the_prediction_sets(
    native: NativeBuild, release_bundle: Path, upright_and_inverted: list[Path]
) -> None:
    from edge_runtime.answer import answer_file
    from edge_runtime.predictor import Predictor

    lines = cxr_classify(native, release_bundle, *upright_and_inverted)
    with open_bundle(release_bundle) as bundle, Predictor.open(bundle, lines[0]["artifact"]) as predictor:
        for file, line in zip(upright_and_inverted, lines, strict=True):
            answer = answer_file(predictor, file).answer
            expected = None if answer.prediction_set is None else list(answer.prediction_set)
            assert (line["prediction_set"], line["refer"]) == (expected, answer.refer), file.name
    assert any(line["prediction_set"] for line in lines)


def test_java(
    java: Callable[..., list[str]], release_bundle: Path, manifest: Manifest, upright_and_inverted: list[Path]
) -> None:
    artifact = manifest.recommended["phone"]
    assert java("open", release_bundle) == [f"OK\t{artifact}"]
    (line,) = java("selfTest", release_bundle, artifact)
    assert line.startswith(f"{artifact} agrees vectors={len(manifest.golden.inputs)} ")
    given = in_java(java, release_bundle, artifact, upright_and_inverted)
    check_like_python(given, release_bundle, artifact, upright_and_inverted)


@pytest.mark.browser
def test_browser(
    browser: Any, release_site: Path, release_bundle: Path, manifest: Manifest, upright_and_inverted: list[Path]
) -> None:
    artifact = manifest.recommended["browser"]
    assert json.loads((release_site / "site.json").read_text())["default"] == artifact
    with phone_with(browser, release_site, artifact) as phone:
        test = json.loads(phone.page.get_attribute("#phone", "data-test"))
        assert test["status"] in ("agrees", "as_built") and test["vectors"] == len(manifest.golden.inputs)
        card = phone.answer(upright_and_inverted[-1])
        assert "negative" in card.locator("[data-part=message]").inner_text()
        assert card.locator("[data-part=answer]").is_hidden()
    given = in_browser(browser, release_site, artifact, upright_and_inverted)
    check_like_python(given, release_bundle, artifact, upright_and_inverted)

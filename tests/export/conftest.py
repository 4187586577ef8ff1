"""A small run and a small data set of phantoms, made once for all tests of export."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from torch import nn

from tests.export.making import ARCHITECTURE, make_classifier, make_dataset, make_run


@pytest.fixture(scope="session", autouse=True)
def _golden_inputs_drawn_once() -> Iterator[None]:
    """Drawing a dozen phantoms takes seconds, and every build draws the same ones."""
    from export.golden_vectors import build_golden_inputs

    drawn = cache(build_golden_inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.golden_vectors.build_golden_inputs", lambda labels: list(drawn(tuple(labels))))
        yield


@pytest.fixture(scope="session")
def classifier() -> nn.Sequential:
    return make_classifier(ARCHITECTURE)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, classifier: nn.Sequential, data_folder: Path) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "small", classifier, ARCHITECTURE, data_folder)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "phantoms")


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, data_folder: Path) -> Path:
    """The whole bundle: every format, and both int8 artifacts. Tests copy it before they change it."""
    from export import build_bundle

    out = tmp_path_factory.mktemp("bundles") / "bundle"
    build_bundle(run_folder, data_folder, out, calibration=9)
    return out

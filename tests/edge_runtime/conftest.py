"""Bundles around a tiny graph, and files to answer with them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.predictor import Predictor
from edge_runtime.radiograph import Radiograph
from edge_runtime.records import Records
from tests.edge_runtime.tiny_bundle import build_tiny_bundle, gradient

if TYPE_CHECKING:
    from tests.edge_runtime.station import Station


@pytest.fixture(autouse=True)
def no_site_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command that is given no site takes one of the test, not that of whoever runs the tests."""
    monkeypatch.setenv("EDGE_RUNTIME_SITE", str(tmp_path / "site of no name"))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one ONNX artifact; not to be changed."""
    pytest.importorskip("onnx", reason="onnx is not installed: no tiny graph")
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "own"))


@pytest.fixture(scope="session")
def every_format_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny graph in every format; not to be changed."""
    for package in ("onnx", "torch", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed: not every format can be written")
    out = tmp_path_factory.mktemp("bundles") / "every"
    return build_tiny_bundle(out, ("onnx", "openvino", "torchscript", "lite"))


@pytest.fixture
def chest_png(tmp_path: Path) -> Path:
    """A grey PNG that the reader takes."""
    path = tmp_path / "chest.png"
    Image.fromarray(gradient(300, 260)).save(path)
    return path


@pytest.fixture
def chest_dicom(tmp_path: Path) -> Path:
    """A digital X-ray of the chest, PA, uncompressed."""
    path = tmp_path / "chest.dcm"
    write_dicom(path)
    return path


@pytest.fixture
def run_command() -> Callable[..., Result]:
    """Run ``edge-runtime`` with arguments in this process; stdout and stderr apart."""
    from edge_runtime.cli import commands

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(commands, [str(a) for a in arguments])

    return run


def write_dicom(path: Path, **changes: object) -> None:
    """Write a small DICOM radiograph; ``changes`` set attributes."""
    pixels = gradient(320, 288)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset: Dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "DX"
    dataset.ViewPosition = "PA"
    dataset.BodyPartExamined = "CHEST"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def stop_decoders(monkeypatch: pytest.MonkeyPatch, pool: DecodingPool, seconds: float = 0.5) -> None:
    """Let the decoder of each file named ``hang`` hang and that of each named ``die`` be killed, at every attempt.

    ``pool`` has one worker; a file gets ``seconds``.
    """
    read = DecodingPool.read

    def stop(self: DecodingPool, path: str | Path, **options: Any) -> Radiograph:
        name = Path(path).stem
        with self._worker() as worker:
            worker._wait_until_ready()
            process = worker._process
        if name.endswith(("hang", "die")):
            os.kill(process.pid, signal.SIGSTOP)
        if name.endswith("die"):
            threading.Timer(seconds / 4, process.kill).start()
        return read(self, path, **options)

    monkeypatch.setattr(pool, "_seconds", seconds)
    monkeypatch.setattr(DecodingPool, "read", stop)


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Iterator[Predictor]:
    with open_bundle(tiny_bundle) as bundle, Predictor.open(bundle) as opened:
        yield opened


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records(tmp_path / "site") as opened:
        yield opened


@pytest.fixture
def station(tiny_bundle: Path, tmp_path: Path) -> Iterator[Station]:
    """A DICOM node that runs; the test's module skips where the extra ``node`` is missing."""
    from tests.edge_runtime.station import Station

    with Station(tmp_path / "node", tiny_bundle) as running:
        yield running

"""What the hot folder and the DICOM node answer appears on the open page by itself, when they share its site."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.server import listening
from tests.edge_runtime.tiny_bundle import build_tiny_bundle
from tests.ui.scripted import ScriptedPredictor, dicom_bytes, scripted_bundle, written

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Any]
ROOT = Path(__file__).parents[2]
SECONDS = 60_000  # a command's start, on a busy machine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed: no tiny bundle can be built")
    return build_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@contextmanager
def command(name: str, bundle: Path, *arguments: str) -> Iterator[str]:
    """Run a command of the runtime until the block ends; yields the line that says it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_runtime", name, str(bundle), *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Ctrl-C" in line:
                break
        else:
            pytest.fail(f"`{name}` ended by itself: exit code {process.wait()}")
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def worklist(open_page: OpenPage, tmp_path: Path) -> Iterator[Any]:
    """The worklist of an empty site, open in a browser."""
    with ExitStack() as stack:
        records = stack.enter_context(Records(tmp_path / "site"))
        app = create_app(scripted_bundle(), ScriptedPredictor().as_predictor(), WebConfig(), records)
        page = open_page(at=stack.enter_context(listening(app)) + "worklist")
        page.get_by_text("Nothing here yet.").wait_for()
        yield page


def test_a_file_dropped_into_the_hot_folder(worklist: Any, bundle: Path, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    shared = ("--site", str(tmp_path / "site"), "--settle", "0.2", "--interval", "0.2")
    with command("watch", bundle, str(inbox), "--out", str(tmp_path / "out"), *shared):
        written(inbox, "chest.dcm", dicom_bytes())
        row = worklist.locator("#rows tr")
        row.wait_for(timeout=SECONDS)
        assert "Hot folder" in row.inner_text() and "PA, 58 years" in row.inner_text()
        assert worklist.get_by_text("Nothing here yet.").is_hidden()
    row.get_by_role("link").click()
    worklist.locator("[data-part=label]:not(:empty)").wait_for()


def test_an_image_sent_to_the_dicom_node(worklist: Any, bundle: Path, tmp_path: Path) -> None:
    pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: no DICOM node")
    from pydicom import dcmread

    image = dcmread(written(tmp_path, "chest.dcm", dicom_bytes()))
    shared = ("--site", str(tmp_path / "site"), "--port", "0", "--allow-any", "--no-results")
    with command("receive", bundle, "--out", str(tmp_path / "out"), *shared) as ready:
        found = re.search(r"(?:port |:)(\d{2,5})\b", ready)
        assert found is not None, ready
        sender = pynetdicom.AE("SCANNER")
        sender.add_requested_context(image.SOPClassUID)
        association = sender.associate("127.0.0.1", int(found[1]), ae_title="EDGE_RUNTIME")
        assert association.is_established
        assert association.send_c_store(image).Status == 0
        association.release()
        row = worklist.locator("#rows tr")
        row.wait_for(timeout=SECONDS)
        assert "DICOM node" in row.inner_text()

"""`edge-runtime serve` as a user starts it, on a real (tiny) bundle: the page says what `predict` says."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.edge_runtime.tiny_bundle import build_tiny_bundle
from tests.ui.scripted import dicom_bytes, written

COMMAND = [sys.executable, "-m", "edge_runtime"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="onnx is not installed: no tiny bundle can be built")
    return build_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture
def served(bundle: Path) -> Iterator[str]:
    command = [*COMMAND, "serve", str(bundle), "--port", "0", "--no-login"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    yield next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
    process.send_signal(signal.SIGTERM if os.name != "nt" else signal.CTRL_C_EVENT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_page_answers_as_predict_does(served: str, bundle: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "chest.dcm", dicom_bytes())
    line = subprocess.run([*COMMAND, "predict", str(bundle), str(file), "--json"], capture_output=True, check=True)
    expected = json.loads(line.stdout)
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="chest.dcm"\r\n\r\n'
    connection = http.client.HTTPConnection(urlsplit(served).netloc, timeout=60)
    connection.request(
        "POST",
        "/api/v1/predict",
        body + file.read_bytes() + b"\r\n--b--\r\n",
        {"Content-Type": "multipart/form-data; boundary=b"},
    )
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert set(expected) <= set(answer)
    same = set(expected) - {"file", "timings_ms"}
    assert {key: answer[key] for key in same} == {key: expected[key] for key in same}
    assert answer["status"] == "ok"
    assert len(answer["heatmap"]["values"]) == len(answer["heatmap"]["labels"]) == 3


def test_another_address_is_wrong_usage(bundle: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", str(bundle), "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "no encryption" in done.stderr and "tls init" in done.stderr
    assert "Traceback" not in done.stderr

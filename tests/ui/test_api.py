"""The JSON API: what each upload gets, and that nothing of it stays."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from PIL import Image

from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.station import Station
from edge_runtime.web.upload import display_name
from tests.ui.scripted import (
    CLEAR,
    LABELS,
    ScriptedPredictor,
    dicom_bytes,
    drawn_radiograph,
    png_bytes,
    scripted_bundle,
)

PREDICT = "/api/v1/predict"


def send(app: Flask, content: bytes, name: str = "chest.png", **options: Any) -> Any:
    return app.test_client().post(PREDICT, data={"file": (BytesIO(content), name)}, **options)


def left_over(app: Flask) -> list[Path]:
    station: Station = app.extensions[Station.KEY]
    return list(station.uploads.iterdir())


def test_a_dicom_file_gets_the_whole_answer(app: Flask) -> None:
    response = send(app, dicom_bytes(), "chest.dcm")
    assert response.status_code == 200
    answer = response.get_json()
    assert answer["status"] == "ok"
    assert answer["file"] == "chest.dcm"
    assert answer["label"] == "COVID-19"
    assert list(answer["probabilities"].items()) == list(CLEAR.items())
    assert (answer["artifact"], answer["backend"], answer["precision"]) == (
        "onnx-fp32",
        "onnxruntime",
        "fp32",
    )
    assert {"read", "predict", "total", "wait"} <= set(answer["timings_ms"])
    assert answer["facts"]["view"] == "PA"
    assert answer["identity_hidden"] and answer["facts"]["patient_id"] is answer["facts"]["sop_instance_uid"] is None
    for secret in ("Secret", "SYN-0042"):
        assert secret not in response.get_data(as_text=True)
    assert answer["heatmap"]["labels"] == list(LABELS)
    values = np.array(answer["heatmap"]["values"])
    assert values.shape == (3, 8, 8)
    assert values.min() >= 0 and values.max() <= 1
    assert left_over(app) == []


def test_the_image_for_display_is_what_was_judged_and_small(app: Flask) -> None:
    pixels = drawn_radiograph(1500, 1200)
    image = send(app, png_bytes(pixels)).get_json()["image"]
    assert (image["source_width"], image["source_height"], image["source_format"]) == (1200, 1500, "PNG")
    shown = Image.open(BytesIO(base64.b64decode(image["url"].removeprefix("data:image/png;base64,"))))
    assert shown.size == (image["width"], image["height"]) == (819, 1024)
    expected = np.asarray(Image.fromarray(pixels).resize(shown.size, Image.Resampling.BILINEAR), np.float32)
    assert np.abs(np.asarray(shown, np.float32) - expected).mean() < 3


def test_a_refused_file_is_an_answer_under_its_own_name(app: Flask) -> None:
    response = send(app, b"Dear colleague, ...", "letter.dcm")
    answer = response.get_json()
    assert response.status_code == 200
    assert (answer["status"], answer["reason"], answer["label"]) == ("refused", "unreadable", None)
    assert answer["message"].startswith("letter.dcm ")
    assert answer["remedy"]
    assert answer["image"] is answer["heatmap"] is None
    assert left_over(app) == []


def test_a_failing_backend_is_our_fault(app: Flask, predictor: ScriptedPredictor) -> None:
    predictor.fails = True
    response = send(app, png_bytes())
    assert response.status_code == 500
    assert response.get_json()["status"] == "error"
    assert left_over(app) == []


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"file": "text, no file"},
        {"other": (BytesIO(b"x"), "x.png")},
        {"file": [(BytesIO(b"x"), "a.png"), (BytesIO(b"y"), "b.png")]},
    ],
)
def test_a_form_without_exactly_one_file_is_a_bad_request(app: Flask, form: dict[str, Any]) -> None:
    response = app.test_client().post(PREDICT, data=form, content_type="multipart/form-data")
    assert response.status_code == 400
    assert response.get_json()["status"] == "error"
    assert left_over(app) == []


def test_a_cut_off_form_leaves_nothing_behind(app: Flask) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + b"x" * 500_000
    response = app.test_client().post(PREDICT, data=body, content_type="multipart/form-data; boundary=b")
    assert response.status_code == 400
    assert left_over(app) == []


def test_too_large_is_refused_by_size(app: Flask, config: WebConfig) -> None:
    response = send(app, b"\0" * (config.max_upload_bytes + 1))
    assert response.status_code == 413
    assert response.get_json()["reason"] == "too_large"
    response = send(app, b"\0" * (config.max_upload_bytes * 2))  # already by its Content-Length
    assert response.status_code == 413
    assert left_over(app) == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\u202eb\x07.png", "ab.png"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("..", ".."),
        ("x" * 1000, None),
    ],
)
def test_names_are_shown_and_never_become_paths(app: Flask, given: str, shown: str | None) -> None:
    name = send(app, png_bytes(), given).get_json()["file"]
    assert name == shown if shown else len(name) <= 160
    assert left_over(app) == []


def test_uploads_rest_in_a_private_folder(app: Flask, predictor: ScriptedPredictor, tmp_path: Path) -> None:
    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(upload_folder=tmp_path))
    seen = []
    predict = predictor.predict
    predictor.predict = lambda pixels: (seen.extend(left_over(app)), predict(pixels))[1]  # type: ignore[method-assign]
    send(app, png_bytes())
    (upload,) = seen
    assert upload.parent.parent == tmp_path
    assert upload.parent.stat().st_mode & 0o077 == 0
    assert not upload.exists()


def test_health_names_what_answers(app: Flask) -> None:
    health = app.test_client().get("/api/v1/health").get_json()
    assert health == {
        "status": "ok",
        "bundle": "covidx-b1-test",
        "artifact": "onnx-fp32",
        "backend": "onnxruntime",
        "precision": "fp32",
        "present": 0,
        "places": 2,
    }


def test_unknown_addresses_and_methods(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/api/v1/nothing").get_json()["reason"] == "not_found"
    response = client.get(PREDICT)
    assert (response.status_code, response.get_json()["reason"]) == (405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]
    page = client.get("/nothing")
    assert page.status_code == 404
    assert "Research use only" in page.get_data(as_text=True)


@pytest.mark.parametrize("path", ["/", "/api/v1/health", "static", "/nothing", "/service-worker.js"])
def test_every_response_carries_the_headers(app: Flask, path: str) -> None:
    headers = app.test_client().get(f"{app.static_url_path}/page.js" if path == "static" else path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    kept = path.startswith("static")
    assert headers["Cache-Control"] == ("public, max-age=31536000, immutable" if kept else "no-store")


def test_a_windows_path_is_shown_without_its_folders() -> None:
    assert display_name("C:\\Users\\me\\chest.png") == "chest.png"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_sites_cannot_send_files(app: Flask, predictor: ScriptedPredictor, headers: dict[str, str]) -> None:
    assert send(app, png_bytes(), headers=headers).status_code == 403
    assert predictor.answered == 0


def test_the_pages_own_requests_pass(app: Flask) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert send(app, png_bytes(), headers=headers).status_code == 200


def test_a_foreign_host_name_is_not_answered(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1:8080"}).status_code == 200


@pytest.mark.parametrize("synthetic", [True, False])
def test_the_page_says_what_the_model_learnt_from(predictor: ScriptedPredictor, synthetic: bool) -> None:
    app = create_app(scripted_bundle(synthetic=synthetic), predictor.as_predictor())
    page = app.test_client().get("/").get_data(as_text=True)
    assert ("Demonstration model." in page) == synthetic
    assert "Research use only. Not a medical device." in page
    assert "source bias" in page
    assert "A limitation that the manifest names." in page


def test_the_page_is_light(app: Flask) -> None:
    client = app.test_client()
    static = Path(app.static_folder or "")
    total = len(client.get("/").data) + sum(path.stat().st_size for path in static.iterdir())
    assert total < 150_000  # all modules of all pages, uncompressed, before an image

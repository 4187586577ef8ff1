"""Writing the phone's page, and serving it at ``/mobile``; no browser here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from edge_runtime.errors import BundleError
from edge_runtime.web import WebConfig, create_app
from edge_runtime.web.mobile import HEADERS
from tests.mobile.phone_page import sha256
from tests.ui.scripted import ScriptedPredictor, scripted_bundle

pytestmark = pytest.mark.mobile

COMMAND = [sys.executable, "-m", "mobile_demo.web"]


def lists(site: Path) -> dict:
    line = next(s for s in (site / "service_worker.js").read_text().splitlines() if s.startswith("const SITE = "))
    return json.loads(line.removeprefix("const SITE = ").removesuffix(";"))


def test_every_file_is_listed_with_its_hash_and_none_comes_from_elsewhere(web_site: Path, mobile_bundle: Path) -> None:
    listed = {entry["path"]: entry for entry in lists(web_site)["files"]}
    there = {p.relative_to(web_site).as_posix() for p in web_site.rglob("*") if p.is_file() and p.suffix != ".gz"}
    assert set(listed) == there - {"service_worker.js"}
    for path, entry in listed.items():
        assert (entry["bytes"], entry["sha256"]) == ((web_site / path).stat().st_size, sha256(web_site / path)), path
    manifest = json.loads((mobile_bundle / "manifest.json").read_text())
    for artifact in (a for a in manifest["artifacts"] if a["format"] == "onnx"):
        for file in artifact["files"]:
            assert listed[f"model/{file['path']}"]["sha256"] == file["sha256"]
    assert (web_site / "model/manifest.json").read_bytes() == (mobile_bundle / "manifest.json").read_bytes()
    for path in sorted(there):
        if path.endswith((".js", ".html", ".css", ".webmanifest")) and not path.startswith("vendor/"):
            found = re.findall(r"https?://[^\s\"'<)]+", (web_site / path).read_text())
            assert not found, f"{path} names {found}"


def test_the_licences_of_what_is_shipped_are_kept(web_site: Path) -> None:
    texts = {path.name: path.read_text("utf-8") for path in (web_site / "licences").glob("*.txt")}
    assert "Microsoft" in texts["onnxruntime.txt"]
    assert "MIT" in texts["dicom-parser.txt"]
    assert "Apache License" in texts["page.txt"]
    assert len(texts["onnxruntime-third-party.txt"]) > 10_000


def test_the_policy_lets_nothing_out() -> None:
    rules = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == rules["img-src"] == rules["worker-src"] == "'self'"
    assert rules["script-src"].split() == ["'self'", "'wasm-unsafe-eval'"]
    assert rules["form-action"] == "'none'"


def test_what_the_command_refuses(mobile_bundle: Path, web_site: Path, tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> tuple[int, str]:
        done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    code, said = run(mobile_bundle, tmp_path / "site", "--artifact", "lite-fp32")
    assert (code, "onnx-fp32" in said) == (2, True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("keep me")
    code, said = run(mobile_bundle, other)
    assert (code, "will not be overwritten" in said) == (1, True)
    assert (other / "letter.txt").read_text() == "keep me"
    damaged = shutil.copytree(mobile_bundle, tmp_path / "damaged")
    model = damaged / "artifacts/onnx-fp32.onnx"
    content = bytearray(model.read_bytes())
    content[1000] ^= 1
    model.write_bytes(content)
    kept = shutil.copytree(web_site, tmp_path / "kept")
    before = sha256(kept / "service_worker.js")
    code, said = run(damaged, kept)
    assert (code, "onnx-fp32.onnx" in said) == (1, True)
    assert sha256(kept / "service_worker.js") == before
    assert not list(tmp_path.glob(".*"))


def test_what_is_recommended_for_a_browser_answers_first(choosy_bundle: Path, web_site: Path, tmp_path: Path) -> None:
    from edge_runtime.bundle import open_bundle
    from mobile_demo.web.site import write_site

    def first(recommended: dict[str, str], *artifacts: str) -> tuple[str, str]:
        manifest = json.loads((choosy_bundle / "manifest.json").read_text())
        bundle = shutil.copytree(choosy_bundle, tmp_path / "bundle", dirs_exist_ok=True)
        (bundle / "manifest.json").write_text(json.dumps({**manifest, "recommended": recommended}))
        with open_bundle(bundle) as opened:
            site = write_site(opened, tmp_path / "site", artifacts)
        assert json.loads((site.folder / "site.json").read_text())["default"] == site.default
        return site.default, site.default_because

    everything = {"cpu": "onnx-fp32", "phone": "lite-int8", "browser": "onnx-int8"}
    assert first(everything) == ("onnx-int8", "recommended for a browser")
    name, because = first(everything, "onnx-fp32")
    assert name == "onnx-fp32" and "onnx-int8, recommended for a browser, is not offered" in because
    assert first({"cpu": "onnx-int8"}) == ("onnx-int8", "recommended for a computer; none is for a browser")
    name, because = first({"cpu": "lite-int8"})
    assert name == "onnx-fp32" and "none is for a browser" in because


def test_a_bundle_that_shows_people_becomes_no_page(mobile_bundle: Path, tmp_path: Path) -> None:
    from edge_runtime.bundle import open_bundle
    from mobile_demo.web.site import write_site

    bundle = shutil.copytree(mobile_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"]["synthetic"] = False
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with open_bundle(bundle) as opened, pytest.raises(BundleError, match="radiographs of people"):
        write_site(opened, tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.fixture
def client(web_site: Path) -> FlaskClient:
    return create_app(scripted_bundle(), ScriptedPredictor().as_predictor(), WebConfig(mobile=web_site)).test_client()


def test_served_beside_the_clinics_page(client: FlaskClient, web_site: Path) -> None:
    assert client.get("/mobile").status_code == 308
    page = client.get("/mobile/")
    assert page.data == (web_site / "index.html").read_bytes()
    for name, value in HEADERS.items():
        assert page.headers[name] == value
    assert page.headers["Cache-Control"] == "no-cache"
    wasm = "/mobile/vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm"
    plain = client.get(wasm)
    assert plain.headers["Content-Type"] == "application/wasm"
    packed = client.get(wasm, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Content-Type"] == "application/wasm"
    assert len(packed.data) < len(plain.data) / 3
    # The clinic's page keeps its own, stricter policy.
    assert "wasm" not in client.get("/").headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["../manifest.json", "..%2f..%2fetc/passwd", "%2fetc/passwd", "none.js", ".gz"])
def test_nothing_beside_the_folder_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(f"/mobile/{path}", follow_redirects=True).status_code == 404


def test_another_folder_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    with pytest.raises(BundleError, match="is not a phone page"):
        create_app(scripted_bundle(), ScriptedPredictor().as_predictor(), WebConfig(mobile=tmp_path))

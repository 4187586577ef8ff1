"""Opening bundles: what is wrong is named, and nothing that was changed is opened."""

from __future__ import annotations

import json
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle import open_bundle
from edge_runtime.errors import BundleError
from edge_runtime.predictor import Predictor
from tests.edge_runtime.tiny_bundle import gradient


def test_every_file_of_a_whole_bundle_passes(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        bundle.check_files(bundle.manifest.all_files())


def _absent(path: Path) -> Path:
    return path.with_name("nothing")


def _without_manifest(path: Path) -> Path:
    (path / "manifest.json").unlink()
    return path


def _text_file(path: Path) -> Path:
    (path / "note.txt").write_text("hello")
    return path / "note.txt"


def _not_json(path: Path) -> Path:
    (path / "manifest.json").write_text("labels: normal")
    return path


def _change_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    def damage(path: Path) -> Path:
        manifest = json.loads((path / "manifest.json").read_text())
        change(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))
        return path

    return damage


def _path_out(manifest: dict[str, Any]) -> None:
    manifest["artifacts"][0]["files"][0]["path"] = "../outside.onnx"


def _wrong_classes(manifest: dict[str, Any]) -> None:
    manifest["labels"].append("other")


DAMAGES = {
    "absent": (_absent, "there is no bundle at"),
    "no manifest": (_without_manifest, "is not a bundle"),
    "a text file": (_text_file, "is not a bundle"),
    "not JSON": (_not_json, "is not a bundle manifest"),
    "another schema": (_change_manifest(lambda m: m.update(schema_version=2)), "another schema version"),
    "an unknown key": (_change_manifest(lambda m: m.update(colour="red")), "does not follow schema"),
    "a missing key": (_change_manifest(lambda m: m.pop("gate")), "does not follow schema"),
    "a path out of the bundle": (_change_manifest(_path_out), "leaves the bundle"),
    "labels that do not fit": (_change_manifest(_wrong_classes), "does not fit"),
    "an unknown recommendation": (
        _change_manifest(lambda m: m["recommended"].update(cpu="onnx-int4")),
        "is not in the bundle",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_what_is_no_bundle_is_refused_by_name(own_bundle: Path, case: str) -> None:
    damage, words = DAMAGES[case]
    path = damage(own_bundle)
    with pytest.raises(BundleError, match=words) as caught:
        open_bundle(path)
    assert caught.value.remedy


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_artifact_is_not_opened(own_bundle: Path, same_size: bool) -> None:
    path = own_bundle / "artifacts/onnx-fp32.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if same_size else content + b"x")
    with open_bundle(own_bundle) as bundle, pytest.raises(BundleError, match="changed"):
        Predictor.open(bundle)


def test_only_the_artifact_that_is_opened_is_checked(own_bundle: Path) -> None:
    (own_bundle / "golden/0001.png").unlink()
    with open_bundle(own_bundle) as bundle, Predictor.open(bundle) as predictor:
        assert predictor.predict(gradient()).label in bundle.manifest.labels


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_device_in_place_of_an_artifact_does_not_hang(own_bundle: Path) -> None:
    import os

    path = own_bundle / "artifacts/onnx-fp32.onnx"
    path.unlink()
    os.mkfifo(path)
    with open_bundle(own_bundle) as bundle, pytest.raises(BundleError, match="changed"):
        Predictor.open(bundle)


def _zip(bundle: Path, out: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                archive.write(path, prefix + path.relative_to(bundle).as_posix())
    return out


@pytest.mark.parametrize("prefix", ["", "tiny/"])
def test_a_zip_answers_as_its_folder_does(tiny_bundle: Path, tmp_path: Path, prefix: str) -> None:
    pixels = gradient(seed=3)
    with open_bundle(tiny_bundle) as bundle, Predictor.open(bundle) as predictor:
        wanted = predictor.predict(pixels)
    with open_bundle(_zip(tiny_bundle, tmp_path / "b.zip", prefix)) as bundle:
        root = bundle.root
        if sys.platform != "win32":
            assert stat.S_IMODE(root.stat().st_mode) == 0o700
        with Predictor.open(bundle) as predictor:
            assert predictor.predict(pixels).probabilities == wanted.probabilities
        assert not (root / "golden").exists(), "only what is asked for is unpacked"
        bundle.check_files(bundle.manifest.all_files())
    assert not root.exists()


def test_a_zip_bomb_stops_at_the_size_that_the_manifest_states(tiny_bundle: Path, tmp_path: Path) -> None:
    source = _zip(tiny_bundle, tmp_path / "b.zip")
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, b"\0" * 50_000_000 if name.endswith(".onnx") else old.read(name))
    with open_bundle(tmp_path / "bomb.zip") as bundle:
        with pytest.raises(BundleError, match="changed"):
            Predictor.open(bundle)
        written = sum(p.stat().st_size for p in bundle.root.rglob("*") if p.is_file())
        assert written < 100_000


def test_members_that_the_manifest_does_not_list_stay_in_the_zip(tiny_bundle: Path, tmp_path: Path) -> None:
    source = _zip(tiny_bundle, tmp_path / "b.zip")
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("../escaped.txt", "out")
        archive.writestr("/tmp/escaped-edge-runtime.txt", "out")
    with open_bundle(source) as bundle:
        bundle.check_files(bundle.manifest.all_files())
        found = {p.relative_to(bundle.root).as_posix() for p in bundle.root.rglob("*") if p.is_file()}
        assert found == {f.path for f in bundle.manifest.all_files()}
        assert not (bundle.root.parent / "escaped.txt").exists()


def test_a_damaged_zip_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    source = _zip(tiny_bundle, tmp_path / "b.zip")
    with zipfile.ZipFile(source) as archive:
        member = archive.getinfo("artifacts/onnx-fp32.onnx")
    content = bytearray(source.read_bytes())
    content[member.header_offset + 100] ^= 0xFF
    source.write_bytes(content)
    with open_bundle(source) as bundle, pytest.raises(BundleError, match="damaged"):
        Predictor.open(bundle)
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match="is not a bundle"):
        open_bundle(source)

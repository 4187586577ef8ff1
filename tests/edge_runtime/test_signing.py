"""Signing, packing, installing: a changed byte is found, nothing leaves its folder, a swap can be undone."""

from __future__ import annotations

import hashlib
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result

from edge_runtime.bundle import open_bundle, rewrite_manifest
from edge_runtime.bundle.installing import install_bundle, installed_bundles, roll_back
from edge_runtime.bundle.packing import UnpackLimits, pack_bundle, unpack_bundle
from edge_runtime.bundle.signing import load_public_key, sign_bundle, verify_bundle, write_key_pair
from edge_runtime.errors import BundleError

Run = Callable[..., Result]


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "trusted"
    monkeypatch.setenv("EDGE_RUNTIME_TRUSTED_KEYS", str(folder))
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    write_key_pair(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def signed(own_bundle: Path, key: Path) -> Path:
    with open_bundle(own_bundle) as bundle:
        sign_bundle(bundle, key)
    return own_bundle


def check(bundle_path: Path, key: Path) -> None:
    public = load_public_key(key.with_name(f"{key.name}.pub"))
    with open_bundle(bundle_path) as bundle:
        verify_bundle(bundle, {public.key_id: public})


def test_a_signed_bundle_verifies(signed: Path, key: Path) -> None:
    check(signed, key)


def test_every_changed_byte_of_the_manifest_is_found(signed: Path, key: Path) -> None:
    manifest = signed / "manifest.json"
    text = manifest.read_bytes()
    for position in range(0, len(text), 7):
        changed = bytearray(text)
        changed[position] ^= 1
        manifest.write_bytes(changed)
        with pytest.raises(BundleError):
            check(signed, key)
    manifest.write_bytes(text + b"\n")
    with pytest.raises(BundleError, match="changed after it was signed"):
        check(signed, key)


def test_a_changed_byte_of_any_other_file_is_found(signed: Path, key: Path) -> None:
    files = [p for p in signed.rglob("*") if p.is_file() and p.name != "manifest.json"]
    assert len(files) > 3
    for path in files:
        content = path.read_bytes()
        for position in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[position] ^= 0x80
            path.write_bytes(changed)
            with pytest.raises(BundleError, match="damaged or was changed"):
                check(signed, key)
        path.write_bytes(content)
    (signed / "artifacts" / "more.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="does not list"):
        check(signed, key)


def test_another_key_is_not_trusted(signed: Path, tmp_path: Path) -> None:
    write_key_pair(tmp_path / "other")
    with pytest.raises(BundleError, match="does not trust"):
        check(signed, tmp_path / "other")


def test_a_signature_does_not_fit_another_bundle(signed: Path, key: Path, tmp_path: Path) -> None:
    with open_bundle(signed) as bundle:
        signature = bundle.manifest.signature
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, name="renamed"))
        assert bundle.manifest.signature is None  # taken off, not carried along
        forged = msgspec.structs.replace(bundle.manifest, signature=signature)
        rewrite_manifest(bundle, forged)
    with pytest.raises(BundleError, match="changed after it was signed"):
        check(signed, key)


def test_keys_are_private_and_can_have_a_passphrase(own_bundle: Path, tmp_path: Path) -> None:
    write_key_pair(tmp_path / "locked", b"open sesame")
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "locked").stat().st_mode) == 0o600
    with open_bundle(own_bundle) as bundle:
        for wrong in (None, b"wrong"):
            with pytest.raises(BundleError):
                sign_bundle(bundle, tmp_path / "locked", wrong)
        sign_bundle(bundle, tmp_path / "locked", b"open sesame")
    check(own_bundle, tmp_path / "locked")
    with pytest.raises(BundleError, match="exists already"):
        write_key_pair(tmp_path / "locked")
    with pytest.raises(BundleError, match="holds no key"):
        load_public_key(tmp_path / "locked")


def test_a_device_can_open_signed_bundles_only(
    own_bundle: Path, chest_png: Path, key: Path, trusted: Path, run_command: Run
) -> None:
    assert run_command("predict", own_bundle, chest_png).exit_code == 0
    refused = run_command("bundle", "verify", own_bundle)
    assert refused.exit_code == 1
    assert "is not signed" in refused.stderr
    assert run_command("bundle", "trust", key.with_name("key.pub"), "--only-signed").exit_code == 0
    assert "is not signed" in run_command("predict", own_bundle, chest_png).stderr
    shutil.rmtree(trusted)
    run_command("bundle", "sign", own_bundle, "--key", key)
    assert "does not trust" in run_command("bundle", "pack", own_bundle, trusted, "--require-signature").stderr
    assert run_command("bundle", "trust", key.with_name("key.pub"), "--only-signed").exit_code == 0
    assert run_command("bundle", "verify", own_bundle).exit_code == 0
    assert run_command("predict", own_bundle, chest_png).exit_code == 0


def test_packing_is_deterministic_and_comes_back(signed: Path, key: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(signed, tmp_path / "another name"))
    digests = []
    for source, out in ((signed, tmp_path / "a.zip"), (elsewhere, tmp_path / "b.zip")):
        with open_bundle(source) as bundle:
            digests.append(pack_bundle(bundle, out))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert digests == [hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest()] * 2
    check(tmp_path / "a.zip", key)
    unpack_bundle(tmp_path / "a.zip", tmp_path / "out")
    check(tmp_path / "out", key)
    for path in signed.rglob("*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(signed)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "artifacts/../../evil", "C:\\evil", "golden/extra.png"])
def test_a_zip_with_a_file_of_its_own_is_refused(own_bundle: Path, tmp_path: Path, name: str) -> None:
    with open_bundle(own_bundle) as bundle:
        pack_bundle(bundle, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr(name, b"evil")
    with pytest.raises(BundleError, match="does not list"):
        unpack_bundle(tmp_path / "a.zip", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "own"]


def test_a_zip_that_inflates_is_stopped(own_bundle: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(own_bundle.rglob("*")):
            if path.is_file():
                name = path.relative_to(own_bundle).as_posix()
                archive.writestr(name, bytes(200_000_000) if name.endswith(".onnx") else path.read_bytes())
    assert bomb.stat().st_size < 1_000_000
    with pytest.raises(BundleError, match="more than"):
        unpack_bundle(bomb, tmp_path / "out")
    with pytest.raises(BundleError, match="larger than is allowed"):
        unpack_bundle(bomb, tmp_path / "out", UnpackLimits(max_files=3))
    with pytest.raises(BundleError, match="larger than is allowed"):
        unpack_bundle(bomb, tmp_path / "out", UnpackLimits(max_bytes=1000))
    assert not (tmp_path / "out").exists()


def test_installing_swaps_and_rolls_back(own_bundle: Path, tmp_path: Path, chest_png: Path, run_command: Run) -> None:
    place = tmp_path / "place"
    first = install_bundle(own_bundle, place)
    with open_bundle(own_bundle) as bundle:
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, name="newer"))
    assert run_command("bundle", "install", own_bundle, "--to", place).exit_code == 0
    with open_bundle(place) as bundle:
        assert bundle.manifest.name == "newer"
    assert run_command("predict", place, chest_png).exit_code == 0
    assert roll_back(place).folder == first.folder
    with open_bundle(place) as bundle:
        assert bundle.manifest.name == "tiny"
    with pytest.raises(BundleError, match="no earlier bundle"):
        roll_back(place)


def test_a_bundle_that_fails_its_selftest_is_not_made_current(own_bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    install_bundle(own_bundle, place)
    with open_bundle(own_bundle) as bundle:
        strict = tuple(
            msgspec.structs.replace(
                a, golden_agreement=msgspec.structs.replace(a.golden_agreement, differing_decisions=0)
            )
            for a in bundle.manifest.artifacts
        )
        vectors = bundle.root / bundle.manifest.golden.vectors.path
        text = vectors.read_text().replace('"probabilities":[', '"probabilities":[').replace("0.", "0.9", 1)
        vectors.write_text(text)
        from edge_runtime.bundle import file_entry

        golden = msgspec.structs.replace(
            bundle.manifest.golden, vectors=file_entry(bundle.root, bundle.manifest.golden.vectors.path)
        )
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, artifacts=strict, golden=golden, name="bad"))
    with pytest.raises(BundleError, match="does not pass its self-test"):
        install_bundle(own_bundle, place)
    assert [entry.name for entry in installed_bundles(place)] == ["tiny"]


def test_old_bundles_are_cleared_away(own_bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    for name in ("one", "two", "three", "four"):
        with open_bundle(own_bundle) as bundle:
            rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, name=name))
        install_bundle(own_bundle, place, keep=1, selftest=False)
    assert [entry.name for entry in installed_bundles(place)] == ["four", "three"]
    assert len([p for p in place.iterdir() if p.is_dir()]) == 2

"""Writing bundles: whole, or as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from edge_runtime.bundle import BundleWriter, open_bundle, rewrite_manifest
from edge_runtime.errors import BundleError
from edge_runtime.manifest import Manifest
from tests.edge_runtime.tiny_bundle import build_tiny_bundle


def _copy_into(source: Path, root: Path) -> Manifest:
    with open_bundle(source) as bundle:
        for entry in bundle.manifest.all_files():
            target = root / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((source / entry.path).read_bytes())
        return bundle.manifest


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_new_bundle_replaces_the_old_one_and_leaves_nothing_else(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    for name in ("first", "second"):
        build_tiny_bundle(out, name=name)
        assert open_bundle(out).manifest.name == name
        assert _names(tmp_path) == {"bundle"}


def test_an_error_on_the_way_leaves_the_old_bundle(own_bundle: Path) -> None:
    before = _names(own_bundle.parent)
    with pytest.raises(ZeroDivisionError), BundleWriter(own_bundle) as writer:
        (writer.root / "half").write_bytes(b"x")
        _ = 1 / 0
    assert _names(own_bundle.parent) == before
    with open_bundle(own_bundle) as bundle:
        bundle.check_files(bundle.manifest.all_files())


def test_leaving_without_a_commit_writes_nothing(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        (writer.root / "half").write_bytes(b"x")
    assert _names(tmp_path) == set()


@pytest.mark.parametrize("content", ["a file", "a folder"])
def test_what_is_no_bundle_is_not_overwritten(tmp_path: Path, content: str) -> None:
    out = tmp_path / "thesis"
    if content == "a file":
        out.write_text("years of work")
    else:
        out.mkdir()
        (out / "chapter.txt").write_text("years of work")
    with pytest.raises(BundleError, match="will not be overwritten"), BundleWriter(out):
        pass
    assert _names(tmp_path) == {"thesis"}


def test_a_file_that_does_not_fit_or_is_not_listed_stops_the_commit(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(BundleError, match="changed"), BundleWriter(out) as writer:
        manifest = _copy_into(tiny_bundle, writer.root)
        (writer.root / "golden/0001.png").write_bytes(b"other")
        writer.commit(manifest)
    with pytest.raises(BundleError, match="does not list every file") as caught, BundleWriter(out) as writer:
        manifest = _copy_into(tiny_bundle, writer.root)
        (writer.root / "stray.txt").write_text("x")
        writer.commit(manifest)
    assert caught.value.got == "stray.txt"
    assert not out.exists()


def test_two_writers_to_one_place_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with BundleWriter(out), pytest.raises(BundleError, match="another process is writing"), BundleWriter(out):
        pass


def _write_and_die(source: Path, out: Path, between_the_renames: bool) -> None:
    with BundleWriter(out) as writer:
        manifest = _copy_into(source, writer.root)
        if between_the_renames:
            Path.rename = _die_on_second(Path.rename)  # type: ignore[assignment, method-assign]
            writer.commit(manifest)
        os.kill(os.getpid(), signal.SIGKILL)


def _die_on_second(rename):  # type: ignore[no-untyped-def]
    calls = []

    def dying(self, target):  # type: ignore[no-untyped-def]
        calls.append(target)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    return dying


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("between_the_renames", [False, True])
def test_the_next_writer_cleans_up_after_a_killed_one(own_bundle: Path, between_the_renames: bool) -> None:
    before = _names(own_bundle.parent)
    process = multiprocessing.get_context("spawn").Process(
        target=_write_and_die, args=(own_bundle, own_bundle, between_the_renames)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert _names(own_bundle.parent) != before
    with BundleWriter(own_bundle):
        pass
    assert _names(own_bundle.parent) == before
    with open_bundle(own_bundle) as bundle:
        bundle.check_files(bundle.manifest.all_files())


def test_the_manifest_is_replaced_whole(own_bundle: Path) -> None:
    with open_bundle(own_bundle) as bundle:
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, name="renamed"))
        assert bundle.manifest.name == "renamed"
        with pytest.raises(BundleError):
            rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, recommended={"cpu": "no-such"}))
    assert open_bundle(own_bundle).manifest.name == "renamed"
    assert not [p for p in own_bundle.iterdir() if p.name.startswith(".")]

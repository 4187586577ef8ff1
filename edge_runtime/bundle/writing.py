"""Writing a bundle: into a temporary neighbour, swapped in when it is whole, the old one kept until then."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from msgspec import structs

from edge_runtime.bundle.files import check_file
from edge_runtime.bundle.opening import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST_NAME, Manifest, encode_manifest, parse_manifest

__all__ = ["BundleWriter", "rewrite_manifest"]


class BundleWriter:
    """Writes a bundle folder all or nothing.

    Inside the ``with`` block the files go into :attr:`root`, a temporary folder beside ``out``;
    :meth:`commit` swaps it in. Leaving the block without a commit, or by an error, removes it and leaves
    ``out`` as it was. What a killed build left behind is cleaned up, or put back, by the next writer to the
    same place.

    Raises
    ------
    BundleError
        ``out`` is a file, a non-empty folder that is no bundle, or another process is writing it right now.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link that names the bundle
        self.root = self.out.with_name(f".{self.out.name}.building")
        self._old = self.out.with_name(f".{self.out.name}.old")
        self._lock_path = self.out.with_name(f".{self.out.name}.lock")
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> BundleWriter:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self._lock_path, self.out)
        except OSError as error:
            raise BundleError(
                f"the bundle {self.out} cannot be written", got=error.strerror or str(error),
                remedy="choose a folder that you can write to",
            ) from error  # fmt: skip
        try:
            self._clean_up_after_a_killed_build()
            self._check_out()
            self.root.mkdir()
        except BaseException:
            self._unlock()
            raise
        return self

    def commit(self, manifest: Manifest) -> None:
        """Write the manifest, check every file against it, and swap the new bundle in.

        Raises
        ------
        BundleError
            The manifest is not consistent, a file differs from what it says, or a file is in no section of
            it.
        """
        text = encode_manifest(manifest)
        parse_manifest(text, MANIFEST_NAME)
        listed = {entry.path for entry in manifest.all_files()}
        for entry in manifest.all_files():
            check_file(self.root / entry.path, entry, self.out)
        files = [p for p in sorted(self.root.rglob("*")) if not p.is_dir()]
        unlisted = [p.relative_to(self.root).as_posix() for p in files]
        unlisted = [name for name in unlisted if name not in listed]
        if unlisted:
            raise BundleError(
                f"the manifest of {self.out} does not list every file", got=", ".join(unlisted),
                expected="each file in artifacts, golden or reports", remedy="add it or leave it out",
            )  # fmt: skip
        (self.root / MANIFEST_NAME).write_bytes(text)
        for path in (*files, self.root / MANIFEST_NAME):
            _sync(path)
        for folder in {p.parent for p in files} | {self.root}:
            _sync(folder)
        self._swap()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            shutil.rmtree(self.root, ignore_errors=True)
            shutil.rmtree(self._old, ignore_errors=True)  # there if the commit was stopped after the new one was in
        finally:
            self._unlock()

    def _swap(self) -> None:
        try:
            if self.out.exists():
                self.out.rename(self._old)
            self.root.rename(self.out)
        except BaseException:  # a signal can come between the two
            if self._old.exists() and not self.out.exists():
                self._old.rename(self.out)
            raise
        _sync(self.out.parent)
        shutil.rmtree(self._old, ignore_errors=True)

    def _clean_up_after_a_killed_build(self) -> None:
        # the lock is ours, so nobody else is at work here
        if self._old.exists() and not self.out.exists():
            self._old.rename(self.out)
        for leftover in (self.root, self._old):
            if leftover.exists():
                shutil.rmtree(leftover)

    def _check_out(self) -> None:
        if not self.out.exists():
            return
        if not self.out.is_dir():
            found = "a file"
        elif any(self.out.iterdir()) and not (self.out / MANIFEST_NAME).is_file():
            found = f"a folder with other things in it and no {MANIFEST_NAME}"
        else:
            return
        raise BundleError(
            f"{self.out} is not a bundle and will not be overwritten", got=found,
            expected="a new path, an empty folder, or a bundle to replace", remedy="choose another --out",
        )  # fmt: skip

    def _unlock(self) -> None:
        if self._lock is None:
            return
        if sys.platform == "win32":  # an open file cannot be removed there
            self._lock.close()
            self._lock_path.unlink(missing_ok=True)
        else:
            self._lock_path.unlink(missing_ok=True)
            self._lock.close()
        self._lock = None


def rewrite_manifest(bundle: Bundle, manifest: Manifest) -> None:
    """Replace a bundle folder's manifest atomically and let ``bundle`` carry the new one.

    A signature that ``bundle`` had does not fit another manifest and is taken off it: sign the bundle anew.

    Raises
    ------
    BundleError
        The bundle is a zip, or the manifest is not consistent.
    """
    if bundle.is_zip:
        raise BundleError(
            f"{bundle.source} is a zip and is not changed in place", remedy="unpack it and give the folder"
        )
    if manifest.signature is not None and manifest.signature == bundle.manifest.signature:
        manifest = structs.replace(manifest, signature=None)
    text = encode_manifest(manifest)
    parse_manifest(text, MANIFEST_NAME)
    target = bundle.root / MANIFEST_NAME
    temporary = target.with_name(f".{MANIFEST_NAME}.{os.getpid()}")
    try:
        temporary.write_bytes(text)
        _sync(temporary)
        temporary.replace(target)
    except OSError as error:
        raise BundleError(
            f"the manifest of {bundle.source} cannot be written", got=error.strerror or str(error),
            remedy="check the folder's permissions and the disk",
        ) from error  # fmt: skip
    finally:
        temporary.unlink(missing_ok=True)
    _sync(bundle.root)
    bundle.manifest = manifest
    bundle.manifest_text = text


def _lock(path: Path, out: Path) -> IO[bytes]:
    stream = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its last holder may have removed it between our open and our lock
            if path.stat().st_ino != os.fstat(stream.fileno()).st_ino:
                raise BlockingIOError  # noqa: TRY301 - the same answer as a refused lock
    except (BlockingIOError, PermissionError, FileNotFoundError):
        stream.close()
        raise BundleError(
            f"another process is writing the bundle {out}",
            remedy="wait for it to end, or choose another --out",
        ) from None
    return stream


def _sync(path: Path) -> None:
    """Have the file or folder on disk before going on. Folders cannot be synced on Windows: left to it
    there.
    """
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        with suppress(OSError):  # some network file systems do not know fsync
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

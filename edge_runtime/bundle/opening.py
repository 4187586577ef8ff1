"""Opening a bundle: a folder or a zip of one, manifest first, other files only when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edge_runtime.bundle.files import GET_AGAIN, check_file, unreadable
from edge_runtime.bundle.trust import device_requires_signature
from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST_NAME, Artifact, FileEntry, Manifest, parse_manifest

if TYPE_CHECKING:
    from edge_runtime.bundle.archive import Archive

__all__ = ["INSTALLED_NAME", "Bundle", "open_bundle"]

INSTALLED_NAME = "installed.json"
"""Marks a folder that bundles are installed to."""
_MANIFEST_LIMIT = 4 * 1024 * 1024


class Bundle:
    """An opened bundle. Use it as a context manager, or call :meth:`close`.

    Attributes
    ----------
    source
        The path it was opened from: a folder or a zip.
    root
        The folder that holds its files. Of a zip this is a private temporary folder (mode 0700), filled
        file by file as they are asked for and removed on close: ask for files through :meth:`path`.
    manifest
        The parsed, checked manifest.
    manifest_text
        The manifest's bytes as they were read; None where the bundle is being built.
    """

    def __init__(
        self,
        source: Path,
        root: Path,
        manifest: Manifest,
        archive: Archive | None = None,
        resources: ExitStack | None = None,
        manifest_text: bytes | None = None,
    ) -> None:
        self.source = source
        self.root = root
        self.manifest = manifest
        self.manifest_text = manifest_text
        self._archive = archive
        self._resources = resources or ExitStack()
        self._checked: set[FileEntry] = set()
        self._checking = threading.Lock()

    @property
    def is_zip(self) -> bool:
        """Whether the bundle came as a zip: such a bundle is read-only."""
        return self._archive is not None

    def check_files(self, entries: Iterable[FileEntry]) -> None:
        """Check size and SHA-256 of files, each once in the life of this object; low memory.

        Raises
        ------
        BundleError
            A file is absent, not a plain file, of another size, or its content is not what the manifest says.
        """
        with self._checking:
            for entry in entries:
                if entry in self._checked:
                    continue
                path = self.root / entry.path
                if self._archive is not None:
                    self._archive.extract(entry.path, path, limit=entry.bytes)
                check_file(path, entry, self.source)
                self._checked.add(entry)

    def path(self, entry: FileEntry) -> Path:
        """Return the path of one file of the manifest, checked."""
        self.check_files([entry])
        return self.root / entry.path

    def artifact_path(self, artifact: Artifact) -> Path:
        """Return the path of the file that a backend opens, every file of the artifact checked."""
        self.check_files(artifact.files)
        return self.root / artifact.files[0].path

    def file_names(self) -> list[str]:
        """Return the path inside the bundle of every file that it holds, listed in the manifest or not."""
        if self._archive is not None:
            return self._archive.names()
        files = (p for p in self.root.rglob("*") if not p.is_dir() or p.is_symlink())
        return [p.relative_to(self.root).as_posix() for p in files]

    def close(self) -> None:
        """Remove what a zip was unpacked to. A second call does nothing."""
        self._resources.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_bundle(path: str | Path, *, require_signature: bool = False) -> Bundle:
    """Open a bundle folder, or a zip of one, or a place that bundles are installed to, and parse its manifest.

    No artifact is read yet: :meth:`Bundle.artifact_path` checks the one that is wanted.

    Parameters
    ----------
    require_signature
        Open only what a trusted key has signed; where the device asks for that (see
        :mod:`edge_runtime.bundle.trust`), False changes nothing.

    Raises
    ------
    BundleError
        Nothing there, neither a folder nor a zip, no manifest, or a manifest that does not follow the schema;
        not signed by a trusted key where that is required.
    """
    bundle = _open(Path(path))
    try:
        if require_signature or device_requires_signature():
            from edge_runtime.bundle.signing import check_signature
            from edge_runtime.bundle.trust import trusted_keys

            check_signature(bundle, trusted_keys())
    except BaseException:
        bundle.close()
        raise
    return bundle


def _open(source: Path) -> Bundle:
    if (source / INSTALLED_NAME).is_file():
        from edge_runtime.bundle.installing import current_bundle

        return _open_folder(current_bundle(source))
    if source.is_dir():
        return _open_folder(source)
    if source.exists():
        return _open_zip(source)
    raise BundleError(
        f"there is no bundle at {source}", got="nothing there", expected="a bundle folder or a zip of one",
        remedy="check the path; `python -m export build` makes a bundle",
    )  # fmt: skip


def _open_folder(source: Path) -> Bundle:
    manifest_path = source / MANIFEST_NAME
    try:
        with manifest_path.open("rb") as stream:
            text = stream.read(_MANIFEST_LIMIT + 1)
    except FileNotFoundError:
        raise BundleError(
            f"{source} is not a bundle", got=f"a folder without {MANIFEST_NAME}",
            expected=f"a folder, or a zip of one, with {MANIFEST_NAME}",
            remedy="give the folder that `python -m export build --out` wrote",
        ) from None  # fmt: skip
    except OSError as error:
        raise unreadable(manifest_path, error) from error
    return Bundle(source, source, _parse(text, str(manifest_path)), manifest_text=text)


def _open_zip(source: Path) -> Bundle:
    import tempfile

    from edge_runtime.bundle.archive import Archive

    with ExitStack() as resources:
        archive = Archive(source)
        resources.callback(archive.close)
        text = archive.read(MANIFEST_NAME, _MANIFEST_LIMIT + 1)
        manifest = _parse(text, f"{MANIFEST_NAME} of {source}")
        # mkdtemp makes the folder with mode 0700
        root = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="edge-runtime-")))
        return Bundle(source, root, manifest, archive, resources.pop_all(), manifest_text=text)


def _parse(text: bytes, where: str) -> Manifest:
    if len(text) > _MANIFEST_LIMIT:
        raise BundleError(
            f"{where} is too large",
            got=f"over {_MANIFEST_LIMIT} bytes",
            expected="some kilobytes",
            remedy=GET_AGAIN,
        )
    return parse_manifest(text, where)

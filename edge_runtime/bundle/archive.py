"""A bundle's zip: members are unpacked one by one, and only those that the manifest lists."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from edge_runtime.bundle.files import damaged, missing, unreadable
from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST_NAME

__all__ = ["Archive"]

_CHUNK = 1024 * 1024
# RuntimeError: an encrypted member; zlib.error and EOFError come through from a damaged stream
_FAULTS = (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError)


class Archive:
    """A zip of a bundle folder, packed with the folder's name (``bundle/manifest.json``) or without.

    No path of the archive is trusted: the caller names the member and the file it goes to.

    Raises
    ------
    BundleError
        Not a zip, or a zip without exactly one manifest.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        try:
            self._zip = zipfile.ZipFile(source)
        except OSError as error:
            raise unreadable(source, error) from error
        except _FAULTS:
            raise _not_a_bundle(source, "a file that is not a zip") from None
        manifests = [n for n in self._zip.namelist() if PurePosixPath(n).name == MANIFEST_NAME and n.count("/") <= 1]
        if len(manifests) != 1:
            self._zip.close()
            found = f"no {MANIFEST_NAME}" if not manifests else f"several: {', '.join(sorted(manifests))}"
            raise _not_a_bundle(source, f"a zip with {found}")
        self._prefix = manifests[0].removesuffix(MANIFEST_NAME)

    def names(self) -> list[str]:
        """Return the names of all members that are no folders; those beside the bundle's folder in full."""
        return [name.removeprefix(self._prefix) for name in self._zip.namelist() if not name.endswith("/")]

    def read(self, relative: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes of one member."""
        try:
            with self._zip.open(self._prefix + relative) as stream:
                return stream.read(limit)
        except _FAULTS as error:
            raise damaged(self._source, relative, str(error)) from error

    def extract(self, relative: str, target: Path, limit: int) -> None:
        """Unpack one member to ``target``, never writing more than ``limit`` bytes whatever the archive
        claims.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        left = limit
        try:
            with self._zip.open(self._prefix + relative) as stream, target.open("wb") as out:
                while chunk := stream.read(min(_CHUNK, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise damaged(self._source, relative, f"more than {limit} bytes")
                    out.write(chunk)
        except KeyError:
            raise missing(self._source, relative) from None
        except _FAULTS as error:
            raise damaged(self._source, relative, str(error)) from error

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()


def _not_a_bundle(source: Path, got: str) -> BundleError:
    return BundleError(
        f"{source} is not a bundle", got=got, expected=f"a folder, or a zip of one, with {MANIFEST_NAME}",
        remedy="give the folder that `python -m export build --out` wrote",
    )  # fmt: skip

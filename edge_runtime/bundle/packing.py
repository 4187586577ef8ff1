"""A bundle as one zip and back: the same bundle gives the same bytes; unpacking stays in its folder and its limits."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle.opening import Bundle, open_bundle
from edge_runtime.bundle.signing import check_nothing_unlisted, verify_bundle
from edge_runtime.bundle.writing import BundleWriter
from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST_NAME, encode_manifest

__all__ = ["DEFAULT_LIMITS", "UnpackLimits", "copy_bundle", "pack_bundle", "unpack_bundle"]

_CHUNK = 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


@dataclass(frozen=True)
class UnpackLimits:
    """What a zip may hold before anything of it is written: bytes in all once unpacked, and files."""

    max_bytes: int = 2 * 2**30
    max_files: int = 10_000


DEFAULT_LIMITS = UnpackLimits()


def pack_bundle(bundle: Bundle, out: Path) -> str:
    """Check a bundle and write it as a zip, all or nothing; return the zip's SHA-256.

    The zip depends on the bundle's content alone: names sorted, one date, files stored, not deflated (versions of
    zlib differ, and weights hardly shrink).

    Raises
    ------
    BundleError
        A file is missing, was changed or is not listed; ``out`` cannot be written.
    """
    verify_bundle(bundle, None)
    text = bundle.manifest_text or encode_manifest(bundle.manifest)
    entries = sorted(bundle.manifest.all_files(), key=lambda entry: entry.path)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_member(MANIFEST_NAME, len(text)), text)
            for entry in entries:
                with (
                    bundle.path(entry).open("rb") as stream,
                    archive.open(_member(entry.path, entry.bytes), "w") as target,
                ):
                    while chunk := stream.read(_CHUNK):
                        target.write(chunk)
        with temporary.open("rb+") as stream:
            digest = hashlib.sha256()
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
            os.fsync(stream.fileno())
        temporary.replace(out)
    except OSError as error:
        raise BundleError(
            f"{out} cannot be written", got=error.strerror or str(error),
            remedy="choose a place that you can write to, and check the disk's free space",
        ) from error  # fmt: skip
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def unpack_bundle(
    source: Path, out: Path, limits: UnpackLimits = DEFAULT_LIMITS, *, require_signature: bool = False
) -> None:
    """Unpack a zip of a bundle to a folder, all or nothing.

    Only what the manifest lists is unpacked, to the paths that the manifest gives, each file never beyond the size that
    the manifest gives; then every hash is checked.

    Raises
    ------
    BundleError
        Over a limit, damaged, with files that the manifest does not list, or not signed where that is required.
    """
    _check_size(source, limits)
    with open_bundle(source, require_signature=require_signature) as bundle:
        copy_bundle(bundle, out, limits)


def copy_bundle(bundle: Bundle, out: Path, limits: UnpackLimits = DEFAULT_LIMITS) -> None:
    """Write a checked copy of an opened bundle, of a folder or a zip, to a folder, all or nothing."""
    entries = bundle.manifest.all_files()
    total = sum(entry.bytes for entry in entries)
    if total > limits.max_bytes or len(entries) > limits.max_files:
        raise _too_large(bundle.source, f"{total} bytes in {len(entries)} files", limits)
    check_nothing_unlisted(bundle)
    with BundleWriter(out) as writer:
        for entry in entries:
            target = writer.root / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with bundle.path(entry).open("rb") as stream, target.open("wb") as copy:
                    while chunk := stream.read(_CHUNK):
                        copy.write(chunk)
            except OSError as error:
                raise BundleError(
                    f"{out} cannot be written", got=error.strerror or str(error),
                    remedy="check the disk's free space and the permissions",
                ) from error  # fmt: skip
        writer.commit(bundle.manifest)


def _check_size(source: Path, limits: UnpackLimits) -> None:
    try:
        size = source.stat().st_size
        if size > limits.max_bytes:  # before the list of members is read into memory
            raise _too_large(source, f"a zip of {size} bytes", limits)
        if source.is_file() and zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                count = len(archive.infolist())
            if count > limits.max_files:
                raise _too_large(source, f"{count} files", limits)
    except (OSError, zipfile.BadZipFile):
        return  # opening it says what is wrong


def _too_large(source: Path, got: str, limits: UnpackLimits) -> BundleError:
    return BundleError(
        f"bundle {source} is larger than is allowed", got=got,
        expected=f"at most {limits.max_bytes} bytes in {limits.max_files} files",
        remedy="if it is right: `--max-bytes`",
    )  # fmt: skip


def _member(name: str, size: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.create_system = 3  # Unix, wherever it is packed
    member.external_attr = 0o100644 << 16
    member.compress_type = zipfile.ZIP_STORED
    member.file_size = size
    return member

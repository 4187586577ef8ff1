"""Backup of a site while it is in use, and restore into an empty place."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from edge_runtime.records.database import DATABASE_NAME, RecordsError, make_private_folder
from edge_runtime.records.on_disk import sync_folder, write_new
from edge_runtime.records.sealed import MAGIC, SealedReader, SealedWriter
from edge_runtime.records.store import Records

__all__ = ["BackupCount", "back_up", "is_encrypted", "restore"]

_TOP = "site"
_COPY = ".backup-"
_LEFT_BEHIND_SECONDS = 3600
_PIECE = 1 << 20


@dataclass(frozen=True)
class BackupCount:
    """Studies in the backup, and files of theirs that were not there."""

    studies: int
    missing: int


def back_up(
    records: Records,
    out: Path,
    *,
    actor: str,
    passphrase: str | None = None,
    on_study: Callable[[int], None] | None = None,
) -> BackupCount:
    """Write the whole site into one tar file (mode 0600), whole or not at all. Holds patient data.

    The database is copied first and is consistent in itself; a study that is deleted while its files are copied
    stands in the backup without them. Files of studies outside the site's folder are not in it.

    Parameters
    ----------
    passphrase
        Encrypts the file (:mod:`edge_runtime.records.sealed`); nothing of it is ever on ``out``'s disk in the clear.

    Raises
    ------
    RecordsError
        ``out`` exists or cannot be written.
    UsageError
        The passphrase is shorter than 12 characters.
    """
    if out.exists():
        raise RecordsError(f"{out} exists already", remedy="name a file that does not exist")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with write_new(temporary) as stream:
            if passphrase is None:
                count = _write(records, stream, actor, False, on_study)
            else:
                sealed = SealedWriter(stream, passphrase)
                count = _write(records, sealed, actor, True, on_study)
                sealed.finish()
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(out)
        sync_folder(out.absolute().parent)
    except OSError as error:
        raise RecordsError(
            f"the backup {out} cannot be written", got=error.strerror or str(error),
            remedy="check the disk's free space and the permissions",
        ) from error  # fmt: skip
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(
    records: Records,
    stream: IO[bytes] | SealedWriter,
    actor: str,
    encrypted: bool,
    on_study: Callable[[int], None] | None,
) -> BackupCount:
    records.log("backup", actor=actor, details={"encrypted": encrypted})  # before: the backup's own log tells of it
    studies = missing = 0
    for left_behind in records.site.glob(f"{_COPY}*"):  # by a backup that was killed
        with suppress(OSError):
            if left_behind.stat().st_mtime < time.time() - _LEFT_BEHIND_SECONDS:
                shutil.rmtree(left_behind)
    with tempfile.TemporaryDirectory(prefix=_COPY, dir=records.site) as folder:
        copy = Path(folder) / DATABASE_NAME
        records.database.copy_to(copy)
        keys = _keys(copy)
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(copy, f"{_TOP}/{DATABASE_NAME}", filter=_anonymous)
            for key in keys:
                source = records.files.folder(key)
                try:
                    archive.add(source, f"{_TOP}/studies/{key[:2]}/{key}", filter=_anonymous)
                except FileNotFoundError:
                    missing += 1
                studies += 1
                if on_study is not None:
                    on_study(studies)
    return BackupCount(studies, missing)


def is_encrypted(source: Path) -> bool:
    """Tell whether a backup needs a passphrase."""
    with source.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def restore(source: Path, site: Path, *, actor: str, passphrase: str | None = None) -> BackupCount:
    """Unpack a backup to ``site``, check it and only then put it in place.

    Parameters
    ----------
    passphrase
        Of an encrypted backup.

    Raises
    ------
    RecordsError
        ``site`` is not empty; the file is no backup, is damaged, its audit log does not hold, or the passphrase is
        wrong or missing.
    """
    if site.exists() and any(site.iterdir()):
        raise RecordsError(
            f"{site} is not empty", expected="a new or an empty folder",
            remedy="restore beside it, look at it, and then swap the two",
        )  # fmt: skip
    temporary = site.with_name(f".{site.name}.restoring")
    shutil.rmtree(temporary, ignore_errors=True)
    make_private_folder(temporary)
    try:
        with source.open("rb") as stream:
            if not is_encrypted(source):
                _unpack(source, stream, temporary)
            elif passphrase is None:
                raise RecordsError(f"the backup {source} is encrypted", remedy="give its passphrase")
            else:
                sealed = SealedReader(stream, passphrase)
                _unpack(source, sealed, temporary)
                while sealed.read(_PIECE):  # what follows the archive's end must be whole as well
                    pass
        if not (temporary / DATABASE_NAME).is_file():
            raise RecordsError(f"{source} is no backup of a site", got=f"no {_TOP}/{DATABASE_NAME} in it")
        with Records(temporary) as records:
            problems = [*records.database.check_integrity(), *records.verify_audit().problems]
            if problems:
                raise RecordsError(
                    f"the backup {source} is damaged or was changed", got=problems[0], remedy="take an older backup"
                )
            keys = _keys(temporary / DATABASE_NAME)
            missing = sum(not records.files.folder(key).is_dir() for key in keys)
            records.log("restored", actor=actor, details={"studies": len(keys), "missing": missing})
        if site.exists():
            site.rmdir()
        temporary.rename(site)
    except (OSError, tarfile.TarError) as error:
        raise RecordsError(
            f"the backup {source} cannot be restored to {site}", got=str(error),
            remedy="check that the file is whole, the disk's free space and the permissions",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return BackupCount(len(keys), missing)


def _unpack(source: Path, stream: IO[bytes] | SealedReader, target: Path) -> None:
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if not parts or parts[0] != _TOP or ".." in parts or "\\" in member.name or ":" in member.name:
                raise RecordsError(f"{source} is no backup of a site", got=f"a member named {member.name}")
            path = target.joinpath(*parts[1:])
            if member.isdir():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif member.isfile():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                with content, write_new(path) as out:
                    shutil.copyfileobj(content, out, _PIECE)
                    out.flush()
                    os.fsync(out.fileno())
            else:
                raise RecordsError(f"{source} is no backup of a site", got=f"{member.name} is a link or a device")


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _keys(database: Path) -> list[str]:
    import sqlite3

    connection = sqlite3.connect(database)
    try:
        return [row[0] for row in connection.execute("SELECT key FROM studies ORDER BY key")]
    finally:
        connection.close()

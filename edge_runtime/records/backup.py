"""Backup of a site while it is in use, and restore into an empty place."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_runtime.records.database import DATABASE_NAME, RecordsError, make_private_folder
from edge_runtime.records.store import Records

__all__ = ["BackupCount", "back_up", "restore"]

_TOP = "site"


@dataclass(frozen=True)
class BackupCount:
    """Studies in the backup, and files of theirs that were not there."""

    studies: int
    missing: int


def back_up(records: Records, out: Path, *, actor: str, on_study: Callable[[int], None] | None = None) -> BackupCount:
    """Write the whole site into one tar file (mode 0600), whole or not at all. Holds patient data.

    The database is copied first and is consistent in itself; a study that is deleted while its files are copied
    stands in the backup without them.

    Raises
    ------
    RecordsError
        ``out`` exists or cannot be written.
    """
    if out.exists():
        raise RecordsError(f"{out} exists already", remedy="name a file that does not exist")
    records.log("backup", actor=actor)  # before: so that the backup's own log tells of it
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    studies = missing = 0
    try:
        with tempfile.TemporaryDirectory(prefix="edge-runtime-", dir=out.parent) as folder:
            copy = Path(folder) / DATABASE_NAME
            records.database.copy_to(copy)
            keys = _keys(copy)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
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
                stream.flush()
                os.fsync(stream.fileno())
        temporary.rename(out)
    except OSError as error:
        raise RecordsError(
            f"the backup {out} cannot be written", got=error.strerror or str(error),
            remedy="check the disk's free space and the permissions",
        ) from error  # fmt: skip
    finally:
        temporary.unlink(missing_ok=True)
    return BackupCount(studies, missing)


def restore(source: Path, site: Path, *, actor: str) -> BackupCount:
    """Unpack a backup to ``site``, check it, and only then put it in place.

    Raises
    ------
    RecordsError
        ``site`` is not empty; the file is no backup, is damaged, or its audit log does not hold.
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
        _unpack(source, temporary)
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


def _unpack(source: Path, target: Path) -> None:
    with tarfile.open(source, "r:") as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts
            if not parts or parts[0] != _TOP or ".." in parts or "\\" in member.name or ":" in member.name:
                raise RecordsError(f"{source} is no backup of a site", got=f"a member named {member.name}")
            path = target.joinpath(*parts[1:])
            if member.isdir():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif member.isfile():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                stream = archive.extractfile(member)
                assert stream is not None
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
                with stream, os.fdopen(descriptor, "wb") as out:
                    shutil.copyfileobj(stream, out, 1 << 20)
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

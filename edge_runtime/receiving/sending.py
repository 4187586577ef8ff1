"""Results to a configured peer by C-STORE: kept in a folder until the peer has acknowledged them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.receiving.peer import Peer
from edge_runtime.records.database import make_private_folder, utc_now
from edge_runtime.records.on_disk import copy_file, sync_folder, write_file

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["ResultSender"]

_SUCCESS: Final = (0x0000, 0xB000, 0xB006, 0xB007)  # success, or stored with a warning (PS3.4 B.2.3)
_OUT_OF_RESOURCES: Final = range(0xA700, 0xA800)
_AT_ONCE: Final = 50
"""So many objects go over one association; then another is opened."""


class ResultSender:
    """Sends what lies in ``outgoing``; what the peer does not take stays there and is tried again later.

    While the peer is away, or is out of resources, everything waits. An object that the peer refuses is tried a few
    times, after the others, and is then set aside in ``outgoing/rejected`` with a text file that says why; one that
    cannot be read is set aside at once. Moved back to ``outgoing`` it is tried again.

    Parameters
    ----------
    folder
        Survives restarts; made where it is absent.
    retry_seconds
        Between two attempts while the peer is away, or on what it refused.
    attempts
        So often a refused object is tried.
    on_trouble
        Told in a sentence what went wrong.
    """

    def __init__(
        self,
        peer: Peer,
        own_title: str,
        folder: Path,
        retry_seconds: float = 60.0,
        attempts: int = 5,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._peer = peer
        self._own_title = own_title
        self._folder = folder
        self._rejected = folder / "rejected"
        self._retry_seconds = retry_seconds
        self._attempts = attempts
        self._on_trouble = on_trouble
        self._refusals: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._away = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        make_private_folder(folder)
        make_private_folder(self._rejected)
        self._thread = threading.Thread(target=self._run, name="result-sender", daemon=True)

    def places(self, result: Path) -> list[Path]:
        """Return where copies of a result can come to lie."""
        aside = self._rejected / result.name
        return [self._folder / result.name, aside, _reason_file(aside)]

    def queue(self, path: Path) -> None:
        """Take a copy of a result to send, on disk when this returns."""
        copy_file(path, self._folder / path.name)
        self._forget(path.name)
        self._wake.set()

    def send_waiting(self) -> int:
        """Try everything that waits once, also what comes meanwhile; return how much is left to try again."""
        tried: set[Path] = set()
        self._away = False
        while not (self._stop.is_set() or self._away):
            now = monotonic()
            due = (path for path in self._waiting() if self._not_before.get(path.name, 0.0) <= now)
            waiting = [path for path in due if path not in tried][:_AT_ONCE]
            if not waiting:
                break
            tried.update(waiting)
            self._send(waiting)
        return len(self._waiting())

    def _waiting(self) -> list[Path]:
        paths = (p for p in self._folder.glob("*.dcm") if not p.name.startswith("."))
        return sorted(paths, key=lambda path: (self._refusals.get(path.name, 0), path.name))

    def _send(self, paths: list[Path]) -> None:
        from pynetdicom import AE

        objects = [(path, data_set) for path in paths if (data_set := self._read(path)) is not None]
        if not objects:
            return
        entity = AE(ae_title=self._own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        for pair in {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for _, d in objects}:
            entity.add_requested_context(*pair)
        association = entity.associate(self._peer.host, self._peer.port, ae_title=self._peer.title)
        if not association.is_established:
            self._away = True
            self._on_trouble(f"{self._peer.title} at {self._peer.host}:{self._peer.port} does not answer or refuses")
            return
        try:
            for path, data_set in objects:
                if self._stop.is_set() or self._away:
                    return
                self._send_one(association, path, data_set)
        finally:
            association.release()

    def _send_one(self, association: Any, path: Path, data_set: Dataset) -> None:
        try:
            answer = association.send_c_store(data_set)
        except Exception as error:  # no presentation context for it, or an object that cannot be encoded
            if association.is_established:
                self._refused(path, f"{type(error).__name__}: {error}")
            else:
                self._away = True
            return
        if "Status" not in answer:  # the association broke: the peer went away, or cannot stand this object
            self._away = True
            self._refused(path, "no answer")
        elif answer.Status in _SUCCESS:
            path.unlink(missing_ok=True)
            self._forget(path.name)
        elif answer.Status in _OUT_OF_RESOURCES:
            self._away = True
            self._on_trouble(f"{self._peer.title} is out of resources (0x{answer.Status:04X}): the results wait")
        else:
            self._refused(path, f"status 0x{answer.Status:04X}")

    def _read(self, path: Path) -> Dataset | None:
        from pydicom import dcmread

        try:
            data_set = dcmread(path)
            if data_set.SOPClassUID and data_set.SOPInstanceUID and data_set.file_meta.TransferSyntaxUID:
                return data_set
            self._set_aside(path, "it lacks a UID")
        except FileNotFoundError:  # deleted with its study
            return None
        except OSError as error:
            self._on_trouble(f"{path.name} cannot be read now: {error.strerror or error}")
        except Exception as error:  # cut off, empty, damaged: it would be so at every attempt
            self._set_aside(path, f"it is no readable DICOM file ({type(error).__name__})")
        return None

    def _refused(self, path: Path, why: str) -> None:
        count = self._refusals[path.name] = self._refusals.get(path.name, 0) + 1
        self._not_before[path.name] = monotonic() + self._retry_seconds
        if count >= self._attempts:
            self._set_aside(path, f"{self._peer.title} did not take it {count} times; the last time: {why}")
        else:
            self._on_trouble(f"{self._peer.title} does not take {path.name}: {why}")

    def _set_aside(self, path: Path, why: str) -> None:
        target = self._rejected / path.name
        write_file(
            _reason_file(target), f"{utc_now()} {why}.\nTo try again, move it back to {self._folder}.\n".encode()
        )
        with suppress(FileNotFoundError):
            path.replace(target)
        sync_folder(self._rejected)
        self._forget(path.name)
        self._on_trouble(f"{path.name} is set aside in {self._rejected}: {why}")

    def _forget(self, name: str) -> None:
        self._refusals.pop(name, None)
        self._not_before.pop(name, None)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                left = self.send_waiting()
            except Exception as error:  # the network's and the peer's whims must not end the thread
                self._on_trouble(f"{self._peer.title}: {type(error).__name__}: {error}")
                left, self._away = 1, True
            if self._away:
                self._stop.wait(self._retry_seconds)
            else:
                self._wake.wait(self._retry_seconds if left else None)

    def __enter__(self) -> ResultSender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(35)


def _reason_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.txt")

"""Results to a configured peer by C-STORE: kept in a folder until the peer has acknowledged them."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_runtime.receiving.peer import Peer
from edge_runtime.records.database import make_private_folder

__all__ = ["ResultSender"]

_SUCCESS: Final = (0x0000, 0xB000, 0xB006, 0xB007)  # success, or stored with a warning (PS3.4 B.2.3)


class ResultSender:
    """Sends what lies in ``outgoing``; what the peer does not take stays there and is tried again later.

    Parameters
    ----------
    folder
        Survives restarts; made where it is absent.
    retry_seconds
        Between two attempts while the peer is away.
    on_trouble
        Told in a sentence what went wrong.
    """

    def __init__(
        self,
        peer: Peer,
        own_title: str,
        folder: Path,
        retry_seconds: float = 60.0,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._peer = peer
        self._own_title = own_title
        self._folder = folder
        self._retry_seconds = retry_seconds
        self._on_trouble = on_trouble
        self._wake = threading.Event()
        self._stop = threading.Event()
        make_private_folder(folder)
        self._thread = threading.Thread(target=self._run, name="result-sender", daemon=True)

    def queue(self, path: Path) -> None:
        """Take a copy of a result to send."""
        target = self._folder / path.name
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(path, temporary)
        temporary.chmod(0o600)
        temporary.replace(target)
        self._wake.set()

    def send_waiting(self) -> int:
        """Send what waits over one association; return how much is left."""
        from pydicom import dcmread
        from pynetdicom import AE

        waiting = sorted(p for p in self._folder.glob("*.dcm") if not p.name.startswith("."))
        if not waiting:
            return 0
        entity = AE(ae_title=self._own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        objects = [(path, dcmread(path)) for path in waiting[:50]]
        for _, data_set in objects:
            syntax = data_set.file_meta.TransferSyntaxUID
            contexts = [(c.abstract_syntax, c.transfer_syntax) for c in entity.requested_contexts]
            if (data_set.SOPClassUID, [syntax]) not in contexts:
                entity.add_requested_context(data_set.SOPClassUID, syntax)
        association = entity.associate(self._peer.host, self._peer.port, ae_title=self._peer.title)
        if not association.is_established:
            self._on_trouble(f"{self._peer.title} at {self._peer.host}:{self._peer.port} does not answer or refuses")
            return len(waiting)
        try:
            for path, data_set in objects:
                try:
                    status = association.send_c_store(data_set)
                except (RuntimeError, ValueError) as error:
                    self._on_trouble(f"{self._peer.title} does not take {path.name}: {error}")
                    continue
                if "Status" in status and status.Status in _SUCCESS:
                    path.unlink()
                else:
                    word = f"0x{status.Status:04X}" if "Status" in status else "no answer"
                    self._on_trouble(f"{self._peer.title} does not take {path.name}: {word}")
        finally:
            association.release()
        return len([p for p in self._folder.glob("*.dcm") if not p.name.startswith(".")])

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                left = self.send_waiting()
            except Exception as error:  # the network's and the peer's whims must not end the thread
                self._on_trouble(f"{self._peer.title}: {type(error).__name__}: {error}")
                left = 1
            if left:
                self._stop.wait(self._retry_seconds)
            else:
                self._wake.wait()

    def __enter__(self) -> ResultSender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(35)

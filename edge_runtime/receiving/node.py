"""The storage SCP: C-ECHO and C-STORE from known titles, every object on disk before it is acknowledged."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.intake import Intake
from edge_runtime.reading.limits import DEFAULT_LIMITS
from edge_runtime.receiving.peer import check_title
from edge_runtime.records.database import make_private_folder
from edge_runtime.records.on_disk import sync_file

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["STORED_CLASSES", "NodeError", "NodeSettings", "StorageNode"]

STORED_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography Image Storage
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image Storage - For Presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray Image Storage - For Processing
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
)
_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202",  # High-Throughput JPEG 2000 RPCL Lossless
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
)
"""What the reader decodes."""
_SUCCESS: Final = 0x0000
_OUT_OF_RESOURCES: Final = 0xA700
_CANNOT_UNDERSTAND: Final = 0xC000


class NodeError(EdgeRuntimeError):
    """The node cannot be started."""


@dataclass(frozen=True)
class NodeSettings:
    """How the node is reached, and by whom.

    Attributes
    ----------
    allowed
        Calling titles that may come in; None: any. A title is a name, not a proof: whoever can reach the port can
        claim it. Keep the port within the clinic's own network.
    max_object_bytes
        An association that sends a larger object is aborted.
    min_free_bytes
        Below this much free disk objects are refused ("out of resources"): the sender keeps them and tries again.
    """

    title: str = "EDGE_RUNTIME"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed: tuple[str, ...] | None = ()
    max_associations: int = 8
    network_seconds: float = 60.0
    max_object_bytes: int = DEFAULT_LIMITS.max_file_bytes
    min_free_bytes: int = 256 * 2**20


class StorageNode:
    """A running node. A context manager: listening inside the block.

    Parameters
    ----------
    on_object
        Called with each object's path in the intake's ``working`` folder, once it is safe there; must return soon.
    on_refused
        Told in a sentence of what was turned away.
    """

    def __init__(
        self,
        settings: NodeSettings,
        intake: Intake,
        on_object: Callable[[Path], None],
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._on_object = on_object
        self._on_refused = on_refused
        self._incoming = intake.out / "incoming"
        self._received: dict[Any, int] = {}
        self._server: Any = None

    def __enter__(self) -> StorageNode:
        try:
            from pynetdicom import AE, _config, dimse_messages, evt
        except ImportError as error:
            raise NodeError(
                "the DICOM node needs pynetdicom", got=str(error), remedy='pip install "cxr-edge-runtime[node]"'
            ) from error
        settings = self._settings
        shutil.rmtree(self._incoming, ignore_errors=True)  # what was not acknowledged will be sent again
        make_private_folder(self._incoming)
        _config.STORE_RECV_CHUNKED_DATASET = True  # to disk as it comes, not to memory
        # where pynetdicom streams to: private, and our file system. Its own name for the function is set, for the whole
        # process's folder for temporary files (tempfile.tempdir) is that of the decoders' sockets too
        self._streams_to = dimse_messages.NamedTemporaryFile
        setattr(dimse_messages, "NamedTemporaryFile", partial(self._streams_to, dir=str(self._incoming)))  # noqa: B010
        entity = AE(ae_title=check_title(settings.title))
        entity.require_called_aet = True
        # pynetdicom takes an empty list for "anybody": a title that nobody can guess lets nobody in
        if settings.allowed is not None:
            entity.require_calling_aet = [check_title(t) for t in settings.allowed] or [secrets.token_hex(8)]
        entity.maximum_associations = settings.max_associations
        entity.network_timeout = settings.network_seconds
        entity.acse_timeout = entity.dimse_timeout = 30
        entity.add_supported_context("1.2.840.10008.1.1")  # Verification
        for storage_class in STORED_CLASSES:
            entity.add_supported_context(storage_class, list(_SYNTAXES))
        handlers = [
            (evt.EVT_C_ECHO, lambda _: _SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_DATA_RECV, self._count),
            (evt.EVT_CONN_CLOSE, lambda event: self._received.pop(event.assoc, None)),
            (evt.EVT_REJECTED, self._rejected),
        ]
        try:
            self._server = entity.start_server((settings.host, settings.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise NodeError(
                f"the DICOM node cannot listen on {settings.host}:{settings.port}",
                got=error.strerror or str(error),
                remedy="choose another --port (below 1024 needs rights), or end the program that has it",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from pynetdicom import dimse_messages

        self._server.shutdown()
        setattr(dimse_messages, "NamedTemporaryFile", self._streams_to)  # noqa: B010
        shutil.rmtree(self._incoming, ignore_errors=True)

    @property
    def port(self) -> int:
        """The port it listens on; of settings with port 0 the one that was free."""
        return int(self._server.socket.getsockname()[1])

    def _store(self, event: Any) -> int:
        self._received[event.assoc] = 0
        sender = event.assoc.requestor.ae_title
        if shutil.disk_usage(self._intake.out).free < self._settings.min_free_bytes:
            self._on_refused(f"an object of {sender}: the disk is nearly full")
            return _OUT_OF_RESOURCES
        try:
            path = Path(event.dataset_path)
            sync_file(path)
            taken = self._intake.take(path)
        except OSError as error:
            self._on_refused(f"an object of {sender} could not be written: {error.strerror or error}")
            return _OUT_OF_RESOURCES
        except AttributeError:
            self._on_refused(f"an object of {sender} came without data")
            return _CANNOT_UNDERSTAND
        self._on_object(taken)
        return _SUCCESS

    def _count(self, event: Any) -> None:
        received = self._received.get(event.assoc, 0) + len(event.data)
        self._received[event.assoc] = received
        if received > self._settings.max_object_bytes:
            self._on_refused(f"an object of {event.assoc.requestor.ae_title}: larger than is allowed")
            event.assoc.abort(block=False)

    def _rejected(self, event: Any) -> None:
        self._on_refused(f"an association of {event.assoc.requestor.ae_title}: its title or ours is not known")

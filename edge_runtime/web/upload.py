"""Uploads stream to a private file that is removed when the request ends, whatever happened in between."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Any

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from edge_runtime.web.language import gettext
from edge_runtime.web.station import current_station

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["FORM_FIELD", "UploadRequest", "display_name", "received_file"]

FORM_FIELD = "file"
LONGEST_NAME = 160


class UploadRequest(Request):
    """A request whose file parts go straight to disk, not to memory, and never outlive it."""

    def __init__(self, environ: WSGIEnvironment, populate_request: bool = True, shallow: bool = False) -> None:
        super().__init__(environ, populate_request, shallow)
        self._uploads: list[tuple[IO[bytes], Path]] = []

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - werkzeug's signature
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002 - the sender's name never becomes a path
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        """Open the file that takes the next file part. Called by werkzeug's form parser."""
        stream = NamedTemporaryFile(dir=current_station().uploads, delete=False)  # noqa: SIM115 - see close()
        # Written down at once: the parser may fail before it hands the part over.
        self._uploads.append((stream, Path(stream.name)))
        return stream

    def close(self) -> None:
        """Close and remove every uploaded file. Flask calls this at the end of each request."""
        super().close()
        while self._uploads:
            stream, path = self._uploads.pop()
            stream.close()
            path.unlink(missing_ok=True)


def received_file(files: Any, max_bytes: int) -> tuple[Path, str]:
    """Return path and display name of the one uploaded file of a form.

    Parameters
    ----------
    files
        ``request.files``.
    max_bytes
        Largest file that is taken.

    Raises
    ------
    BadRequest
        No file, more than one, or an empty name with no content.
    RequestEntityTooLarge
        The file is larger than ``max_bytes``.
    """
    found: list[FileStorage] = files.getlist(FORM_FIELD)
    if not found:
        raise BadRequest(gettext("The form has no file in the field '%(field)s'.", field=FORM_FIELD))
    if len(found) > 1:
        message = gettext(
            "The form has %(n)s files in the field '%(field)s'; send one at a time.", n=len(found), field=FORM_FIELD
        )
        raise BadRequest(message)
    stream = found[0].stream
    path = Path(stream.name)  # the file that UploadRequest opened
    stream.close()  # flushed, and on Windows free to be opened by its path
    if path.stat().st_size > max_bytes:
        raise RequestEntityTooLarge
    return path, display_name(found[0].filename)


def display_name(given: str | None) -> str:
    """Return a name that is safe to show: no folders, no control characters, not long.

    It is shown and written into the answer; it never becomes part of a path.
    """
    name = re.split(r"[/\\]", given or "")[-1]
    name = "".join(c for c in name if c.isprintable()).strip()
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME // 2] + "…" + name[-LONGEST_NAME // 2 + 1 :]
    return name or "radiograph"

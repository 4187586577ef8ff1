"""What a site may set about the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOOPBACK_NAMES", "WebConfig"]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class WebConfig:
    """Limits and addresses of the page.

    Attributes
    ----------
    max_upload_bytes
        Largest file that is taken; a larger one is answered 413.
    waiting_places
        How many uploads may wait while one is with the model; the next is answered 503 with Retry-After.
    wait_seconds
        How long an upload waits for its turn before it is answered 503.
    display_edge
        Longest side in pixels of the image that goes back to the browser.
    trusted_hosts
        Host names the page answers to; others get 400. This is what stops a web site elsewhere from reaching
        the page through a host name of its own that resolves to this machine (DNS rebinding). None: any name.
    upload_folder
        Where uploads rest while they are read: a private folder is made inside it. None: the system's
        temporary folder.
    idle_minutes
        A page without use for so long is locked.
    session_hours
        A login ends after this.
    encrypted
        The page is served over TLS: cookies are marked Secure, and browsers are told to keep to it.
    setup_code
        What the first administrator has to show; it stands on the terminal.
    keep_originals
        The records keep the file as it came, beside the pixels that were judged.
    mobile
        Folder of the phone's page, served at ``/mobile/``; None: there is none.
    """

    max_upload_bytes: int = 64 * 1024 * 1024
    waiting_places: int = 8
    wait_seconds: float = 30.0
    display_edge: int = 1024
    trusted_hosts: tuple[str, ...] | None = LOOPBACK_NAMES
    upload_folder: Path | None = None
    idle_minutes: float = 15.0
    session_hours: float = 12.0
    encrypted: bool = False
    setup_code: str | None = None
    keep_originals: bool = True
    mobile: Path | None = None

"""A DICOM application entity elsewhere: title, host, port."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_runtime.errors import UsageError

__all__ = ["Peer", "check_title"]

_PEER = re.compile(r"^(?P<title>[^@]+)@(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@\s]+):(?P<port>\d{1,5})$")


@dataclass(frozen=True)
class Peer:
    """Where results are sent to."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Parse ``TITLE@host:port``.

        Raises
        ------
        UsageError
            It is none.
        """
        found = _PEER.match(text)
        if found is None or not 1 <= int(found["port"]) <= 65535:
            raise UsageError(f"{text} is no DICOM peer", expected="TITLE@host:port, such as PACS@192.168.1.10:104")
        return cls(check_title(found["title"]), found["host"].strip("[]"), int(found["port"]))


def check_title(title: str) -> str:
    """Return an application entity title (PS3.5 6.2, VR AE) without the spaces around it.

    Raises
    ------
    UsageError
        Empty, longer than 16 characters, or with a backslash or control characters.
    """
    plain = title.strip()
    if not plain or len(plain) > 16 or "\\" in plain or not plain.isascii() or not plain.isprintable():
        raise UsageError(f"{title!r} is no application entity title", expected="1 to 16 ASCII characters, no backslash")
    return plain

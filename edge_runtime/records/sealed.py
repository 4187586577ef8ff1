"""A file that only a passphrase opens: for backups that leave the machine.

Layout: ``CXRSEAL1``, log2 N, r, p (a byte each), 16 bytes of salt; then pieces of 1 MiB, each AES-256-GCM with its tag
of 16 bytes, the last one shorter or as long. The key is scrypt's of the passphrase and the salt, so each file has its
own. The nonce is the piece's number (11 bytes, big-endian) and 1 for the last piece, else 0: pieces that were changed,
swapped, left out or cut off do not open (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizar, 2015). The
header is authenticated with every piece.
"""

from __future__ import annotations

import os
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edge_runtime.errors import UsageError
from edge_runtime.records.database import RecordsError

__all__ = ["MAGIC", "MIN_PASSPHRASE", "SealedReader", "SealedWriter"]

MAGIC: Final = b"CXRSEAL1"
MIN_PASSPHRASE: Final = 12
"""Characters."""
_COST: Final = (17, 8, 1)  # log2 N, r, p: 128 MiB of memory
_SALT: Final = 16
_HEADER: Final = len(MAGIC) + len(_COST) + _SALT
_PIECE: Final = 1 << 20
_TAG: Final = 16


class SealedWriter:
    """Seals what is written to it; :meth:`finish` writes the last piece, without which the file does not open.

    Raises
    ------
    UsageError
        The passphrase is shorter than 12 characters.
    """

    def __init__(self, stream: IO[bytes], passphrase: str) -> None:
        if len(passphrase) < MIN_PASSPHRASE:
            raise UsageError("the passphrase is too short", expected=f"at least {MIN_PASSPHRASE} characters")
        self._stream = stream
        self._header = MAGIC + bytes(_COST) + os.urandom(_SALT)
        self._cipher = _cipher(passphrase, self._header)
        self._held = bytearray()
        self._number = 0
        stream.write(self._header)

    def write(self, content: bytes) -> int:
        """Seal more; returns how many bytes were taken: all."""
        self._held += content
        while len(self._held) > _PIECE:  # the last piece may be a full one, and is not known yet
            self._seal(bytes(self._held[:_PIECE]), last=False)
            del self._held[:_PIECE]
        return len(content)

    def finish(self) -> None:
        """Seal what is left, as the last piece."""
        self._seal(bytes(self._held), last=True)
        self._held.clear()

    def _seal(self, piece: bytes, *, last: bool) -> None:
        self._stream.write(self._cipher.encrypt(_nonce(self._number, last), piece, self._header))
        self._number += 1


class SealedReader:
    """Reads a sealed file from its beginning to its end.

    Raises
    ------
    RecordsError
        Here and from :meth:`read`: the passphrase is wrong, or the file was changed or cut off.
    """

    def __init__(self, stream: IO[bytes], passphrase: str) -> None:
        self._stream = stream
        self._header = stream.read(_HEADER)
        if len(self._header) < _HEADER or self._header[: len(MAGIC)] != MAGIC:
            raise RecordsError("the file is no encrypted backup")
        if self._header[len(MAGIC) : -_SALT] != bytes(_COST):
            raise RecordsError("the backup is encrypted in a way that this runtime does not know")
        self._cipher = _cipher(passphrase, self._header)
        self._next = stream.read(_PIECE + _TAG)
        self._number = 0
        self._opened = bytearray()
        self._open()  # a wrong passphrase is told at once

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, fewer only at the end."""
        while self._next and (size < 0 or len(self._opened) < size):
            self._open()
        taken = bytes(self._opened if size < 0 else self._opened[:size])
        del self._opened[: len(taken)]
        return taken

    def _open(self) -> None:
        piece, self._next = self._next, self._stream.read(_PIECE + _TAG)
        try:
            self._opened += self._cipher.decrypt(_nonce(self._number, not self._next), piece, self._header)
        except InvalidTag:
            what = (
                "the passphrase is wrong, or the backup was changed" if self._number == 0 else "the backup was changed"
            )
            raise RecordsError(
                f"{what} or cut off", remedy="try the passphrase again; else take another backup"
            ) from None
        self._number += 1


def _cipher(passphrase: str, header: bytes) -> AESGCM:
    log2_n, r, p = _COST
    return AESGCM(Scrypt(salt=header[-_SALT:], length=32, n=2**log2_n, r=r, p=p).derive(passphrase.encode()))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])

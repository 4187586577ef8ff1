"""Signatures: Ed25519 (RFC 8032) over the manifest, which holds the hash of every other file.

What is signed is the manifest as :func:`encode_manifest` writes it, the signature's own value left empty, behind a
prefix that keeps the signature from meaning anything else. A signed manifest file must be exactly these bytes: a
changed byte anywhere, white space included, is found.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import structs

from edge_runtime.bundle.files import GET_AGAIN
from edge_runtime.errors import BundleError
from edge_runtime.manifest import MANIFEST_NAME, Manifest, Signature, encode_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from edge_runtime.bundle.opening import Bundle

__all__ = [
    "PublicKey",
    "check_signature",
    "load_public_key",
    "sign_bundle",
    "verify_bundle",
    "write_key_pair",
]

_PREFIX: Final = b"cxr-edge-runtime bundle manifest\n"
_KEY_LIMIT: Final = 64 * 1024


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: its id (first 16 digits of the SHA-256 of its 32 bytes) and its PEM form."""

    key_id: str
    pem: bytes
    key: Ed25519PublicKey


def write_key_pair(path: Path, passphrase: bytes | None = None) -> PublicKey:
    """Make a key pair: the private key to ``path`` (PEM, PKCS#8, mode 0600), the public one to ``path.pub``.

    Parameters
    ----------
    passphrase
        Encrypts the private key; None leaves it open to whoever can read the file.

    Raises
    ------
    BundleError
        One of the files exists already.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(f"{path.name}.pub")
    for existing in (path, public_path):
        if existing.exists():
            raise BundleError(f"{existing} exists already", remedy="name another file: a lost key cannot be had again")
    private = Ed25519PrivateKey.generate()
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(pem)
    public = _public(private.public_key())
    public_path.write_bytes(public.pem)
    return public


def sign_bundle(bundle: Bundle, key_path: Path, passphrase: bytes | None = None) -> Signature:
    """Check every file of a bundle folder, then sign its manifest; replaces an earlier signature.

    Raises
    ------
    BundleError
        A file is missing, was changed or is not listed; the bundle is a zip; the key cannot be used.
    """
    from edge_runtime.bundle.writing import rewrite_manifest

    private = _load_private_key(key_path, passphrase)
    bundle.check_files(bundle.manifest.all_files())
    check_nothing_unlisted(bundle)
    signature = Signature(
        algorithm="ed25519",
        key_id=_public(private.public_key()).key_id,
        signed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        value="",
    )
    value = private.sign(_signed_bytes(bundle.manifest, signature)).hex()
    signature = structs.replace(signature, value=value)
    if signature != bundle.manifest.signature:  # the same key within the same second gives the same signature
        rewrite_manifest(bundle, structs.replace(bundle.manifest, signature=signature))
    return signature


def check_signature(bundle: Bundle, keys: Mapping[str, PublicKey]) -> Signature:
    """Check that one of ``keys`` has signed the manifest. Files are checked against it when they are used.

    Raises
    ------
    BundleError
        Not signed, signed by a key that is not among ``keys``, or changed after it was signed.
    """
    from cryptography.exceptions import InvalidSignature

    manifest, source = bundle.manifest, bundle.source
    signature = manifest.signature
    if signature is None:
        raise BundleError(
            f"bundle {source} is not signed", expected="a signature by a key that this device trusts",
            remedy="ask for a signed bundle, or sign it: `edge-runtime bundle sign`",
        )  # fmt: skip
    key = keys.get(signature.key_id)
    if key is None:
        raise BundleError(
            f"bundle {source} is signed by a key that this device does not trust", got=f"key {signature.key_id}",
            expected=", ".join(keys) or "a trusted key, and there is none",
            remedy="if you know that key: `edge-runtime bundle trust KEY.pub`",
        )  # fmt: skip
    changed = BundleError(
        f"{MANIFEST_NAME} of bundle {source} was changed after it was signed",
        got=f"a signature of key {signature.key_id} that does not fit",
        remedy=GET_AGAIN,
    )
    if bundle.manifest_text != encode_manifest(manifest):
        raise changed
    try:
        key.key.verify(bytes.fromhex(signature.value), _signed_bytes(manifest, structs.replace(signature, value="")))
    except InvalidSignature:
        raise changed from None
    return signature


def verify_bundle(bundle: Bundle, keys: Mapping[str, PublicKey] | None) -> None:
    """Check everything: the signature (``keys`` None leaves it out), every file, and that there is no other.

    Raises
    ------
    BundleError
        What is wrong first.
    """
    if keys is not None:
        check_signature(bundle, keys)
    bundle.check_files(bundle.manifest.all_files())
    check_nothing_unlisted(bundle)


def check_nothing_unlisted(bundle: Bundle) -> None:
    """Check that a bundle holds no file but those that its manifest lists.

    Raises
    ------
    BundleError
        There is one.
    """
    listed = {MANIFEST_NAME, *(entry.path for entry in bundle.manifest.all_files())}
    unlisted = sorted(set(bundle.file_names()) - listed)
    if unlisted:
        raise BundleError(
            f"bundle {bundle.source} holds files that its manifest does not list", got=", ".join(unlisted[:5]),
            remedy="remove them, or get the bundle again from where it was built",
        )  # fmt: skip


def load_public_key(path: Path) -> PublicKey:
    """Load an Ed25519 public key from a PEM file.

    Raises
    ------
    BundleError
        The file cannot be read or holds something else.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read_key(path))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "an Ed25519 public key in PEM form")
    return _public(key)


def _load_private_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read_key(path), passphrase)
    except TypeError:  # a passphrase is missing, or was given for a key without one
        wanted = "no passphrase" if passphrase else "its passphrase"
        raise BundleError(f"the key {path} cannot be opened", expected=wanted) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "an Ed25519 private key in PEM form, and its passphrase if it has one")
    return key


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_KEY_LIMIT)
    except OSError as error:
        raise BundleError(f"the key {path} cannot be read", got=error.strerror or str(error)) from error


def _no_key(path: Path, expected: str) -> BundleError:
    return BundleError(
        f"{path} holds no key that can be used", expected=expected, remedy="`edge-runtime bundle keygen` makes a pair"
    )


def _public(key: Ed25519PublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PublicKey(hashlib.sha256(raw).hexdigest()[:16], pem, key)


def _signed_bytes(manifest: Manifest, signature: Signature) -> bytes:
    return _PREFIX + encode_manifest(structs.replace(manifest, signature=signature))

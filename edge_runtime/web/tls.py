"""A site's own certificate: a local authority that phones are told to trust once, and a server's certificate by it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cheroot.ssl.builtin import BuiltinSSLAdapter

from edge_runtime.errors import EdgeRuntimeError

__all__ = ["PatientTlsAdapter", "TlsFiles", "days_left", "init_tls"]

AUTHORITY_DAYS = 3650
SERVER_DAYS = 820
"""Apple's devices take no server certificate above 825 days (support.apple.com/103769)."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the server's certificate (with its chain) and its key; ``authority`` is what devices install."""

    certificate: Path
    key: Path
    authority: Path | None = None

    @classmethod
    def of_site(cls, site: Path) -> TlsFiles:
        """Name the files that ``edge-runtime tls init`` makes."""
        folder = site / "tls"
        return cls(folder / "server.crt", folder / "server.key", folder / "authority.crt")

    @property
    def there(self) -> bool:
        """True where certificate and key exist."""
        return self.certificate.is_file() and self.key.is_file()


class PatientTlsAdapter(BuiltinSSLAdapter):
    """TLS 1.2 and up; the handshake is left to the worker that serves the connection.

    Cheroot's own shakes hands in the thread that accepts connections, where one silent client holds up all.
    """

    def __init__(self, files: TlsFiles) -> None:
        import ssl

        try:
            super().__init__(str(files.certificate), str(files.key))
        except (OSError, ssl.SSLError) as error:
            raise EdgeRuntimeError(
                f"the certificate {files.certificate} cannot be used", got=str(error),
                remedy="make one with `edge-runtime tls init`, or check --tls-certificate and --tls-key",
            ) from error  # fmt: skip
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def wrap(self, sock: Any) -> tuple[Any, dict[str, str]]:
        """Wrap an accepted socket."""
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


def init_tls(site: Path, names: tuple[str, ...]) -> TlsFiles:
    """Make (or renew) a server certificate for host names and addresses, by the site's own authority.

    The authority is made at the first call and kept, so that devices which trust it go on doing so. Keys are ECDSA
    P-256, files of keys mode 0600.

    Raises
    ------
    EdgeRuntimeError
        The folder cannot be written.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    files = TlsFiles.of_site(site)
    assert files.authority is not None
    authority_key_file = files.authority.with_suffix(".key")
    now = datetime.now(timezone.utc)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])

    def start(subject: x509.Name, issuer: x509.Name, key: Any, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )  # fmt: skip

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip

    try:
        files.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if files.authority.is_file() and authority_key_file.is_file():
            authority_key: Any = serialization.load_pem_private_key(authority_key_file.read_bytes(), None)
            authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        else:
            authority_key = ec.generate_private_key(ec.SECP256R1())
            subject = name(f"edge-runtime {names[0]}")
            authority = (
                start(subject, subject, authority_key.public_key(), AUTHORITY_DAYS)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage(signs_certificates=True), critical=True)
                .sign(authority_key, hashes.SHA256())
            )
            _write(authority_key_file, _pem_key(authority_key), 0o600)
            _write(files.authority, authority.public_bytes(serialization.Encoding.PEM), 0o644)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            start(name(names[0]), authority.subject, key.public_key(), SERVER_DAYS)
            .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        _write(files.key, _pem_key(key), 0o600)
        _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise EdgeRuntimeError(
            f"the certificates cannot be written to {files.certificate.parent}", got=error.strerror or str(error),
            remedy="choose a --site that you can write to",
        ) from error  # fmt: skip
    return files


def days_left(files: TlsFiles) -> int:
    """Return for how many more days the server's certificate holds; negative once it has run out."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return (certificate.not_valid_after_utc - datetime.now(timezone.utc)).days


def _general_name(text: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))


def _write(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)

"""The certificate: its owner's files, or a fresh self-signed one for a phone in the room."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from streaming.addresses import own_addresses
from streaming.settings import ServerSettings

_VALID = datetime.timedelta(days=30)


def ssl_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The TLS side of the server, None for plain HTTP.

    Raises:
        ValueError: the certificate or the key can't be used; the message names the files.
    """
    if settings.tls_self_signed:
        with tempfile.TemporaryDirectory(prefix="livegloss-tls-") as folder:
            cert, key = _self_signed(Path(folder), settings.host)
            return _load(str(cert), str(key))
    if settings.tls_cert and settings.tls_key:
        return _load(settings.tls_cert, settings.tls_key)
    return None


def _load(cert: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"can't use the certificate {cert} with the key {key}: {error}") from error
    return context


def _self_signed(folder: Path, host: str) -> tuple[Path, Path]:
    """Write cert.pem and key.pem for this machine's names into `folder`, readable by us alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "livegloss (self-signed)")])
    now = datetime.datetime.now(datetime.UTC)
    names = dict.fromkeys(_names(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path


def _names(host: str) -> Iterator[x509.GeneralName]:
    """What this machine may be called by those who open the page, listening at `host`."""
    yield x509.DNSName("localhost")
    yield x509.DNSName(socket.gethostname())
    yield x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        yield x509.DNSName(host)
        return
    if address.is_unspecified:
        yield from map(x509.IPAddress, own_addresses(address.version))
    else:
        yield x509.IPAddress(address)

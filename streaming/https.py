"""The certificate: its owner's files, or a fresh self-signed one for a phone in the room."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote, urlsplit

import ifaddr
import segno
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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


# MERGED from streaming.addresses: This machine's addresses, as others in the room reach it: for
# certificate and invitation.

Address = IPv4Address | IPv6Address

# Addresses kept for documentation (RFC 5737, RFC 3849): on the far side of every default route.
_AFAR = {4: (socket.AF_INET, "198.51.100.1"), 6: (socket.AF_INET6, "2001:db8::1")}


def own_addresses(version: int) -> list[Address]:
    """Addresses of IP `version` (4 or 6) that others in the room can open, the likeliest first.

    That is the one of the default route. Loopback is left out, and so are link-local addresses:
    a browser takes none that needs the name of an interface.
    """
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    found = [ipaddress.ip_address(ip if isinstance(ip, str) else ip[0]) for ip in ips]
    usable = [ip for ip in found if ip.version == version and not ip.is_loopback | ip.is_link_local]
    first = _of_default_route(version)
    return sorted(dict.fromkeys(usable), key=lambda ip: ip != first)


def _of_default_route(version: int) -> Address | None:
    family, afar = _AFAR[version]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((afar, 9))  # picks a route; a datagram socket sends nothing here
        except OSError:
            return None
        return ipaddress.ip_address(probe.getsockname()[0])


# MERGED from streaming.invitation: How a phone in the room finds the page: its address, and that
# as a QR code on the terminal.

_QUIET = 4  # modules of white around the code: the standard's
# Black on white whatever the terminal's colours are: many readers take no inverted code.
_ON, _OFF = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_HALVES = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}  # (upper, lower module)


def invitation(url: str, settings: ServerSettings) -> str | None:
    """What to print for people with a phone; None where a phone can't use the page.

    `url` is the server's own. A phone needs HTTPS for its camera, and an address that it can reach.
    """
    address = room_url(url, settings) if settings.tls_self_signed else None
    if address is None:
        return None
    return (
        f"\nFor a phone in the same network: {address}\n\n{drawn(address)}\n"
        "The phone will warn that it does not know the certificate, which this computer has just "
        "made:\npress Advanced, then Proceed (on an iPhone: Show Details, then visit this website)."
        "\n"
    )


def room_url(url: str, settings: ServerSettings) -> str | None:
    """The page's address for others in the room, with the token when one is asked for.

    None where only this machine can open it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        listens = ipaddress.ip_address(settings.host)
    except ValueError:  # a name: the URL has the address that it stands for
        listens = ipaddress.ip_address(host)
    if listens.is_loopback:
        return None
    if listens.is_unspecified:
        reachable = own_addresses(listens.version)
        if not reachable:
            return None
        host = str(reachable[0])
    place = f"[{host}]:{parts.port}" if ":" in host else f"{host}:{parts.port}"
    secret = f"#token={quote(settings.token, safe='')}" if settings.token else ""
    return f"{parts.scheme}://{place}/{secret}"


def drawn(text: str) -> str:
    """`text` as a QR code of half blocks, two rows of modules a line, for a terminal."""
    rows = [tuple(row) for row in segno.make_qr(text).matrix_iter(border=_QUIET)]
    white = (0,) * len(rows)
    lines = zip_longest(rows[::2], rows[1::2], fillvalue=white)
    return "".join(
        _ON + "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True)) + _OFF + "\n"
        for upper, lower in lines
    )

"""HTTPS: the server's certificate, and the address and QR code by which a phone finds the page.

    settings -> [https] -> the SSL context; the text for people at a terminal

The certificate is its owner's, or one made at the start for this machine's names and addresses.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import zip_longest
from pathlib import Path
from urllib.parse import quote, urlsplit

import idna
import ifaddr
import segno
import trustme
from cryptography import x509

from streaming.settings import ServerSettings

Address = IPv4Address | IPv6Address

_VALID = datetime.timedelta(days=30)
_CLOCKS = datetime.timedelta(minutes=5)  # a phone's clock may be so late
# Addresses for documentation (RFC 5737, RFC 3849): on the far side of every default route.
_FAR = {4: (socket.AF_INET, "198.51.100.1"), 6: (socket.AF_INET6, "2001:db8::1")}


def ssl_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The TLS side of the server, None for plain HTTP.

    Raises:
        ValueError: the certificate or the key can't be used; the message names the files.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if settings.tls_self_signed:
        now = datetime.datetime.now(datetime.UTC)
        names = dict.fromkeys(_names(settings.host))
        trustme.CA(organization_name="livegloss (self-signed)").issue_cert(
            *names,
            organization_name="livegloss (self-signed)",
            not_before=now - _CLOCKS,
            not_after=now + _VALID,
        ).configure_cert(context)
        return context
    if settings.tls_cert and settings.tls_key:
        _load(context, Path(settings.tls_cert), Path(settings.tls_key))
        return context
    return None


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Load the owner's certificate and key, which browsers must accept now.

    Raises:
        ValueError: they can't be used; the message names the files.
    """

    def no_password() -> str:  # OpenSSL would ask for it at the terminal, and wait
        raise ValueError("the key is encrypted; give one that is not")

    try:
        context.load_cert_chain(cert, key, password=no_password)
        server = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        fits = getattr(error, "reason", "") != "KEY_VALUES_MISMATCH"
        why = str(error) if fits else "the key belongs to another certificate"
        raise ValueError(f"can't use the certificate {cert} with the key {key}: {why}") from error
    now = datetime.datetime.now(datetime.UTC)
    first, last = server.not_valid_before_utc, server.not_valid_after_utc
    if now < first:
        raise ValueError(f"the certificate {cert} is valid only from {first:%Y-%m-%d %H:%M} UTC on")
    if now > last:
        raise ValueError(f"the certificate {cert} expired at {last:%Y-%m-%d %H:%M} UTC")


def _names(host: str) -> Iterator[str]:
    """The names and addresses at which browsers may open the page, with the server at `host`."""
    yield from ("localhost", "127.0.0.1")
    yield from filter(_is_host_name, (socket.gethostname(),))
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        yield from filter(_is_host_name, (host,))
        return
    if address.is_unspecified:
        yield from map(str, listening_addresses(host))
    else:
        yield str(address)


def _is_host_name(name: str) -> bool:
    """False for names that a certificate can't hold, such as some that people give their PC."""
    try:
        return bool(idna.encode(name, uts46=True))
    except idna.IDNAError:
        return False


def own_addresses(version: int) -> list[Address]:
    """This machine's addresses of IP `version` (4 or 6) that others in its network can open.

    The one of the default route comes first. Loopback is left out, and so are link-local addresses:
    a browser does not open those that need the name of an interface.
    """
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    found = [ipaddress.ip_address(ip if isinstance(ip, str) else ip[0]) for ip in ips]
    usable = [ip for ip in found if ip.version == version and not ip.is_loopback | ip.is_link_local]
    first = _default_route(version)
    return sorted(dict.fromkeys(usable), key=lambda ip: ip != first)


def listening_addresses(host: str) -> list[Address]:
    """The addresses at which others in the network reach a server that listens at every one.

    `host` is 0.0.0.0, or :: which stands for both kinds.
    """
    return own_addresses(4) + (own_addresses(6) if ":" in host else [])


def _default_route(version: int) -> Address | None:
    """The address from which packets leave for the internet; None where there is no such route."""
    family, far = _FAR[version]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))  # picks a route; a datagram socket sends nothing here
        except OSError:
            return None
        return ipaddress.ip_address(probe.getsockname()[0])


_UNKNOWN_CERTIFICATE = (
    "The phone will warn that it does not know the certificate, which this computer has just made:"
    "\npress Advanced, then Proceed (on an iPhone: Show Details, then visit this website).\n"
)
_NO_HTTPS = (
    "It shows the page there, but no camera: away from this computer, browsers open cameras only "
    "over\nHTTPS. Start with --tls-self-signed, or put a server with HTTPS in front of this one.\n"
)


def invitation(url: str, settings: ServerSettings) -> str | None:
    """The text for people with a phone; None where only this machine can open the page.

    `url` is the server's own. It says what stands between the phone and its camera: no HTTPS, or a
    certificate that nobody knows.
    """
    address = network_url(url, settings)
    if address is None:
        return None
    hurdle = _UNKNOWN_CERTIFICATE if settings.tls_self_signed else ""
    if not (settings.tls_self_signed or settings.tls_cert):
        hurdle = _NO_HTTPS
    return f"\nFor a phone in the same network: {address}\n\n{qr_code(address)}\n{hurdle}"


def network_url(url: str, settings: ServerSettings) -> str | None:
    """The page's address for others in the network, with the token if one is required.

    None where only this machine can open it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        listens = ipaddress.ip_address(settings.host)
    except ValueError:  # a name: the URL has its address
        listens = ipaddress.ip_address(host)
    if listens.is_loopback:
        return None
    if listens.is_unspecified:
        reachable = listening_addresses(settings.host)
        if not reachable:
            return None
        host = str(reachable[0])
    if settings.tls_cert:
        host = _certified(Path(settings.tls_cert), host)
    place = f"[{host}]:{parts.port}" if ":" in host else f"{host}:{parts.port}"
    fragment = f"#token={quote(settings.token, safe='')}" if settings.token else ""
    return f"{parts.scheme}://{place}/{fragment}"


def _certified(certificate: Path, host: str) -> str:
    """`host` if the certificate is for it, else the first name that it is for, so that browsers
    accept it."""
    server = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return host
    if host in map(str, names.get_values_for_type(x509.IPAddress)):
        return host
    known = (name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*"))
    return next(known, host)


_BORDER = 4  # modules of white around the code, as the standard requires
# Black on white whatever the terminal's colours are: many readers can't read an inverted code.
_ON, _OFF = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_HALVES = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}  # (upper, lower module)


def qr_code(text: str) -> str:
    """`text` as a QR code for a terminal: half blocks, two rows of modules a line."""
    rows = [tuple(row) for row in segno.make_qr(text).matrix_iter(border=_BORDER)]
    white = (0,) * len(rows)
    lines = zip_longest(rows[::2], rows[1::2], fillvalue=white)
    return "".join(
        _ON + "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True)) + _OFF + "\n"
        for upper, lower in lines
    )

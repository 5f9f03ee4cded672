"""How a phone in the room finds the page: its address, and that as a QR code on the terminal."""

from __future__ import annotations

import ipaddress
from itertools import zip_longest
from urllib.parse import quote, urlsplit

import segno

from streaming.addresses import own_addresses
from streaming.settings import ServerSettings

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
